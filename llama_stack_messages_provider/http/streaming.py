"""HTTP answers that end when the client goes away, and streams that stay alive while the upstream does."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from llama_stack_messages_provider.host.uvicorn import on_disconnect
from llama_stack_messages_provider.http.shutdown import Shutdown, shutting_down
from llama_stack_messages_provider.wire.sse import PING

__all__ = ["EventStream", "JSONBody", "while_connected"]

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
    gone = False

    def leave() -> None:
        nonlocal gone
        gone = True
        working.cancel()

    stop = on_disconnect(receive, leave) or _watch(receive, leave)
    try:
        return await work
    except asyncio.CancelledError:
        if gone:
            working.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        stop()


def _watch(receive: Receive, call: Callable[[], None]) -> Callable[[], None]:
    """Call back when the client disconnects, by a task that waits for it.

    Returns:
        Ends this.
    """
    loop = asyncio.get_running_loop()
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        call()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    def stop() -> None:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()

    # Most answers are there before anybody could leave: a timer costs a fifth of a task.
    timer = loop.call_later(_WATCH_AFTER_SECONDS, begin)
    return stop


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
        writer = _Writer(send, self._start, self._late, self._ping_after)
        shutdown: Shutdown | None = scope.get("state", {}).get(Shutdown.KEY)
        with suppress(ClientDisconnect, OSError):
            # In a task of its own: each event would otherwise wake all coroutines that the host has put around us.
            work = self._send_all(writer, shutdown)
            sending = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
            refusal = await while_connected(receive, sending)
            if refusal is not None:
                await refusal(scope, receive, send)

    async def _send_all(self, writer: "_Writer", shutdown: Shutdown | None) -> Response | None:
        try:
            async for data in self._source:
                await writer.write(data)
        except asyncio.CancelledError:
            if not (writer.begun and shutdown is not None and shutdown.over):
                raise
            await writer.fail(self.refused(shutting_down()))
        except Exception as exc:
            if not writer.begun:
                return self.refused(exc)
            if isinstance(exc, (ClientDisconnect, OSError)):
                raise
            await writer.fail(self.refused(exc))
        finally:
            await writer.stop()
            await self._source.aclose()
        await writer.end()
        return None

    def _start(self) -> Message:
        self.headers.update({**self._make_headers(), "cache-control": "no-cache", "x-accel-buffering": "no"})
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}


class _Writer:
    """All that is written of a stream: a piece and a ping never overtake each other, and a client that does not read
    is waited for by one of them at most.

    Args:
        send: Sends a message.
        start: Makes the message that begins the answer.
        late: Makes the events that begin a stream by a ping.
        ping_after: Seconds of silence until a ping.
    """

    __slots__ = (
        "_handle",
        "_last",
        "_late",
        "_loop",
        "_piece",
        "_ping",
        "_ping_after",
        "_send",
        "_start",
        "_writing",
        "begun",
    )

    def __init__(self, send: Send, start: Callable[[], Message], late: Callable[[], bytes], ping_after: float) -> None:
        self._send = send
        self._start = start
        self._late = late
        self._ping_after = ping_after
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._piece = b""
        self._writing = False
        self._ping: asyncio.Task[None] | None = None
        self._handle = self._loop.call_later(ping_after, self._look)
        self.begun = False
        """The answer has its status."""

    async def write(self, data: bytes) -> None:
        """Send a piece, after a ping that is on its way."""
        self._last = self._loop.time()
        self._piece = data
        self._writing = True
        if self._ping is not None:
            ping, self._ping = self._ping, None
            await ping
        if not self.begun:
            self.begun = True
            await self._send(self._start())
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._writing = False

    async def fail(self, refusal: Response) -> None:
        """Send an error as the last event, in place of a ping that is on its way."""
        await self.stop()
        await self.write(b"event: error\ndata: %b\n\n" % bytes(refusal.body))

    async def stop(self) -> None:
        """No more pings."""
        self._handle.cancel()
        ping, self._ping = self._ping, None
        if ping is not None:
            ping.cancel()
            await asyncio.wait([ping])
            if not ping.cancelled():
                ping.exception()

    async def end(self) -> None:
        """End the answer."""
        if self.begun:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _look(self) -> None:
        """Look whether nothing has been said for long enough; a timer costs less than a task that sleeps."""
        rest = self._ping_after - (self._loop.time() - self._last)
        if rest <= 0:
            rest = self._ping_after
            if self._may_ping():
                self._last = self._loop.time()
                # At once: the events that begin a stream late are made while its source is known to be silent.
                self._ping = asyncio.Task(self._say(), loop=self._loop, eager_start=True)
        self._handle = self._loop.call_later(rest, self._look)

    def _may_ping(self) -> bool:
        if self._writing or any(end in self._piece for end in _ENDS):
            return False
        return self._ping is None or (self._ping.done() and self._ping.exception() is None)

    async def _say(self) -> None:
        body = PING
        if not self.begun:
            body = self._late() + PING
            self.begun = True
            await self._send(self._start())
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _unexpected(exc: Exception) -> Response:
    raise exc
