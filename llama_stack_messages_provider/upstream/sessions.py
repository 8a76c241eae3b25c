"""Pooled HTTP sessions, one per event loop and network setting, made in the loop that uses them.

Llama Stack constructs providers in a loop that is gone when the server starts, so that nothing here exists before
the first request.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import from_status
from llama_stack_messages_provider.errors import MessagesError, UpstreamError, UpstreamTimeoutError
from llama_stack_messages_provider.upstream.endpoint import Endpoint

__all__ = [
    "Answer",
    "Body",
    "ConnectionFailedError",
    "Limits",
    "Sessions",
    "did_not_begin",
    "linger",
    "parsed",
    "pieces",
    "refusal",
    "stopped",
]

_KEEPALIVE_SECONDS = 60.0
_LINGER_SECONDS = 0.25


class ConnectionFailedError(UpstreamError):
    """The upstream could not be reached, or hung up before it answered: worth another try."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an upstream may take, in seconds.

    Args:
        connect: To accept a connection.
        first_byte: To send the first byte of an answer.
        idle: Between two pieces of an answer.
    """

    connect: float
    first_byte: float
    idle: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of an upstream."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        return parsed(self.body)


def parsed(body: bytes) -> Any:
    """Bytes as JSON; None if they are not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def refusal(answer: Answer) -> MessagesError:
    """What an answer with an error's status means to the client."""
    body = answer.json()
    return from_status(answer.status, answer.headers, answer.body if body is None else body)


