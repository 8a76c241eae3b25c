"""Around the host's middlewares, for our paths only.

The host's authentication, quota, route policy and version check answer before our routes do; they read no
`x-api-key`, and they speak OpenAI's dialect. The router's lifespan receives the app with its middlewares
already built, so one ASGI callable put around them mends both.

What carries a `request-id` header comes from our own routes and passes as it is. Everything else that is an
error is the host's, and is put into Anthropic's envelope.
"""

import re
from collections.abc import Awaitable
from typing import Any

import orjson
from llama_stack.log import get_logger
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_stack_messages_provider.errors import (
    AuthenticationError,
    InvalidRequestError,
    MessagesError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    UpstreamTimeoutError,
)
from llama_stack_messages_provider.http.request_ids import new_request_id
from llama_stack_messages_provider.http.streaming import Direct

__all__ = ["AnthropicMiddleware", "install_middleware"]

logger = get_logger(name=__name__, category="core::server")

PATH = "/v1/messages"
# The SDKs append `/v1/messages` to a base URL that may end with `/v1` already.
ALIAS = "/v1/v1/messages"
BATCHES = "/batches"
OURS = (PATH, ALIAS)

MAX_BATCH_BYTES = 256 * 1024 * 1024
"""Anthropic's limit of a batch."""

MAX_ERROR_BYTES = 64 * 1024
"""What is read of a refusal; the host's are a few hundred bytes."""

type Headers = list[tuple[bytes, bytes]]

_TYPES = {
    kind.status: kind.error_type
    for kind in (
        AuthenticationError,
        PermissionDeniedError,
        NotFoundError,
        RequestTooLargeError,
        RateLimitError,
        OverloadedError,
        UpstreamTimeoutError,
    )
} | {503: OverloadedError.error_type}
# Refusals by the host's auth that blame the service that it asked: the same key may do a moment later.
_TRANSIENT = re.compile(r"timeout|service error|introspection error|failed: 5\d\d", re.IGNORECASE)
# They describe the body that is replaced.
_REPLACED = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})


def install_middleware(app: Any, *, max_body_bytes: int, max_batch_bytes: int = MAX_BATCH_BYTES) -> bool:
    """Put a `AnthropicMiddleware` around the app's middlewares, once.

    Args:
        app: The FastAPI app that a router's lifespan receives.
        max_body_bytes: The largest request body.
        max_batch_bytes: The largest body that creates a batch.

    Returns:
        Whether it is there. Without it our routes work, but the host's refusals keep their own shape.
    """
    inner = getattr(app, "middleware_stack", None)
    if isinstance(inner, AnthropicMiddleware):
        return True
    if inner is None:
        logger.warning(
            "The app has no middleware_stack to wrap: x-api-key is not read, refusals keep the host's shape",
            app=type(app).__name__,
        )
        return False
    app.middleware_stack = AnthropicMiddleware(inner, max_body_bytes=max_body_bytes, max_batch_bytes=max_batch_bytes)
    return True


