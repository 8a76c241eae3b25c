"""HTTP to MCP servers: under the client of the `mcp` package, which trusts its servers.

- A name is resolved first, each of its addresses must be allowed, and the connection goes to those very addresses: a
  second look-up might say something else. Redirects never leave a server's origin (`mcp` sees to that), and no proxy is
  asked.
- An answer is bounded, and not compressed: what comes packed may have any size once it is unpacked.
- Every call is answered. `mcp` waits for ever where a server answers with an error's status, breaks off, or says
  nothing that can be read; here each of those becomes the JSON-RPC error of the call that it was for.

Source: https://modelcontextprotocol.io/specification/2025-06-18/basic/transports
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from typing import Any

import httpx
import orjson

from llama_stack_messages_provider.documents.lookups import Lookups

__all__ = ["GuardedTransport", "Resolve", "http_client", "public_addresses"]

type Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses that may be connected to for a host and port; an `httpx.ConnectError` where there are none."""

_FAILED = -32000
_JSON, _EVENTS = "application/json", "text/event-stream"
_BLANKS = (b"\r\n\r\n", b"\n\n", b"\r\r")
_IDS = (b"\nid:", b"\rid:")
_lookups = Lookups("mcp-dns")


async def public_addresses(allowed: Callable[[str], bool], host: str, port: int) -> Sequence[str]:
    """The addresses of a host.

    Args:
        allowed: Whether an address may be connected to.
        host: Its name.
        port: Its port.

    Raises:
        httpx.ConnectError: It has none, or one that is not allowed: that tells what kind of name it is.
    """
    try:
        addresses = await _lookups.addresses_of(host, port)
    except OSError as exc:
        raise httpx.ConnectError("its name is not known") from exc
    if not addresses or not all(map(allowed, addresses)):
        raise httpx.ConnectError("its address is not one that may be connected to")
    return addresses


def http_client(headers: dict[str, str], resolve: Resolve | None, *, most_bytes: int, seconds: float) -> Any:
    """A client for one server; keeps no cookies, follows nothing, and asks no proxy where addresses are looked at.

    Args:
        headers: Go with each request.
        resolve: Says where a host may be connected to; None: wherever the system says, by its proxies.
        most_bytes: The largest answer.
        seconds: For one answer to begin, or to go on.
    """
    verify = _authorities()
    inner = httpx.AsyncHTTPTransport(verify=verify) if resolve else httpx.AsyncClient(verify=verify)
    return httpx.AsyncClient(
        headers={**headers, "accept-encoding": "identity"},
        timeout=httpx.Timeout(seconds),
        transport=GuardedTransport(inner, resolve, most_bytes),
        trust_env=False,
    )


@cache
def _authorities() -> ssl.SSLContext:
    """The world's certificates, and those that the environment names: reading them takes 20 ms."""
    return httpx.create_ssl_context()


