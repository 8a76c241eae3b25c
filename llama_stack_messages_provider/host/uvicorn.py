"""uvicorn below the ASGI interface: heads of requests that have no end, requests that are no HTTP, and its exit.

| internal | used for |
|---|---|
| `Server.handle_exit` as the signals' handler | `find_server`: without it no limits of heads, no graceful shutdown |
| `Config.http_protocol_class`, read at each connection | `bound_heads` |
| `HttpToolsProtocol`: its `cycle`, `transport`, `loop`, `send_400_response`, callbacks | `bound_heads` |
| `ServerState.connections`, each with a `transport` | `abort_connections` |
| `Config.timeout_graceful_shutdown`, read at the shutdown | `bound_exit` |
| `Config.workers` | `worker_count` |
| `RequestResponseCycle`: its `send`, `transport`, `scope`, `flow`, `chunked_encoding`, `disconnected` | `ServerSend` |
| `RequestResponseCycle.access_logger`, which has the line of the request | `ServerSend.begin` |
| `RequestResponseCycle.message_event`, set when the client is gone, after `disconnected` | `on_disconnect` |

With several workers uvicorn's parent kills one that does not answer it for five seconds
(`timeout_worker_healthcheck`), such as one that imports on a busy machine. `llama stack run` does not set that, and the
parent runs nothing of this package: it cannot be set here.

Tried with uvicorn 0.54.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from starlette.types import Message, Receive, Send
from uvicorn import Server

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
except ImportError:  # another parser then; h11 has a limit of its own
    HttpToolsProtocol = RequestResponseCycle = None  # type: ignore[assignment, misc]

__all__ = [
    "ServerSend",
    "abort_connections",
    "bound_exit",
    "bound_heads",
    "find_server",
    "on_disconnect",
    "on_exit",
    "worker_count",
]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LINGER_SECONDS = 5.0
_SHOWN_BYTES = 4096

type Refuse = Callable[[bytes, int, str], bytes | None]
"""Makes a whole HTTP response of the start of a request, a status and a message; None: uvicorn's own will do."""


def find_server() -> Server | None:
    """The uvicorn server of this process, while it serves in the main thread; None if something else does."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, Server) else None


def worker_count() -> int:
    """How many processes serve the port of this one; 1 where that is not known. To be asked before `on_exit`."""
    server = find_server()
    return 1 if server is None else max(1, server.config.workers)


def on_exit(server: Server, call: Callable[[], None]) -> None:
    """Call back in the running loop once the server has been told to exit; the server is told all the same."""
    loop = asyncio.get_running_loop()

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(call)
        server.handle_exit(number, frame)

    for number in _SIGNALS:
        signal.signal(number, handle)


def bound_exit(server: Server, seconds: float) -> None:
    """End requests that are still there so long after the exit began, unless the host says when."""
    if server.config.timeout_graceful_shutdown is None:
        server.config.timeout_graceful_shutdown = max(1, round(seconds))


def abort_connections(server: Server) -> None:
    """Drop every connection, whatever is still to be sent on it."""
    for connection in list(server.server_state.connections):
        connection.transport.abort()


class _Written:
    """What there is to wait for once a piece is written."""

    def __await__(self) -> Generator[None]:
        yield from ()


_WRITTEN = _Written()


class _WithHead:
    """A connection for the length of an answer's head, which waits for what is written next: one system call for both,
    a tenth of what a request costs.
    """

    __slots__ = ("_cycle", "_head", "_transport")

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._transport = cycle.transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if not self._head:
            self._head = data
        else:
            self._cycle.transport = self._transport
            self._transport.write(self._head + data)

    def close(self) -> None:
        self._cycle.transport = self._transport
        if self._head:
            self._transport.write(self._head)
        self._transport.close()


class _Afterwards:
    """A log for the line of one answer, which is written once the answer's first bytes are: a tenth of the time until
    a client has them.
    """

    __slots__ = ("_log",)

    def __init__(self, log: Any) -> None:
        self._log = log

    def info(self, *line: Any) -> None:
        asyncio.get_running_loop().call_soon(self._log.info, *line)


class ServerSend:
    """The server's own `send` of one request, and shorter ways for an answer's head and the pieces of its body.

    Uvicorn makes a message, a coroutine and several bytes objects of each piece: much of what a streamed event costs
    that comes by itself.

    Args:
        send: The server's.

    Attributes:
        send: The same.
    """

    __slots__ = ("_cycle", "send")

    def __init__(self, send: Send) -> None:
        self.send = send
        cycle = getattr(send, "__self__", None)
        is_known = RequestResponseCycle is not None and isinstance(cycle, RequestResponseCycle)
        self._cycle: Any = cycle if is_known else None

    def begin(self, message: Message) -> Awaitable[None]:
        """Begin an answer whose body is there, or soon will be: its head goes with the body's first piece."""
        if self._cycle is not None and self._cycle.scope["method"] != "HEAD":  # which has no body
            self._cycle.transport = _WithHead(self._cycle)
            self._cycle.access_logger = _Afterwards(self._cycle.access_logger)
        return self.send(message)

    def pass_on(self, message: Message) -> Awaitable[None]:
        """Send a message of an answer that has begun."""
        written = message.get("more_body", False) and self.write(message["body"])
        return _WRITTEN if written else self.send(message)

    def write(self, data: bytes) -> bool:
        """Write a piece as uvicorn would, if it would do so at once.

        Returns:
            Whether it was written; if not, it is to be sent. An empty one never is: it would end the body.
        """
        cycle = self._cycle
        if cycle is None or not data or not cycle.chunked_encoding or cycle.flow.write_paused or cycle.disconnected:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True


