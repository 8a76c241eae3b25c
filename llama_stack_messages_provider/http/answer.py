"""The answer to a request of ours on its way out: what the host refuses is put into Anthropic's envelope."""

import re
from collections.abc import Awaitable

import orjson
from starlette.types import Message

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
from llama_stack_messages_provider.host.uvicorn import ServerSend

__all__ = ["MAX_ERROR_BYTES", "Answer"]

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


class Answer:
    """The `send` that our paths get: it stamps what passes and rewrites what the host refuses.

    Args:
        server: The server's own `send`.
        request_id: Id of the request.
        version: The API's version that is told.

    Attributes:
        overflow: The request's body was too large: whatever is answered now, this is what is told.
        passing: The answer has begun and is not touched any more.
    """

    __slots__ = (
        "_body",
        "_done",
        "_refusal",
        "_request_id",
        "_send",
        "_server",
        "_version",
        "overflow",
        "passing",
    )

    def __init__(self, server: ServerSend, request_id: str, version: str) -> None:
        self._server = server
        self._send = server.send
        self._request_id = request_id
        self._version = version
        self._refusal: Message | None = None
        self._body = bytearray()
        self._done = False
        self.overflow: MessagesError | None = None
        self.passing = False

    def __call__(self, message: Message) -> Awaitable[None]:
        """No frame of its own once the answer passes: streams come through here event by event."""
        return self._server.pass_on(message) if self.passing else self._take(message)

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
        headers = [*message.get("headers", ()), (b"anthropic-version", self._version.encode())]
        if b"request-id" not in dict(headers):
            if message["status"] >= 400:
                self._refusal = message
                return
            headers.append((b"request-id", self._request_id.encode()))
        self.passing = True
        await self._server.begin({**message, "headers": headers})

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
            "anthropic-version": self._version,
            **error.headers,
        }
        kept += [(name.encode(), value.encode()) for name, value in made.items()]
        await self._send({"type": "http.response.start", "status": error.status, "headers": kept})
        await self._send({"type": "http.response.body", "body": body})


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
