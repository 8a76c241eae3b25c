"""Around the host's middlewares, for our paths only.

The host's authentication, quota, route policy and version check answer before our routes do; they read no
`x-api-key`, and they speak OpenAI's dialect. The router's lifespan receives the app with its middlewares
already built, so one ASGI callable put around them mends both.

What carries a `request-id` header comes from our own routes and passes as it is. Everything else that is an
error is the host's, and is put into Anthropic's envelope.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_stack_messages_provider.config import RequestLimits
from llama_stack_messages_provider.errors import (
    InvalidRequestError,
    MessagesError,
    RequestTooLargeError,
)
from llama_stack_messages_provider.host.app import is_wrapped, wrap_middlewares
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.uvicorn import (
    ServerSend,
    abort_connections,
    bound_exit,
    bound_heads,
    find_server,
    on_exit,
)
from llama_stack_messages_provider.http.answer import Answer
from llama_stack_messages_provider.http.limits import LIMITS_KEY, check_head
from llama_stack_messages_provider.http.paths import BATCHES, MAY_BE_OURS, path_of
from llama_stack_messages_provider.http.request_ids import new_request_id
from llama_stack_messages_provider.http.shutdown import Shutdown, shutting_down
from llama_stack_messages_provider.wire.names import API_VERSION

__all__ = ["AnthropicMiddleware", "install_middleware"]

logger = get_logger(name=__name__, category="core::server")

MAX_BATCH_BYTES = 256 * 1024 * 1024
"""Anthropic's limit of a batch."""

EXIT_SECONDS = 5.0
"""What the host's own routes get on top when the server exits."""

type Headers = list[tuple[bytes, bytes]]

_DATE = re.compile(rb"\d{4}-\d\d-\d\d")


def install_middleware(
    app: Any,
    limits: RequestLimits,
    *,
    max_batch_bytes: int = MAX_BATCH_BYTES,
    on_shutdown: Callable[[], None] = lambda: None,
) -> bool:
    """Put an `AnthropicMiddleware` around the app's middlewares, once, and bound what the server reads before it.

    Called in the loop that serves, before it does.

    Args:
        app: The FastAPI app that a router's lifespan receives.
        limits: Of requests.
        max_batch_bytes: The largest body that creates a batch.
        on_shutdown: Called once the server is told to exit, while requests still run.

    Returns:
        Whether it is there. Without it our routes work, but the host's refusals keep their own shape.
    """
    if is_wrapped(app, AnthropicMiddleware):
        return True

    def wrap(inner: ASGIApp) -> AnthropicMiddleware:
        shutdown = _bound_server(limits)
        shutdown.on_begin(on_shutdown)
        return AnthropicMiddleware(inner, limits, max_batch_bytes=max_batch_bytes, shutdown=shutdown)

    if wrap_middlewares(app, wrap):
        return True
    logger.warning(
        "The app has no middleware_stack to wrap: x-api-key is not read, refusals keep the host's shape",
        app=type(app).__name__,
    )
    return False


def _bound_server(limits: RequestLimits) -> Shutdown:
    """The shutdown of the server that runs this, its heads bounded; one that never begins, where there is none."""
    server = find_server()
    if server is None:
        logger.info("Not served by uvicorn's main thread: no limit of heads, no graceful shutdown")
        return Shutdown(limits.shutdown_seconds)
    bound_heads(server, limits.max_header_bytes + limits.max_url_bytes, _refuse_head)
    bound_exit(server, limits.shutdown_seconds + EXIT_SECONDS)
    shutdown = Shutdown(limits.shutdown_seconds, partial(abort_connections, server))
    on_exit(server, shutdown.begin)
    return shutdown