class _Watched:
    """In the place of the event that a request's `receive` waits for: calls back when the client is gone."""

    __slots__ = ("_call", "_cycle", "_event", "_is_over")

    def __init__(self, cycle: Any, call: Callable[[], None]) -> None:
        self._cycle = cycle
        self._call = call
        self._event = cycle.message_event
        self._is_over = False

    def set(self) -> None:
        self._event.set()
        self.look()

    def wait(self) -> Awaitable[bool]:
        return self._event.wait()  # type: ignore[no-any-return]

    def clear(self) -> None:
        self._event.clear()

    def look(self) -> None:
        if self._cycle.disconnected and not self._is_over:
            self._is_over = True
            self._call()

    def stop(self) -> None:
        self._is_over = True
        self._cycle.message_event = self._event


def on_disconnect(receive: Receive, call: Callable[[], None]) -> Callable[[], None] | None:
    """Call back once the client of a request is gone, whose body was read: a task that waits for it costs 2 KB.

    Returns:
        Ends this, and must be called; None if only `receive` itself can tell.
    """
    owner = getattr(receive, "__self__", None)
    if RequestResponseCycle is None or not isinstance(owner, RequestResponseCycle):
        return None
    cycle: Any = owner
    watched = cycle.message_event = _Watched(cycle, call)
    cycle.flow.resume_reading()  # as `receive` would: nobody learns of an end that is not read
    if cycle.disconnected:
        asyncio.get_running_loop().call_soon(watched.look)
    return watched.stop


def bound_heads(server: Server, max_bytes: int, refuse: Refuse) -> bool:
    """Bound what is read of a request before its body, and after it; answer what is no HTTP by `refuse`.

    Args:
        server: The server; connections that are open already keep their ways.
        max_bytes: Of a head, or of what follows a chunked body. One read of the socket (256 KiB) may come on top.
        refuse: Makes the answers.

    Returns:
        Whether it is so: not with other parsers than httptools.
    """
    base = server.config.http_protocol_class
    if HttpToolsProtocol is None or not issubclass(base, HttpToolsProtocol):
        return False
    members = {"max_bytes": max_bytes, "refuse": staticmethod(refuse)}
    server.config.http_protocol_class = type("BoundedProtocol", (_Bounded, base), members)
    return True


class _Bounded:
    """Mixed into a protocol: counts what came since the last piece of a body or the last request, which is a head."""

    max_bytes: int
    refuse: Refuse

    _counted = 0
    _refused = False
    _start = b""

    def data_received(self: Any, data: bytes) -> None:
        if self._refused:  # what is on its way is let in and dropped, else the answer would not get through
            return
        if not self._counted:
            self._start = data[:_SHOWN_BYTES]
        self._counted += len(data)
        super().data_received(data)  # type: ignore[misc]
        if self._counted > self.max_bytes and not self.transport.is_closing():
            self._answer(413, f"The head of the request exceeds the maximum size of {self.max_bytes} bytes")

    def on_headers_complete(self: Any) -> None:
        self._counted = 0
        super().on_headers_complete()  # type: ignore[misc]

    def on_body(self: Any, body: bytes) -> None:
        self._counted = 0
        super().on_body(body)  # type: ignore[misc]

    def on_message_complete(self: Any) -> None:
        self._counted = 0
        super().on_message_complete()  # type: ignore[misc]

    def send_400_response(self: Any, msg: str) -> None:
        if not self._is_answering() and self.refuse(self._start, 400, msg) is None:
            super().send_400_response(msg)  # type: ignore[misc]
        else:
            self._answer(400, msg)

    def _is_answering(self: Any) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _answer(self: Any, status: int, message: str) -> None:
        self._refused = True
        response = None if self._is_answering() else self.refuse(self._start, status, message)
        self._start = b""
        if response is None:  # an answer under way cannot be taken back
            self.transport.close()
            return
        self.transport.write(response)
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)
