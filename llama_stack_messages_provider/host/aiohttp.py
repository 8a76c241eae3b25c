"""aiohttp below its public interface: whether a connection gave a byte, and limits of time that cost nothing.

| internal | used for |
|---|---|
| `TCPConnector.connect`, whose connection has a `protocol`: a `ResponseHandler`, kept while pooled | `Connector` |
| `ResponseHandler.data_received`, looked up on the instance at each read | `Connector.was_idle` |
| `ResponseHandler.read_timeout` and `.start_timeout` | `take_read_timeout` |
| `StreamReader.set_exception` | `fail_body` |
| `TCPConnector._factory`, which makes a `ResponseHandler` with a `_payload` | `Connector` |
| `ContentEncodingError`, `HttpProcessingError`: what a broken body raises | `upstream/body.py` |

Tried with aiohttp 3.14.
"""

from contextvars import ContextVar
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

__all__ = ["Connector", "ContentEncodingError", "HttpProcessingError", "fail_body", "take_read_timeout"]


class _Handler(ResponseHandler):
    """A protocol that fails the body too where it breaks off as HTTP: aiohttp's own leaves its reader waiting.

    Attributes:
        used: Whether it has had a request.
        silent: Whether it gave nothing since it was taken from the pool for another.
    """

    used = False
    silent = False

    def take(self) -> None:
        """It gets a request."""
        if self.used:
            self.silent = True
            self.data_received = self._first_byte  # type: ignore[method-assign]
        self.used = True

    def _first_byte(self, data: bytes) -> None:
        self.silent = False
        del self.data_received
        self.data_received(data)

    def set_exception(self, exc: BaseException, *cause: Any) -> None:
        super().set_exception(exc, *cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(exc)


_taken: ContextVar[_Handler | None] = ContextVar("taken", default=None)


class Connector(aiohttp.TCPConnector):
    """A pool that knows whether the connection that a task took last was a used one that has given nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Handler, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: Any) -> Any:
        """A connection for a request."""
        _taken.set(None)
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if isinstance(protocol, _Handler):
            protocol.take()
            _taken.set(protocol)
        return connection

    @staticmethod
    def was_idle() -> bool:
        """Whether this task's request met a connection that its upstream was just closing: it was never read."""
        protocol = _taken.get()
        return protocol is not None and protocol.silent


def take_read_timeout(response: aiohttp.ClientResponse) -> float | None:
    """Stop aiohttp's own timer of a body, which costs more than the event that restarts it; the seconds it had."""
    connection = response.connection
    if connection is None or connection.protocol is None:
        return None
    seconds = connection.protocol.read_timeout
    connection.protocol.read_timeout = None
    connection.protocol.start_timeout()  # none: the one that the headers set still ran
    return seconds


def fail_body(response: aiohttp.ClientResponse) -> None:
    """Let whoever reads the body get a timeout."""
    response.content.set_exception(aiohttp.SocketTimeoutError())
