"""One writer: pieces and pings take turns, whatever the client does meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from starlette.types import Message

from llama_stack_messages_provider.http.streaming import EventStream

PING_AFTER = 0.01
LATE, PIECE = b"event: message_start\ndata: late\n\n", b"event: content_block_delta\ndata: {}\n\n"


async def run(
    source: AsyncGenerator[bytes], hold: Callable[[Message], float] = lambda message: 0.0
) -> tuple[list[bytes], int, int]:
    """The bodies that were sent, how many were on their way at once, and how many tasks there were at most."""
    sent: list[bytes] = []
    under_way = most = tasks = 0

    async def send(message: Message) -> None:
        nonlocal under_way, most, tasks
        under_way += 1
        most = max(most, under_way)
        tasks = max(tasks, len(asyncio.all_tasks()))
        try:
            await asyncio.sleep(hold(message))
        finally:
            under_way -= 1
        sent.append(message.get("body", b"start"))

    async def receive() -> Message:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    stream = EventStream(source, dict, lambda: LATE, ping_after=PING_AFTER)
    await stream({"type": "http"}, receive, send)
    return sent, most, tasks


async def test_a_piece_never_overtakes_the_late_start() -> None:
    """The start hangs in `send` while the source has a piece already."""

    async def source() -> AsyncGenerator[bytes]:
        await asyncio.sleep(PING_AFTER * 3)
        yield PIECE

    sent, most, _ = await run(source(), lambda message: 0.1 if message["type"] == "http.response.start" else 0.0)
    assert sent[:2] == [b"start", LATE + sent[1].removeprefix(LATE)]
    assert sent[-2:] == [PIECE, b""]
    assert most == 1


async def test_a_client_that_does_not_read_holds_one_task() -> None:
    """It used to hold one for each ping."""

    async def source() -> AsyncGenerator[bytes]:
        yield PIECE
        await asyncio.sleep(PING_AFTER * 40)
        yield PIECE

    before = len(asyncio.all_tasks())
    sent, most, tasks = await run(source(), lambda message: PING_AFTER * 20)
    assert most == 1
    assert tasks <= before + 3  # the stream, the watch for the client, and a ping
    assert [body for body in sent if b"ping" not in body] == [b"start", PIECE, PIECE, b""]


async def test_nothing_follows_an_end() -> None:
    async def source() -> AsyncGenerator[bytes]:
        yield b"event: message_stop\ndata: {}\n\n"
        await asyncio.sleep(PING_AFTER * 5)

    sent, _, _ = await run(source())
    assert sent == [b"start", b"event: message_stop\ndata: {}\n\n", b""]
