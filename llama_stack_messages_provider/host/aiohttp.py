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

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

__all__ = ["Connector", "ContentEncodingError", "HttpProcessingError", "fail_body", "take_read_timeout"]


class _Silence:
    """Whether a connection that was used before has given nothing since it was taken from the pool."""

    __slots__ = ("lasts",)

    def __init__(self, protocol: ResponseHandler) -> None:
        self.lasts = True

        def first_byte(data: bytes) -> None:
            self.lasts = False
            del protocol.data_received
            protocol.data_received(data)

        protocol.data_received = first_byte  # type: ignore[method-assign]


class _Handler(ResponseHandler):
    """A protocol that fails the body too where it breaks off as HTTP: aiohttp's own leaves its reader waiting."""

    def set_exception(self, exc: BaseException, *cause: Any) -> None:
        super().set_exception(exc, *cause)
        payload = self._payload
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(exc)


class Connector(aiohttp.TCPConnector):
    """A pool that knows of each request whether its connection was a used one that has given nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = partial(_Handler, loop=self._loop)  # type: ignore[assignment]
        self._used: WeakSet[ResponseHandler] = WeakSet()
        self._silences: WeakKeyDictionary[aiohttp.ClientRequest, _Silence] = WeakKeyDictionary()

    async def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: Any) -> Any:
        """A connection for a request."""
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        self._silences.pop(req, None)
        if protocol is not None and protocol in self._used:
            self._silences[req] = _Silence(protocol)
        elif protocol is not None:
            self._used.add(protocol)
        return connection

    def was_idle(self, req: aiohttp.ClientRequest) -> bool:
        """Whether the request met a connection that its upstream was just closing: it was never read."""
        silence = self._silences.get(req)
        return silence is not None and silence.lasts


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