class AnthropicMiddleware:
    """The ASGI callable around the host's middlewares.

    Args:
        app: What it wraps.
        max_body_bytes: The largest request body.
        max_batch_bytes: The largest body that creates a batch.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_batch_bytes: int) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._max_batch_bytes = max_batch_bytes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Hand on what is not ours at the cost of one comparison: every request of the server comes by."""
        if scope["type"] != "http" or not scope["path"].startswith(OURS):
            return self.app(scope, receive, send)
        return self._ours(scope, receive, send)

    async def _ours(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        tail = path[len(ALIAS if path.startswith(ALIAS) else PATH) :]
        if tail and tail[0] != "/":  # /v1/messages-of-someone-else
            await self.app(scope, receive, send)
            return
        # One path for the route policy, the quota and the metrics: a rule for it cannot be walked around.
        scope["path"] = PATH + tail
        request_id = scope.setdefault("state", {})["request_id"] = new_request_id()
        scope["state"][Direct.KEY] = direct = Direct(send)
        answer = _Answer(direct, request_id)
        headers = dict(scope["headers"])
        limit = self._max_batch_bytes if tail.rstrip("/") == BATCHES else self._max_body_bytes
        length = _content_length(headers)
        if length is not None and length > limit:
            await answer.tell(_too_large(limit))
            return
        if length is None:
            receive = _counted(receive, limit, answer)
        if b"x-api-key" in headers:
            scope["headers"] = _as_bearer(scope["headers"], headers)
        try:
            await self.app(scope, receive, answer)
        except RequestTooLargeError as error:
            if error is not answer.overflow or answer.passing:
                raise
        await answer.close()


class _Answer:
    """The `send` that our paths get: it stamps what passes and rewrites what the host refuses."""

    __slots__ = ("_body", "_direct", "_done", "_refusal", "_request_id", "_send", "overflow", "passing")

    def __init__(self, direct: Direct, request_id: str) -> None:
        self._direct = direct
        self._send = direct.send
        self._request_id = request_id
        self._refusal: Message | None = None
        self._body = bytearray()
        self._done = False
        self.overflow: MessagesError | None = None
        """The request's body was too large: whatever is answered now, this is what is told."""
        self.passing = False
        """The answer has begun and is not touched any more."""

    def __call__(self, message: Message) -> Awaitable[None]:
        """No frame of its own once the answer passes: streams come through here event by event."""
        if self.passing:
            self._direct.last = message
            return self._send(message)
        return self._take(message)

    async def _take(self, message: Message) -> None:
        if self._done:
            return
        if self.overflow is not None:
            await self.tell(self.overflow)
        elif message["type"] == "http.response.start":
            await self._begin(message)
        elif self._refusal is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")[: MAX_ERROR_BYTES - len(self._body)]
            if not message.get("more_body", False):
                await self.close()
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        headers = message.get("headers", ())
        if b"request-id" not in dict(headers):
            if message["status"] >= 400:
                self._refusal = message
                return
            message = {**message, "headers": [*headers, (b"request-id", self._request_id.encode())]}
        self.passing = True
        await self._send(message)

    async def close(self) -> None:
        """Answer what is not answered yet: a refusal that was held, or a body that was too large."""
        if self._done or self.passing:
            return
        if self.overflow is not None:
            await self.tell(self.overflow)
        elif self._refusal is not None:
            headers = list(self._refusal.get("headers", ()))
            await self.tell(_error_of(self._refusal["status"], headers, bytes(self._body)), headers)

    async def tell(self, error: MessagesError, headers: Headers | None = None) -> None:
        """Answer with an error; `headers` are those of the answer that it replaces."""
        self._done = True
        body = orjson.dumps(error.body(self._request_id))
        kept = [(name, value) for name, value in headers or () if name.lower() not in _REPLACED]
        made = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "request-id": self._request_id,
            **error.headers,
        }
        kept += [(name.encode(), value.encode()) for name, value in made.items()]
        await self._send({"type": "http.response.start", "status": error.status, "headers": kept})
        await self._send({"type": "http.response.body", "body": body})


def _content_length(headers: dict[bytes, bytes]) -> int | None:
    # A chunked body may carry a length too, which then means nothing (RFC 9112, section 6.3).
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and b"transfer-encoding" not in headers else None


def _too_large(limit: int) -> RequestTooLargeError:
    return RequestTooLargeError(f"Request exceeds the maximum size of {limit} bytes")


def _counted(receive: Receive, limit: int, answer: _Answer) -> Receive:
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
    key = headers[b"x-api-key"]
    if not key or headers.get(b"authorization"):
        return [pair for pair in pairs if pair[0] != b"x-api-key"]
    kept = [pair for pair in pairs if pair[0] not in (b"x-api-key", b"authorization")]
    return [*kept, (b"authorization", b"Bearer " + key)]


def _error_of(status: int, headers: Headers, body: bytes) -> MessagesError:
    message = _message_of(body) or f"The request was refused with status {status}"
    kind = _TYPES.get(status) or (InvalidRequestError if status < 500 else MessagesError).error_type
    final = _is_final(status, headers, message)
    retry = {"x-should-retry": "false"} if final else {}
    return MessagesError(message, status=status, error_type=kind, headers=retry)


def _is_final(status: int, headers: Headers, message: str) -> bool:
    """Whether the same request would be refused again: agents retry a 401 or 429 ten times unless told."""
    if status in (401, 403):
        return not _TRANSIENT.search(message)
    # The host's quota is per day and names no time to come back.
    return status == 429 and not any(name == b"retry-after" for name, _ in headers)


def _message_of(body: bytes) -> str:
    """The text of a refusal: OpenAI's shape, FastAPI's `detail`, or plain text."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = body.decode(errors="replace")
    for key in ("error", "detail", "message"):
        if isinstance(value, dict):
            value = value.get(key, value)
    return value.strip()[:2000] if isinstance(value, str) else ""
