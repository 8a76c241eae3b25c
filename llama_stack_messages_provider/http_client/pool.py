"""Connections of one event loop, kept for the next request to the same server."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

from yarl import URL

from llama_stack_messages_provider.http_client.connecting import connect
from llama_stack_messages_provider.http_client.connection import Connection
from llama_stack_messages_provider.http_client.failures import ConnectTimeoutError, DisconnectedError, ProxyError
from llama_stack_messages_provider.http_client.response import Response
from llama_stack_messages_provider.http_client.tunnel import open_tunnel

__all__ = ["DIRECT", "Pool", "Route", "basic_auth"]


_BUFFER_BYTES = 256 * 1024


class _Address(NamedTuple):
    """Where a URL leads.

    Args:
        is_tls: Whether it is `https`.
        host, port: The server.
        authority: Host and port as the `host` header has them.
        path: Path and query.
    """

    is_tls: bool
    host: str
    port: int
    authority: str
    path: str


@dataclass(frozen=True, slots=True)
class Route:
    """How a server is reached.

    Args:
        tls: What its certificate is judged by: a context, True for the system's authorities, False for nothing.
        proxy: URL of a proxy, perhaps with a name and password; None goes directly.
        addresses: IP addresses to connect to, in place of those that the host's name has.
    """

    tls: ssl.SSLContext | bool = True
    proxy: str | None = None
    addresses: tuple[str, ...] = ()


DIRECT = Route()
type _Key = tuple[bool, str, int, Route]


class Pool:
    """Sends requests.

    Args:
        loop: The running loop.
        headers: Go with each request that does not have them itself; their names in small letters.
        kept_seconds: How long a connection is kept that nobody uses.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, headers: Mapping[str, str], *, kept_seconds: float = 60.0
    ) -> None:
        self._loop = loop
        self._kept_seconds = kept_seconds
        self._headers = dict(headers)
        self._idle: dict[_Key, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        route: Route = DIRECT,
        connect_seconds: float,
        head_seconds: float,
    ) -> Response:
        """The answer to a request, once its head is there; redirects are not followed.

        It is sent again as long as it meets kept connections that the server was just closing.

        Args:
            method: The method.
            url: The URL.
            headers: Its headers.
            body: Its body; None has none.
            route: How the server is reached.
            connect_seconds: Until a connection must be there.
            head_seconds: Until the head must be there, from then on.

        Raises:
            HttpError, OSError: There is none.
            ValueError: The URL, the proxy's or a header cannot be used.
        """
        address = _address_of(url)
        head = self._head(method, address, headers, body, route)
        key = (address.is_tls, address.host, address.port, route)
        while True:
            connection = self._kept(key)
            if is_fresh := connection is None:
                connection = await self._connected(key, connect_seconds)
            try:
                return await connection.send(head, body or b"", head_seconds)
            except (DisconnectedError, OSError):
                if is_fresh or connection.spoke or self._is_closed:
                    raise

    async def close(self) -> None:
        """Close all connections; one that is still being made is closed behind its answer."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._open):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    # --- connections ---

    def _kept(self, key: _Key) -> Connection | None:
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connected(self, key: _Key, seconds: float) -> Connection:
        connection = Connection(self._loop, self._buffer, lambda freed: self._keep(key, freed), self._open.discard)
        try:
            async with asyncio.timeout(seconds):
                await _connect(self._loop, connection, key)
        except TimeoutError as exc:
            if exc.errno is not None:  # the system's own
                raise
            raise ConnectTimeoutError from exc
        self._open.add(connection)
        return connection

    def _keep(self, key: _Key, connection: Connection) -> None:
        if self._is_closed:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(key, []).append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._kept_seconds, self._close_old)

    def _close_old(self) -> None:
        since = self._loop.time() - self._kept_seconds
        for key, idle in list(self._idle.items()):
            self._idle[key] = [each for each in idle if each.is_open and each.idle_since > since]
            for connection in idle:
                if connection.idle_since <= since:
                    connection.close()
            if not self._idle[key]:
                del self._idle[key]
        self._sweep = None
        if self._idle:  # the first in a list is the oldest
            oldest = min(idle[0].idle_since for idle in self._idle.values())
            self._sweep = self._loop.call_at(oldest + self._kept_seconds, self._close_old)

    # --- heads ---

    def _head(
        self, method: str, address: _Address, headers: Mapping[str, str], body: bytes | None, route: Route
    ) -> bytes:
        sent = {"host": address.authority, **self._headers}
        for name, value in headers.items():
            sent[name.lower()] = value
        if body is not None:
            sent["content-length"] = str(len(body))
        target = address.path
        if route.proxy and not address.is_tls:
            target = f"http://{address.authority}{address.path}"
            sent |= _proxy_headers(route.proxy)
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in sent.items()]
        text = "\r\n".join(lines)
        if text.count("\r") != len(sent) or text.count("\n") != len(sent) or "\0" in text:
            raise ValueError("a header has a line break")
        return f"{text}\r\n\r\n".encode()


@lru_cache(maxsize=1024)
def _address_of(url: str) -> _Address:
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.raw_host or parsed.port is None:
        raise ValueError("not a URL of http or https")
    is_tls = parsed.scheme == "https"
    host = parsed.raw_host
    return _Address(is_tls, host, parsed.port, parsed.host_port_subcomponent or host, parsed.raw_path_qs)


# --- connecting ---


async def _connect(loop: asyncio.AbstractEventLoop, connection: Connection, key: _Key) -> None:
    is_tls, host, port, route = key
    context = _context(route.tls) if is_tls else None
    name = host.rstrip(".")  # certificates have no dot behind a full name
    if route.proxy is None:
        await connect(loop, lambda: connection, route.addresses or (host,), port, context, name)
        return
    proxy = _address_of(route.proxy)
    proxy_tls = _context(True) if proxy.is_tls else None
    try:
        if context is None:
            await connect(loop, lambda: connection, [proxy.host], proxy.port, proxy_tls, proxy.host)
            return
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        transport = await open_tunnel(loop, proxy.host, proxy.port, proxy_tls, target, _proxy_headers(route.proxy))
    except OSError as exc:
        raise ProxyError(exc) from exc
    secured = await loop.start_tls(transport, connection, context, server_hostname=name)
    assert secured is not None
    connection.connection_made(secured)  # nobody else tells it


def _proxy_headers(proxy: str) -> dict[str, str]:
    """The headers for a proxy, whose credentials may be in its URL."""
    url = URL(proxy)
    return {} if url.user is None else {"proxy-authorization": basic_auth(url)}


def basic_auth(url: URL) -> str:
    """The value of an `authorization` header with the name and the password of a URL (RFC 7617)."""
    return f"Basic {b64encode(f'{url.user or ""}:{url.password or ""}'.encode()).decode()}"


@cache
def _default_context(*, is_verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _context(tls: ssl.SSLContext | bool) -> ssl.SSLContext:
    return _default_context(is_verified=tls) if isinstance(tls, bool) else tls
