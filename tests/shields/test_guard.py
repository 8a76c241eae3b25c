"""One call of a model between its shields: whole and streamed alike, with pings meanwhile, and nothing left open."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_stack_api import RunShieldRequest, RunShieldResponse
from starlette.types import Message

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.http.streaming import EventStream
from llama_stack_messages_provider.shields.config import ShieldRule, ShieldsConfig
from llama_stack_messages_provider.shields.guard import Guard, refused_events, refused_message
from llama_stack_messages_provider.shields.runs import NotJudgedError, Shields
from llama_stack_messages_provider.wire.sse import PING
from tests.shields.test_runs import Answer, Safety, by_words
from tests.support import sse
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import (
    Json,
    anthropic_message,
    anthropic_stream,
    encode_events,
    text_block,
    thinking_block,
    tool_use_block,
)

RULE = ShieldRule(input=["a"], output=["a"])


async def at_once(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def guard(answer: Answer = by_words, refused: list[str] | None = None, **settings: Any) -> Guard:
    shields = Shields(ShieldsConfig(input=["a"], output=["a"], **settings), Safety(answer))
    note = (lambda: None) if refused is None else (lambda: refused.append("refused"))
    return Guard(shields, RULE, [], None, note, at_once)


async def pieces(blocks: Sequence[Json], size: int = 1) -> AsyncGenerator[bytes]:
    events = encode_events(anthropic_stream(anthropic_message(list(blocks))))
    for start in range(0, len(events), size):
        yield b"".join(events[start : start + size])


async def streamed(guard: Guard, events: AsyncGenerator[bytes]) -> Json:
    found = sse.events(b"".join([piece async for piece in guard.events(events)]))
    assert_well_formed(found)
    return fold(found)


words = st.lists(st.sampled_from(["fine", "warn", "error", "a", "\n"]), max_size=5).map(" ".join)
blocks = st.lists(
    st.one_of(
        words.map(text_block),
        words.map(thinking_block),
        words.map(lambda text: tool_use_block("Bash", {"command": text})),
    ),
    max_size=4,
)


@given(blocks, st.integers(1, 9), st.integers(5, 30) | st.none())
def test_a_stream_and_a_whole_message_say_the_same(content: list[Json], size: int, hold_back: int | None) -> None:
    async def both() -> tuple[Any, Json]:
        whole = await guard(hold_back=hold_back).message(anthropic_message(content))
        return whole, await streamed(guard(hold_back=hold_back), pieces(content, size))

    whole, stream = asyncio.run(both())
    for name in ("stop_reason", "stop_details"):
        assert stream.get(name) == whole.get(name)
    # A block that was begun before it was flagged is the only difference.
    complete = stream["content"][: len(whole["content"])]
    assert complete == whole["content"]
    assert "error" not in str(stream["content"])
    if whole["stop_reason"] != "refusal":
        assert stream["content"] == whole["content"] == content


async def test_a_message_that_passes_is_the_object_that_came() -> None:
    message = anthropic_message([text_block("fine")])
    assert await guard().message(message) is message


async def test_a_message_that_is_none_is_the_upstream_s_fault() -> None:
    for broken in ({}, {"content": None}, {"content": [{"text": "a"}]}):
        with pytest.raises(UpstreamError):
            await guard().message(broken)


async def test_pings_are_sent_while_a_shield_is_waited_for() -> None:
    pinged, sent = asyncio.Event(), bytearray()

    async def waits(request: RunShieldRequest) -> RunShieldResponse:
        await pinged.wait()
        return await by_words(request)

    async def send(message: Message) -> None:
        sent.extend(message.get("body", b""))
        if message.get("body") == PING:
            pinged.set()

    async def receive() -> Message:
        return await asyncio.Event().wait() or {}

    events = guard(waits).events(pieces([text_block("fine")]))
    stream = EventStream(events, dict, lambda: b"", ping_after=0.01)
    await asyncio.wait_for(stream({"type": "http"}, receive, send), 30)
    found = sse.events(bytes(sent))
    assert_well_formed(found)
    assert "ping" in [event["type"] for event in found]
    assert fold(found)["content"] == [text_block("fine")]


async def test_an_upstream_is_left_when_what_it_says_is_flagged() -> None:
    ended, refused = asyncio.Event(), list[str]()

    async def endless() -> AsyncGenerator[bytes]:
        try:
            async for piece in pieces([text_block("error")]):
                if b"message_delta" not in piece:
                    yield piece
            await asyncio.Event().wait()
        finally:
            ended.set()

    answer = await asyncio.wait_for(streamed(guard(refused=refused), endless()), 30)
    assert answer["stop_reason"] == "refusal"
    assert ended.is_set()
    assert refused == ["refused"]


@pytest.mark.parametrize("hold_back", [4, None])
async def test_a_block_that_is_too_long_is_refused_or_passes(hold_back: int | None) -> None:
    content = [text_block("fine " * 20), tool_use_block("Bash", {"command": "b" * 90})]
    bounds = {"hold_back": hold_back, "characters": 20, "parts": 2}
    with pytest.raises(NotJudgedError):
        await streamed(guard(**bounds), pieces(content))
    lenient = guard(when_down="pass", **bounds)
    assert (await streamed(lenient, pieces(content)))["content"] == content


async def test_a_refusal_after_message_start_was_sent_does_not_send_another() -> None:
    flagged = await guard().request({"messages": [{"role": "user", "content": "error"}]})
    assert flagged is not None
    for started in (False, True):
        sent = b"".join([piece async for piece in refused_events(flagged, "msg_1", "m", started=started)])
        assert (b"message_start" in sent) != started
    whole = refused_message(flagged, "msg_1", "m")
    stream = fold(sse.events(b"".join([piece async for piece in refused_events(flagged, "msg_1", "m", started=False)])))
    assert {**stream, "usage": None} == {**whole, "usage": None}
