"""What an upstream's error means to a client of the Messages API.

A failure that the same request would meet again is never a status that SDKs retry; context overflow is told in
Anthropic's words, so that agents compact their conversation instead of giving up.

Source: https://platform.claude.com/docs/en/api/errors; the SDK's `_should_retry` (408, 409, 429 and 5xx are retried).
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.error_bodies import error_object, is_envelope, message_of
from llama_stack_messages_provider.adaptation.refusals import Refusal, read_refusal
from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.errors import (
    ApiError,
    AuthenticationError,
    InvalidRequestError,
    MessagesError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    RequestTooLargeError,
    UpstreamError,
    UpstreamTimeoutError,
)

__all__ = ["from_event", "from_status", "is_envelope", "malformed_answer", "malformed_upstream_errors", "message_of"]

logger = logging.getLogger(__name__)

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
# Words in an error's `type` or `code`, for errors that come without a status.
_BY_WORD: dict[str, int] = {
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "unavailable_error": 503,
    "timeout_error": 504,
    # Google's
    "INVALID_ARGUMENT": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    # OpenAI's, and those who take after it
    "insufficient_quota": 429,
    "rate_limited": 429,
    "server_overloaded": 529,
}
_HANDED_ON = ("retry-after", "retry-after-ms", "x-should-retry")
_STATUS = re.compile("[45][0-9]{2}")
_NO_RETRY = {"x-should-retry": "false"}
# Words of failures that the same request meets again, although they come with a 500.
_DETERMINISTIC = re.compile(
    r"must alternate|\bjinja\b|chat template|template error|unexpected (message )?role|system message must be"
    r"|does not support|is required|failed to parse (the )?(grammar|json|messages|request|schema|tools)"
    r"|(image|audio|video|tool|param|parameter|grammar|schema|role|content|format|feature)s?\b.{0,40}"
    r"(not supported|unsupported)"
    r"|(invalid|malformed|unsupported) (base64|content|format|grammar|image|input|json|message|param|request|role"
    r"|schema|tool|type|url|value)",
    re.IGNORECASE | re.DOTALL,
)
_OF_THE_MACHINE = re.compile(r"\b(cuda|hip|rocm|nccl|out of memory)\b", re.IGNORECASE)


def from_status(status: int, headers: Mapping[str, str], body: Any) -> MessagesError:
    """The error to tell for an upstream's answer.

    Args:
        status: The upstream's HTTP status, 400 or more.
        headers: Its headers; `retry-after`, `retry-after-ms` and `x-should-retry` are handed on.
        body: Its parsed JSON, or its text; Anthropic's `details`, which its SDK acts on, are handed on.
    """
    refusal = read_refusal(status, body)
    error = _error_of(status, headers, body, refusal)
    error.refusal = refusal
    if isinstance(details := error_object(body).get("details"), Mapping):
        error.details = details
    return error


def _error_of(status: int, headers: Mapping[str, str], body: Any, refusal: Refusal) -> MessagesError:
    message = message_of(body) or f"The upstream answered with status {status}"
    handed = {name: headers[name] for name in _HANDED_ON if name in headers}
    if (by_kind := _of_kind(refusal, message)) is not None:
        return by_kind
    if status == 501 or (status == 500 and _is_deterministic(message)):
        return InvalidRequestError(message, headers=_NO_RETRY)
    if status == 401:
        # Not the upstream's text: some servers repeat the key that they refuse.
        return AuthenticationError("The upstream refused the stack's credentials", headers=_NO_RETRY)
    if status == 402:
        return MessagesError(message, status=402, error_type="billing_error", headers=handed)
    if (kind := _BY_STATUS.get(status)) is not None:
        return kind(message, headers=handed)
    if 400 <= status < 500:
        return InvalidRequestError(message, status=status, headers=handed)
    return UpstreamError(message, status=status if 500 <= status < 600 else 502, headers=handed)


def _of_kind(refusal: Refusal, message: str) -> MessagesError | None:
    """What a client is told where the kind of a refusal decides it, and not the status."""
    used, limit = refusal.used, refusal.limit
    match refusal.kind:
        case Kind.ENGINE_FAULT:
            return ApiError(message, headers=_NO_RETRY)
        case Kind.PROMPT_TOO_LONG if used is None or limit is None:
            return InvalidRequestError(message if message.startswith("prompt is") else f"prompt is too long: {message}")
        case Kind.PROMPT_TOO_LONG if used is not None and limit is not None:
            # A prompt that fills the window leaves no room for an answer.
            return InvalidRequestError(f"prompt is too long: {used} tokens > {min(limit, used - 1)} maximum")
        case Kind.ROOM if used is None or refusal.at_least or not refusal.asked:
            return InvalidRequestError(message)
        case Kind.ROOM:
            return InvalidRequestError(
                f"input length and `max_tokens` exceed context limit: {used} + {refusal.asked} > {limit}, decrease "
                "input length or `max_tokens` and try again"
            )
    return None


def from_event(body: Any) -> MessagesError:
    """The error to tell for an error that an upstream sends inside a stream."""
    error = error_object(body)
    code = error.get("code")
    if isinstance(code, int | str) and _STATUS.fullmatch(str(code)[:4]):
        return from_status(int(code), {}, body)
    words = (word for word in (error.get("type"), code, error.get("status")) if isinstance(word, str))
    return from_status(next((_BY_WORD[word] for word in words if word in _BY_WORD), 500), {}, body)


def malformed_answer(body: bytes, wanted: str) -> MessagesError:
    """The error to tell for a 200 whose body is not what was asked for.

    Args:
        body: The body; its own error is told if it says one.
        wanted: What it should have been.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, list) and len(answer) == 1:  # Gemini's
        answer = answer[0]
    if isinstance(answer, Mapping) and (answer.get("error") or answer.get("object") == "error"):
        return from_event(answer)
    # Something else than an answer comes again, such as the page of a wrong address; nothing at all may not.
    return UpstreamError(f"The upstream's answer is not {wanted}", headers=_NO_RETRY if body else None)


class malformed_upstream_errors:  # noqa: N801 - a context manager, read as a participle
    """Within it an upstream's answer is read; one whose fields are of other types than they should be is its fault.

    Args:
        answer: What is read.
        wanted: What it should be.

    Raises:
        UpstreamError: It is something else.
    """

    __slots__ = ("_answer", "_wanted")

    def __init__(self, answer: Any, wanted: str) -> None:
        self._answer = answer
        self._wanted = wanted

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, (TypeError, ValueError, AttributeError, LookupError)):
            # It may be a mistake of ours as well, which nobody would find without its traceback.
            logger.warning("The upstream's answer is not %s: %s", self._wanted, exc, exc_info=exc)
            answer = self._answer if isinstance(self._answer, bytes) else orjson.dumps(self._answer)
            raise malformed_answer(answer, self._wanted) from exc


def _is_deterministic(message: str) -> bool:
    return _DETERMINISTIC.search(message) is not None and _OF_THE_MACHINE.search(message) is None