class GuardedTransport(httpx.AsyncBaseTransport):
    """See above.

    Args:
        inner: Sends requests.
        resolve: Says where a host may be connected to; None: wherever the inner transport does.
        most_bytes: The largest answer.
    """

    def __init__(self, inner: Any, resolve: Resolve | None, most_bytes: int) -> None:
        self._inner = inner
        self._resolve = resolve
        self._most = most_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer; to a call always one of JSON-RPC."""
        call = await _call_of(request)
        if call is None:
            return await self._sent(request)
        try:
            response = await self._sent(request)
            return await self._answer(response, call)
        except httpx.HTTPError as exc:
            return _failure(call, _words(exc))

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        response = await self._connected(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise httpx.DecodingError("the server sends its answer compressed")
        response.stream = _Bounded(response.stream, self._most)
        return response

    async def _connected(self, request: httpx.Request) -> httpx.Response:
        if self._resolve is None:
            if isinstance(self._inner, httpx.AsyncClient):
                return await self._inner.send(request, stream=True)
            return await self._inner.handle_async_request(request)  # type: ignore[no-any-return]
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        failed: httpx.HTTPError = httpx.ConnectError("it has no address")
        for address in await self._resolve(request.url.raw_host.decode(), port):
            try:
                return await self._inner.handle_async_request(_to_address(request, address))  # type: ignore[no-any-return]
            except httpx.ConnectError as exc:
                failed = exc
        raise failed

    async def _answer(self, response: httpx.Response, call: Any) -> httpx.Response:
        if response.status_code == httpx.codes.ACCEPTED or response.has_redirect_location:
            return response
        kind = response.headers.get("content-type", "").lower()
        if response.status_code >= httpx.codes.BAD_REQUEST or not kind.startswith((_JSON, _EVENTS)):
            await response.aclose()
            what = "" if response.status_code >= httpx.codes.BAD_REQUEST else f" and content of type {kind!r}"
            return _failure(call, f"it answered with status {response.status_code}{what}", response.status_code)
        if kind.startswith(_EVENTS):
            response.stream = _Answered(response.stream, call)
            return response
        body = await response.aread()
        try:
            orjson.loads(body)
        except ValueError:
            return _failure(call, "its answer is not JSON")
        return httpx.Response(response.status_code, headers=_kept(response), content=body)

    async def aclose(self) -> None:
        """End the connections."""
        await self._inner.aclose()


class _Bounded(httpx.AsyncByteStream):
    """A body up to a size."""

    def __init__(self, inner: Any, most: int) -> None:
        self._inner = inner
        self._left = self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            self._left -= len(piece)
            if self._left < 0:
                raise httpx.ReadError(f"its answer is larger than {self._most} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Answered(httpx.AsyncByteStream):
    """The events that answer a call, each whole, and a failure behind them where they end without an answer. The reader
    leaves once it has read an answer, so that an end says that there was none; events with ids can be gone on with.
    """

    def __init__(self, inner: Any, call: Any) -> None:
        self._inner = inner
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        resumable, reason = False, "it ended its answer without a result"
        begun = bytearray()
        try:
            async for piece in self._inner:
                looked_at = max(0, len(begun) - 3)
                begun += piece
                if end := max(_end_of(begun, blank, looked_at) for blank in _BLANKS):
                    events = bytes(begun[:end])
                    resumable = resumable or any(mark in events for mark in _IDS) or events.startswith(b"id:")
                    yield events
                    del begun[:end]
        except httpx.HTTPError as exc:
            reason, resumable = _words(exc), False
        if not resumable:
            yield b"event: message\ndata: %b\n\n" % _error(self._call, reason)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _end_of(events: bytearray, blank: bytes, start: int) -> int:
    """Where the last event before a blank line ends; 0 if there is no such line."""
    return events.rfind(blank, start) + len(blank) if blank in events[start:] else 0


async def _call_of(request: httpx.Request) -> Any:
    """The id of the call that a request makes; None if it makes none."""
    if request.method != "POST":
        return None
    try:
        message = orjson.loads(await request.aread())
    except ValueError:
        return None
    return message.get("id") if isinstance(message, dict) and "method" in message else None


def _to_address(request: httpx.Request, address: str) -> httpx.Request:
    """A request that goes to an address, for the host that it was for."""
    extensions = {**request.extensions, "sni_hostname": request.url.raw_host.decode()}
    url = request.url.copy_with(host=f"[{address}]" if ":" in address else address)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


def _kept(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    of_body = (b"content-length", b"transfer-encoding")
    return [(name, value) for name, value in response.headers.raw if name.lower() not in of_body]


def _failure(call: Any, reason: str, status: int = 0) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": _JSON}, content=_error(call, reason, status))


def _error(call: Any, reason: str, status: int = 0) -> bytes:
    error = {"code": _FAILED, "message": reason, "data": {"status": status}}
    return orjson.dumps({"jsonrpc": "2.0", "id": call, "error": error})


def _words(exc: httpx.HTTPError) -> str:
    """Why there is no answer, without what is in the request."""
    if isinstance(exc, httpx.TimeoutException):
        return "it took too long"
    if isinstance(exc, httpx.ConnectError):
        return f"no connection: {exc}"
    return f"the connection broke: {exc or type(exc).__name__}"
