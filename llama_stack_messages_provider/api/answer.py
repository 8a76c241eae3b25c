"""HTTP answers that end when the client goes away, and streams that stay alive while the upstream does."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from llama_stack_messages_provider.sse import PING

__all__ = ["EventStream", "JSONAnswer", "while_connected"]

# After these nothing may be said any more, although the upstream may keep its connection for a moment.
_ENDS = (b"event: message_stop\n", b"event: error\n")


_WATCH_AFTER_SECONDS = 0.05


class JSONAnswer(Response):
    """A body that is JSON already, or becomes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Bytes as they are, anything else as JSON."""
        return content if isinstance(content, bytes) else orjson.dumps(content)


async def while_connected[T](receive: Receive, work: Awaitable[T]) -> T:
    """Await work, and cancel it when the client disconnects.

    The request's body must have been read: what `receive` brings next is the disconnect.

    Raises:
        ClientDisconnect: The client went away; the work was cancelled.
    """
    working = asyncio.current_task()
    assert working is not None
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        working.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    # Most answers are there before anybody could leave: a timer costs a fifth of a task.
    timer = loop.call_later(_WATCH_AFTER_SECONDS, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if gone:
            working.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()


class EventStream(StreamingResponse):
    """A stream of server-sent events. The in-process client takes its `body_iterator`.

    Args:
        source: Pieces of bytes, each ending at an event's end. It is closed whatever happens, which is what
            cancels the upstream when the client goes away.
        headers: Headers of the answer.
        ping_after: Seconds of silence after which a ping is sent.
    """

    media_type = "text/event-stream"

    def __init__(self, source: AsyncGenerator[bytes], headers: Mapping[str, str], *, ping_after: float) -> None:
        super().__init__(source, headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"})
        self._source = source
        self._ping_after = ping_after
        self._last = time.monotonic()
        self._piece = b""
        self.during: AbstractContextManager[None] = nullcontext()
        """Entered while the stream is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; a client that goes away ends it."""
        with self.during, suppress(ClientDisconnect, OSError):
            await while_connected(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        pinger: asyncio.Task[None] | None = None
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            pinger = asyncio.create_task(self._ping(send))
            async for data in self._source:
                self._last = time.monotonic()
                self._piece = data
                await send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            if pinger is not None:
                pinger.cancel()
            await self._source.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._last + self._ping_after - time.monotonic())
            if time.monotonic() - self._last >= self._ping_after:
                if any(end in self._piece for end in _ENDS):
                    return
                self._last = time.monotonic()
                await send({"type": "http.response.body", "body": PING, "more_body": True})
