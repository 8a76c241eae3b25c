"""What an upstream's error means to a client of the Messages API.

A failure that the same request would meet again is never a status that SDKs retry; context overflow is told in
Anthropic's words, so that agents compact their conversation instead of giving up.

Source: https://platform.claude.com/docs/en/api/errors; the SDK's `_should_retry` (408, 409, 429 and 5xx are retried).
"""

import re
from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.api.errors import (
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

__all__ = ["context_limits", "from_event", "from_status", "message_of"]

_BY_STATUS: dict[int, type[MessagesError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: UpstreamTimeoutError,
    413: RequestTooLargeError,
    422: InvalidRequestError,
    429: RateLimitError,
    503: OverloadedError,
    504: UpstreamTimeoutError,
    529: OverloadedError,
}
_BY_TYPE: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "unavailable_error": 503,
    "timeout_error": 504,
}
_HANDED_ON = ("retry-after", "retry-after-ms", "x-should-retry")
_NO_RETRY = {"x-should-retry": "false"}

_OVERFLOW = re.compile(
    r"context (length|size|window)|prompt is too long|exceed_context|longer than the (model'?s )?(context|maximum)"
    r"|maximum (input|prompt) length|input (length|is too long)",
    re.IGNORECASE,
)
# Pairs of (prompt tokens, limit) in the engines' own words; groups are named since their order differs.
_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"prompt is too long: (?P<used>\d+) tokens > (?P<limit>\d+)",
        r"request \((?P<used>\d+) tokens\) exceeds the available context size \((?P<limit>\d+)",
        r"context length (is|of)\D{0,10}(?P<limit>\d+) tokens.*?request has (?P<used>\d+) input tokens",
        r"context length (is|of)\D{0,10}(?P<limit>\d+) tokens.*?(?P<used>\d+) (tokens )?(in|from) the (input )?messages",
        r"context length (is|of)\D{0,10}(?P<limit>\d+) tokens.*?resulted in (?P<used>\d+) tokens",
        r"context length (is|of)\D{0,10}(?P<limit>\d+) tokens.*?contains at least (?P<used>\d+) input tokens",
        r"input \((?P<used>\d+) tokens\) is longer than the model's context length \((?P<limit>\d+)",
        r"(?P<used>\d+) tokens?\b.{0,60}?(exceeds?|longer than|greater than).{0,80}?(?P<limit>\d+)",
    )
)
# Words of failures that the same request meets again, whatever status they come with.
_DETERMINISTIC = re.compile(
    r"is required|must alternate|roles must|jinja|chat template|template error|unsupported|not supported|invalid"
    r"|does not support|unexpected message role|system message must be",
    re.IGNORECASE,
)


def from_status(status: int, headers: Mapping[str, str], body: Any) -> MessagesError:
    """The error to tell for an upstream's answer.

    Args:
        status: The upstream's HTTP status, 400 or more.
        headers: Its headers; `retry-after`, `retry-after-ms` and `x-should-retry` are handed on.
        body: Its parsed JSON, or its text.
    """
    message = message_of(body) or f"The upstream answered with status {status}"
    handed = {name: headers[name] for name in _HANDED_ON if name in headers}
    if status in {400, 413, 422, 500} and _OVERFLOW.search(message + _type_of(body)):
        return _overflow(message, body)
    if status == 500 and _DETERMINISTIC.search(message):
        return InvalidRequestError(message, headers=_NO_RETRY)
    kind = _BY_STATUS.get(status)
    if kind is None:
        kind = InvalidRequestError if status < 500 else MessagesError
        return kind(message, status=status if status >= 400 else 502, headers=handed)
    if kind is AuthenticationError:
        return AuthenticationError(f"The upstream refused the stack's credentials: {message}", headers=_NO_RETRY)
    return kind(message, headers=handed)


def from_event(body: Any) -> MessagesError:
    """The error to tell for an error that an upstream sends inside a stream."""
    error = body.get("error") if isinstance(body, Mapping) else None
    code = error.get("code") if isinstance(error, Mapping) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else _BY_TYPE.get(_type_of(body), 500)
    return from_status(status, {}, body)


def message_of(body: Any) -> str:
    """The text of an error body in any of the shapes that servers use."""
    if isinstance(body, bytes):
        return body.decode(errors="replace").strip()[:2000]
    if isinstance(body, str):
        return body.strip()[:2000]
    if isinstance(body, Mapping):
        for key in ("error", "message", "detail"):
            if text := message_of(body.get(key)):
                return text
        return ""
    if isinstance(body, list):
        return "; ".join(filter(None, map(_detail, body)))[:2000]
    return ""


def _detail(item: Any) -> str:
    if isinstance(item, Mapping) and "msg" in item:
        where = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
        return f"{where}: {item['msg']}" if where else str(item["msg"])
    return message_of(item)


def context_limits(message: str, body: Any = None) -> tuple[int, int] | None:
    """(prompt tokens, the model's limit) where an error about the context says them."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, Mapping) and isinstance(error.get("n_prompt_tokens"), int) and "n_ctx" in error:
        return error["n_prompt_tokens"], error["n_ctx"]
    for pattern in _LIMITS:
        if found := pattern.search(message):
            return int(found["used"]), int(found["limit"])
    return None


def _overflow(message: str, body: Any) -> MessagesError:
    limits = context_limits(message, body)
    if limits is None or limits[0] <= limits[1]:
        return InvalidRequestError(message if message.startswith("prompt is") else f"prompt is too long: {message}")
    return InvalidRequestError(f"prompt is too long: {limits[0]} tokens > {limits[1]} maximum")


def _type_of(body: Any) -> str:
    error = body.get("error") if isinstance(body, Mapping) else None
    kind = error.get("type") if isinstance(error, Mapping) else None
    return kind if isinstance(kind, str) else ""
