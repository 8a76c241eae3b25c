"""HTTP answers that end when the client goes away, and streams that stay alive while the upstream does."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from llama_stack_messages_provider.wire.sse import PING

__all__ = ["Direct", "EventStream", "JSONBody", "while_connected"]

# After these nothing may be said any more, although the upstream may keep its connection for a moment.
_ENDS = (b"event: message_stop\n", b"event: error\n")

_WATCH_AFTER_SECONDS = 0.05


class JSONBody(Response):
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


class Direct:
    """The server's own `send`, and what came to it last through all that the host has put around it.

    Args:
        send: The server's.

    Attributes:
        last: The last message that came through to it.
    """

    __slots__ = ("_cycle", "last", "send")

    KEY = "messages_direct"
    """Its place in a scope's `state`."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.last: Message | None = None
        cycle = getattr(send, "__self__", None)
        self._cycle = cycle if isinstance(cycle, RequestResponseCycle) else None

    def wrote(self, data: bytes) -> bool:
        """Write a piece of a body that has begun as uvicorn would, if it would do so at once: it makes a message, a
        coroutine and several bytes objects of each.
        """
        cycle = self._cycle
        if cycle is None or not cycle.chunked_encoding or cycle.flow.write_paused or cycle.disconnected:
            return False
        if not data:  # an empty chunk would be the end
            return True
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True


class EventStream(StreamingResponse):
    """A stream of server-sent events, begun once its first piece is there or has been waited for long enough.

    Args:
        source: Pieces of bytes, each ending at an event's end. It is closed whatever happens, which is what
            cancels the upstream when the client goes away.
        headers: Gives the headers of the answer, when it begins.
        late: Gives the events that begin a stream whose source is still silent.
        ping_after: Seconds of silence after which a stream is begun, or gets a ping.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncGenerator[bytes],
        headers: Callable[[], Mapping[str, str]],
        late: Callable[[], bytes],
        *,
        ping_after: float,
    ) -> None:
        super().__init__(source)
        self._source = source
        self._make_headers = headers
        self._late = late
        self._ping_after = ping_after
        self._last = time.monotonic()
        self._piece = b""
        self._begun = False
        self._speaking: asyncio.Task[None] | None = None
        self.refused: Callable[[Exception], Response] = _unexpected
        """Makes the answer of a stream that failed before it began."""

    async def opened(self) -> StreamingResponse:
        """The stream with its first piece there, for the in-process client.

        Raises:
            MessagesError: The source failed before it.
        """
        first = await anext(self._source)
        source = _chained(first, self._source)
        return StreamingResponse(source, headers=self._make_headers(), media_type=self.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; a client that goes away ends it."""
        with suppress(ClientDisconnect, OSError):
            # In a task of its own: each event would otherwise wake all coroutines that the host has put around us.
            direct = scope.get("state", {}).get(Direct.KEY)
            sending = asyncio.Task(self._send_all(send, direct), loop=asyncio.get_running_loop(), eager_start=True)
            refusal = await while_connected(receive, sending)
            if refusal is not None:
                await refusal(scope, receive, send)

    async def _send_all(self, send: Send, direct: Direct | None) -> Response | None:
        passed = False
        timer = _Timer(self._ping_after, lambda: self._silent(send))
        try:
            async for data in self._source:
                self._last = time.monotonic()
                self._piece = data
                if not self._begun:
                    await self._begin(send)
                if direct is None or not passed:
                    message = {"type": "http.response.body", "body": data, "more_body": True}
                    await send(message)
                    # Where nobody on the way changes what is sent, all but the end may go by them.
                    passed = direct is not None and direct.last is message
                elif not direct.wrote(data):
                    await direct.send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as exc:
            if self._begun:
                raise
            return self.refused(exc)
        finally:
            timer.cancel()
            if self._speaking is not None:
                self._speaking.cancel()
            await self._source.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return None

    async def _begin(self, send: Send) -> None:
        self._begun = True
        self.headers.update({**self._make_headers(), "cache-control": "no-cache", "x-accel-buffering": "no"})
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    def _silent(self, send: Send) -> float:
        """Look whether nothing has been said for long enough; the seconds until the next look."""
        silence = time.monotonic() - self._last
        if silence < self._ping_after:
            return self._ping_after - silence
        if not any(end in self._piece for end in _ENDS):
            self._last = time.monotonic()
            self._speaking = asyncio.get_running_loop().create_task(self._speak(send))
        return self._ping_after

    async def _speak(self, send: Send) -> None:
        body = PING
        with suppress(ClientDisconnect, OSError):  # the client has gone: the watch will see it
            if any(end in self._piece for end in _ENDS):  # it came between the look and this
                return
            if not self._begun:
                body = self._late() + PING
                await self._begin(send)
            await send({"type": "http.response.body", "body": body, "more_body": True})


class _Timer:
    """Calls again and again, after as many seconds as the last call said; cheaper than a task that sleeps."""

    __slots__ = ("_call", "_handle", "_loop")

    def __init__(self, seconds: float, call: Callable[[], float]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(seconds, self._fire)

    def cancel(self) -> None:
        """No more calls."""
        self._handle.cancel()

    def _fire(self) -> None:
        self._handle = self._loop.call_later(self._call(), self._fire)


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _unexpected(exc: Exception) -> Response:
    raise exc