def _refuse_head(start: bytes, status: int, message: str) -> bytes | None:
    """The answer to what never becomes a request, where it can be seen that it was meant for us."""
    if b"/messages" not in start:
        return None
    kind = RequestTooLargeError if status == 413 else InvalidRequestError
    request_id = new_request_id()
    body = orjson.dumps(kind(message).body(request_id))
    head = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "request-id": request_id,
        "anthropic-version": API_VERSION,
        "connection": "close",
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class AnthropicMiddleware:
    """The ASGI callable around the host's middlewares.

    Args:
        app: What it wraps.
        limits: Of requests.
        max_batch_bytes: The largest body that creates a batch.
        shutdown: What ends requests when the server exits.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits, *, max_batch_bytes: int, shutdown: Shutdown) -> None:
        self.app = app
        self._limits = limits
        self._max_batch_bytes = max_batch_bytes
        self._shutdown = shutdown

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand on what is for other routes at the cost of one comparison: every request of the server comes by."""
        if scope["type"] != "http" or not scope["path"].startswith(MAY_BE_OURS):
            return self.app(scope, receive, send)
        path = path_of(scope)
        return self.app(scope, receive, send) if path is None else self._handle(path, scope, receive, send)

    async def _handle(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        # One path for the route policy, the quota and the metrics: a rule for it cannot be walked around.
        scope["path"] = path
        request_id = new_request_id()
        scope.setdefault("state", {}).update(
            {
                "request_id": request_id,
                LIMITS_KEY: self._limits,
                Shutdown.KEY: self._shutdown,
            }
        )
        headers = dict(scope["headers"])
        limit = self._max_batch_bytes if path == BATCHES else self._limits.body_bytes
        answer = Answer(ServerSend(send), request_id, _version(headers))
        try:
            length = self._checked(scope, headers, limit)
        except MessagesError as exc:
            await answer.tell(exc)
            return
        if length is None:
            receive = _counted(receive, limit, answer)
        scope["headers"] = _readable(_as_bearer(scope["headers"], headers))
        del headers, send  # an answer may last for an hour
        await self._run(scope, receive, answer)

    def _checked(self, scope: Scope, headers: dict[bytes, bytes], limit: int) -> int | None:
        """The length of the body, if it is announced.

        Raises:
            MessagesError: The request is not to be read any further.
        """
        if self._shutdown.begun:
            raise shutting_down()
        url_bytes = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
        check_head(url_bytes, scope["headers"], self._limits)
        length = _content_length(headers)
        if length is not None and length > limit:
            raise _too_large(limit)
        return length

    async def _run(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        task = self._shutdown.enter()
        try:
            await self.app(scope, receive, answer)
        except RequestTooLargeError as error:
            if error is not answer.overflow or answer.passing:
                raise
        except asyncio.CancelledError:
            if not self._shutdown.over:
                raise
            if not answer.passing:
                await answer.tell(shutting_down())
        finally:
            self._shutdown.leave(task)
        await answer.close()


def _content_length(headers: dict[bytes, bytes]) -> int | None:
    # A chunked body may carry a length too, which then means nothing (RFC 9112, section 6.3).
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and b"transfer-encoding" not in headers else None


def _too_large(limit: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"Request exceeds the maximum size of {limit} bytes")


def _counted(receive: Receive, limit: int, answer: Answer) -> Receive:
    """`receive`, until more than `limit` bytes have come.

    Raises:
        RequestTooLargeError: They have; kept in `answer`, which tells it even if it is caught on the way.
    """
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            answer.overflow = answer.overflow or _too_large(limit)
            raise answer.overflow
        return message

    return counted


def _as_bearer(pairs: Headers, headers: dict[bytes, bytes]) -> Headers:
    """The headers with the client's key where the host reads it, and nowhere else.

    `x-api-key` is always taken out: nothing behind this line reads it, the host's custom auth forwards every
    header but `Authorization` to its endpoint, and a key that is not there cannot reach an upstream or a log.
    """
    key = headers.get(b"x-api-key")
    if key is None:
        return pairs
    if not key or headers.get(b"authorization"):
        return [pair for pair in pairs if pair[0] != b"x-api-key"]
    kept = [pair for pair in pairs if pair[0] not in (b"x-api-key", b"authorization")]
    return [*kept, (b"authorization", b"Bearer " + key)]


def _readable(pairs: Headers) -> Headers:
    """The headers as UTF-8, which the host insists on with a 500; browsers and proxies send Latin-1 too."""
    if b"".join([value for _, value in pairs]).isascii():
        return pairs
    return [(name, _as_utf8(value)) for name, value in pairs]


def _as_utf8(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1").encode()
    return text


def _version(headers: dict[bytes, bytes]) -> str:
    """The version that an answer is of: the one that was asked for, since any is accepted."""
    asked = headers.get(b"anthropic-version", b"")
    return asked.decode() if _DATE.fullmatch(asked) else API_VERSION
