"""Requests to upstreams over pooled connections, of which each event loop has its own.

Llama Stack constructs providers in a loop that is gone when the server starts, so that nothing here exists before
the first request.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.adaptation.upstream_errors import from_status
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.telemetry import trace_headers
from llama_stack_messages_provider.http_client.failures import ConnectTimeoutError, HeadTimeoutError, HttpError
from llama_stack_messages_provider.http_client.pool import Pool
from llama_stack_messages_provider.http_client.response import Response
from llama_stack_messages_provider.upstream.body import Timeouts, iter_body
from llama_stack_messages_provider.upstream.connections import new_pool, route_to
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.failures import (
    AnswerTooLargeError,
    connect_timeout,
    did_not_begin,
    log_failure,
    no_answer,
    unreachable,
)
from llama_stack_messages_provider.wire.lenient_json import read_json
from llama_stack_messages_provider.wire.sse import MAX_EVENT_BYTES

__all__ = ["ResponseLimits", "Sessions", "UpstreamResponse", "is_success", "parsed", "refusal"]

# Some frameworks answer every POST with 201.
_SUCCESS = frozenset({200, 201})
_BODILESS = frozenset({204, 205, 304})
# How much of an error's body is read: what a client is told of it is far shorter.
_MAX_ERROR_BYTES = 1024 * 1024
# Upstreams whose last answer is remembered.
_MAX_UPSTREAMS = 256


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """How large an upstream's answers may be, in bytes, decompressed.

    Args:
        answer: A whole answer.
        event: One event of a stream.
        stream: A stream.
    """

    answer: int = 64 * 1024 * 1024
    event: int = MAX_EVENT_BYTES
    stream: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
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
        return read_json(body)
    except ValueError:
        return None


def is_success(status: int) -> bool:
    """Whether an answer with this status is what was asked for."""
    return status in _SUCCESS


def refusal(answer: UpstreamResponse) -> MessagesError:
    """What an answer with any other status means to the client."""
    if not 400 <= answer.status < 600:
        return no_answer(answer.status)
    body = answer.json()
    return from_status(answer.status, answer.headers, answer.body if body is None else body)


class Sessions:
    """Sends requests to upstreams, for one adapter.

    Args:
        limits: How large answers may be.
    """

    def __init__(self, limits: ResponseLimits | None = None) -> None:
        self.limits = limits or ResponseLimits()
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._answered: dict[tuple[str, str], float] = {}

    def pool(self) -> Pool:
        """The connections of the running loop."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for gone in [each for each in self._pools if each.is_closed()]:
                del self._pools[gone]
            pool = self._pools[loop] = new_pool()
        return pool

    async def close(self) -> None:
        """Close the running loop's connections; those of other loops are gone with them."""
        if pool := self._pools.pop(asyncio.get_running_loop(), None):
            await pool.close()

    async def fetch(
        self,
        method: str,
        url: str,
        endpoint: Endpoint,
        timeouts: Timeouts,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> UpstreamResponse:
        """Send a request and read its whole answer.

        Raises:
            UpstreamError: No connection, or it broke before the end of the answer, or that is too long.
            UpstreamTimeoutError: The connect, first-byte or idle limit passed.
        """
        response = await self.open(method, url, endpoint, timeouts, headers=headers, data=data)
        return await self.whole(response, endpoint, timeouts)

    async def whole(
        self, response: Response, endpoint: Endpoint, timeouts: Timeouts, *, head: bytes = b""
    ) -> UpstreamResponse:
        """The whole answer of an open response; of an error only as much as matters.

        Args:
            response: An open response, which is closed.
            endpoint: Whose it is.
            timeouts: How long it may take.
            head: What has been read of it.
        """
        try:
            body = await self._body(response, timeouts.of(endpoint))
        except MessagesError as exc:
            log_failure(endpoint, endpoint.root, exc)
            raise
        return UpstreamResponse(response.status, response.headers, head + body)

    async def _body(self, response: Response, timeouts: Timeouts) -> bytes:
        if response.status < 200 or response.status in _BODILESS:
            response.close()
            return b""
        if (body := response.read_whole()) is not None:  # it came with the headers
            if len(body) > self.limits.answer:
                raise AnswerTooLargeError(self.limits.answer)
            return body
        if is_success(response.status):
            return b"".join([piece async for piece in iter_body(response, timeouts, self.limits.answer)])
        return await _error_body(response, timeouts)

    async def open(
        self,
        method: str,
        url: str,
        endpoint: Endpoint,
        timeouts: Timeouts,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> Response:
        """Send a request and return its response once the headers are there; the caller closes it.

        Raises:
            UpstreamError, UpstreamTimeoutError: As `fetch`.
        """
        sent = endpoint.auth_headers() | {"content-type": "application/json"} | dict(headers or {}) | trace_headers()
        try:
            response = await self._request(method, url, endpoint, timeouts.of(endpoint), sent, data)
        except MessagesError as exc:
            self._answered.pop((endpoint.provider_id, endpoint.root), None)
            log_failure(endpoint, url, exc)
            raise
        if response.status < 500:
            self._note_answer(endpoint)
        return response

    def _note_answer(self, endpoint: Endpoint) -> None:
        if len(self._answered) >= _MAX_UPSTREAMS:  # requests may bring addresses of their own
            self._answered.clear()
        self._answered[endpoint.provider_id, endpoint.root] = time.monotonic()

    def answered_within(self, endpoint: Endpoint, seconds: float) -> bool:
        """Whether an upstream has answered lately, and not failed since."""
        when = self._answered.get((endpoint.provider_id, endpoint.root))
        return when is not None and time.monotonic() - when < seconds

    async def _request(
        self,
        method: str,
        url: str,
        endpoint: Endpoint,
        timeouts: Timeouts,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Response:
        try:
            return await self.pool().request(
                method,
                url,
                headers=headers,
                body=body,
                route=route_to(endpoint),
                connect_seconds=timeouts.connect,
                head_seconds=timeouts.first_byte,
            )
        except ConnectTimeoutError as exc:
            raise connect_timeout(endpoint, timeouts.connect) from exc
        except HeadTimeoutError as exc:
            raise did_not_begin(timeouts.first_byte) from exc
        except (HttpError, OSError, ValueError) as exc:
            raise unreachable(endpoint, exc) from exc


async def _error_body(response: Response, timeouts: Timeouts) -> bytes:
    """The beginning of an error's body, as far as it comes in time: what is there says what is wrong."""
    body = bytearray()
    pieces = iter_body(response, timeouts, 2 * _MAX_ERROR_BYTES)
    try:
        async with asyncio.timeout(timeouts.idle):
            async for piece in pieces:
                body += piece
                if len(body) >= _MAX_ERROR_BYTES:
                    break
    except (MessagesError, TimeoutError):
        pass
    finally:
        await pieces.aclose()
    return bytes(body)