class Sessions:
    """The sessions of one adapter."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[asyncio.AbstractEventLoop, bool], aiohttp.ClientSession] = {}
        self._proxies = any(name.lower().endswith("_proxy") for name in os.environ)

    def session(self, endpoint: Endpoint) -> aiohttp.ClientSession:
        """The session of the running loop."""
        proxied = self._proxies and not endpoint.local
        key = (asyncio.get_running_loop(), proxied)
        session = self._sessions.get(key)
        if session is None or session.closed:
            session = self._sessions[key] = _session(trust_env=proxied)
        return session

    async def close(self) -> None:
        """Close the running loop's sessions; those of other loops are gone with them."""
        loop = asyncio.get_running_loop()
        for key in [key for key in self._sessions if key[0] is loop]:
            await self._sessions.pop(key).close()

    async def fetch(
        self,
        method: str,
        url: str,
        endpoint: Endpoint,
        limits: Limits,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> Answer:
        """Send a request and read its whole answer.

        Raises:
            UpstreamError: No connection, or it broke before the end of the answer.
            UpstreamTimeoutError: The connect, first-byte or idle limit passed.
        """
        response = await self.open(method, url, endpoint, limits, headers=headers, data=data)
        if response.content.is_eof():  # it came with the headers: no watch is needed
            body = response.content.read_nowait(-1)
        else:
            body = b"".join([piece async for piece in pieces(response, limits)])
        return Answer(response.status, response.headers, body)

    async def open(
        self,
        method: str,
        url: str,
        endpoint: Endpoint,
        limits: Limits,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request and return its response once the headers are there; the caller closes it."""
        sent = endpoint.auth_headers()
        sent["content-type"] = "application/json"
        if headers:
            sent.update(headers)
        options: dict[str, Any] = {"proxy": endpoint.proxy} if endpoint.proxy else {}
        if endpoint.root.startswith("https:"):
            options["ssl"] = endpoint.tls
        first_byte = endpoint.read_timeout or limits.first_byte
        connect = endpoint.connect_timeout or limits.connect
        options["timeout"] = _timeout(connect, first_byte)
        try:
            return await self._send(self.session(endpoint), method, url, headers=sent, data=data, **options)
        except aiohttp.ConnectionTimeoutError as exc:
            raise UpstreamTimeoutError(f"The upstream did not accept a connection within {connect:g} s") from exc
        except TimeoutError as exc:
            raise did_not_begin(first_byte) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ConnectionFailedError(f"The upstream could not be reached: {_reason(exc)}") from exc

    async def _send(
        self, session: aiohttp.ClientSession, method: str, url: str, **options: Any
    ) -> aiohttp.ClientResponse:
        try:
            return await session.request(method, url, allow_redirects=False, **options)
        except aiohttp.ServerDisconnectedError:
            # An idle pooled connection that the upstream was just closing: nothing of an answer has come.
            return await session.request(method, url, allow_redirects=False, **options)


def _session(*, trust_env: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
        read_bufsize=2**18,
        trust_env=trust_env,
    )


def did_not_begin(seconds: float) -> UpstreamTimeoutError:
    """The first-byte limit passed."""
    return UpstreamTimeoutError(f"The upstream did not begin to answer within {seconds:g} s")


def stopped(seconds: float) -> UpstreamTimeoutError:
    """The idle limit passed."""
    return UpstreamTimeoutError(f"The upstream's answer stopped for {seconds:g} s")


async def pieces(response: aiohttp.ClientResponse, limits: Limits) -> AsyncGenerator[bytes]:
    """The body of a response, as much at a time as is there.

    Raises:
        UpstreamError: As of `Body`.
    """
    with Body(response, limits) as body:
        while data := await body.more():
            body.came()
            yield data
            body.wait()


class Body:
    """The body of a response, under its limits: `came` after each piece of it, `wait` before the next one.

    A context manager. Its user's loop saves a generator, which is some of what a small event costs.

    Args:
        response: An answer whose headers are there.
        limits: The first-byte limit holds for the first piece, the idle limit for those after it.

    Attributes:
        more: The next piece, as much as is there; empty at the end.

    Raises:
        UpstreamTimeoutError: A limit passed; of the block that reads.
        UpstreamError: The connection broke; of the block that reads.
    """

    __slots__ = ("_idle", "_response", "_watch", "more")

    def __init__(self, response: aiohttp.ClientResponse, limits: Limits) -> None:
        self._response = response
        self._watch = _Watch(response, limits.first_byte)
        self._idle = limits.idle
        self.more = response.content.readany

    def came(self) -> None:
        """A piece is there: a client that reads slowly is not the upstream's fault."""
        self._watch.waiting = False

    def wait(self) -> None:
        """The next piece is waited for."""
        self._watch.wait(self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        watch = self._watch
        watch.end()
        # A response that was read to its end has returned its connection to the pool; any other loses it.
        self._response.close()
        if isinstance(error, TimeoutError):
            raise (stopped if watch.begun else did_not_begin)(watch.seconds) from error
        if isinstance(error, aiohttp.ClientError | OSError):
            raise UpstreamError("The upstream's answer broke off") from error


def linger(response: aiohttp.ClientResponse) -> None:
    """The message is complete: wait a moment for the end of the body, which gives the connection back to its pool."""
    asyncio.get_running_loop().call_later(_LINGER_SECONDS, response.close)


class _Watch:
    """Ends a body that brings nothing for too long.

    One timer that looks again when the limit could have passed: aiohttp's own is set anew for each piece, which is a
    tenth of what a small event costs.
    """

    __slots__ = ("_loop", "_response", "_since", "_timer", "begun", "seconds", "waiting")

    def __init__(self, response: aiohttp.ClientResponse, first_byte: float) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self.begun = False
        self.seconds = first_byte
        connection = response.connection
        if connection is not None and connection.protocol is not None:
            self.seconds = connection.protocol.read_timeout or first_byte  # the provider's own, if it has one
            connection.protocol.read_timeout = None
            connection.protocol.start_timeout()  # none: the one that the headers set still ran
        self._wait()

    def wait(self, idle: float) -> None:
        """The next piece is waited for, from now on."""
        if self.begun:
            self.waiting = True
            self._since = self._loop.time()
            return
        self.begun = True
        self.seconds = idle
        self._timer.cancel()
        self._wait()

    def end(self) -> None:
        """The body is over."""
        self._timer.cancel()

    def _wait(self) -> None:
        self.waiting = True
        self._since = self._loop.time()
        self._timer = self._loop.call_later(self.seconds, self._look)

    def _look(self) -> None:
        idle = self._loop.time() - self._since if self.waiting else 0.0
        if idle >= self.seconds:
            self._response.content.set_exception(aiohttp.SocketTimeoutError())
        else:
            self._timer = self._loop.call_later(self.seconds - idle, self._look)


@cache
def _timeout(connect: float, read: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


def _reason(exc: BaseException) -> str:
    if isinstance(exc, OSError) and exc.errno:
        # The text of asyncio's own error names the address, which is nobody's business.
        return os.strerror(exc.errno)
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    return type(exc).__name__
