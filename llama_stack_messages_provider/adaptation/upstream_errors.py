"""What an upstream's error means to a client of the Messages API.

A failure that the same request would meet again is never a status that SDKs retry; context overflow is told in
Anthropic's words, so that agents compact their conversation instead of giving up.

Source: https://platform.claude.com/docs/en/api/errors; the SDK's `_should_retry` (408, 409, 429 and 5xx are retried).
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.errors import (
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

__all__ = [
    "context_limits",
    "from_event",
    "from_status",
    "is_envelope",
    "message_of",
    "not_understood",
    "output_limit",
    "understood",
]

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
}
_HANDED_ON = ("retry-after", "retry-after-ms", "x-should-retry")
_NO_RETRY = {"x-should-retry": "false"}
_LONGEST = 2000

# Statuses that say something else than what the text says.
_NOT_OVERFLOW = frozenset({401, 403, 404, 408, 429})

_OVERFLOW = re.compile(
    r"context[ _](length|size|window|limit)|prompt (is )?too long|exceed_context"
    r"|(longer|larger) than the (model'?s )?(context|maximum)|maximum (input|prompt|model) length"
    r"|input (length|is too long|token count)|token count of [\d,]+ exceeds|too long to fit|exceeded model token limit"
    r"|input tokens exceed|reduce the length of|`inputs` (tokens|must have)",
    re.IGNORECASE,
)
# Pairs of (prompt tokens, limit) in the engines' own words; groups are named since their order differs. `spare` is
# what a total counts for the answer.
_N = r"\d[\d,]*"
_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        rf"prompt is too long: (?P<used>{_N}) tokens > (?P<limit>{_N})",
        rf"prompt is too long: (?P<used>{_N}), model maximum context length: (?P<limit>{_N})",
        rf"context limit: (?P<used>{_N}) \+ {_N} > (?P<limit>{_N})",
        rf"request \((?P<used>{_N}) tokens\) exceeds the available context size \((?P<limit>{_N})",
        rf"context length (is|of)\D{{0,10}}(?P<limit>{_N}) tokens.*?request has (?P<used>{_N}) input tokens",
        rf"(length|limit) (is|of)\D{{0,10}}(?P<limit>{_N}) tokens.*?resulted in (?P<used>{_N}) tokens",
        rf"context length (is|of)\D{{0,10}}(?P<limit>{_N}) tokens.*?requested (about )?(?P<used>{_N}) tokens"
        rf" \([^)]*?(?P<spare>{_N}) in the (completion|output)",
        rf"context length (is|of)\D{{0,10}}(?P<limit>{_N}) tokens.*?(?P<used>{_N}) tokens from the input messages",
        rf"context length (is|of)\D{{0,10}}(?P<limit>{_N}) tokens.*?contains (at least )?(?P<used>{_N}) input tokens",
        rf"prompt length is (?P<limit>{_N}) but the request contains (?P<used>{_N})",
        rf"prompt \((total )?length (?P<used>{_N})\).*?(length of|context length) (?P<limit>{_N})",
        rf"contains (?P<used>{_N}) tokens.*?too large for model with (?P<limit>{_N}) maximum context",
        rf"must (be <=|have less than) (?P<limit>{_N}).*?given: (?P<used>{_N})",
        rf"current length is (?P<used>{_N}) while limit is (?P<limit>{_N})",
        rf"token limit: (?P<limit>{_N}) \(requested: (?P<used>{_N})",
        rf"input token count \((?P<used>{_N})\) exceeds.{{0,60}}?\((?P<limit>{_N})",
        rf"(input length|token count of) \(?(?P<used>{_N})( tokens)?\)? exceeds.{{0,60}}?(?P<limit>{_N})",
        rf"input \((?P<used>{_N}) tokens\) is longer than the model's context length \((?P<limit>{_N})",
    )
)
# The most that may be generated, where a model has a limit of its own for that.
_OUTPUT_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"max_(completion_)?tokens['`]? must be less than or equal to `?(?P<limit>\d+)",
        r"max_(completion_)?tokens is too large: \d+\. This model supports at most (?P<limit>\d+) completion tokens",
        r"valid range of max_(completion_)?tokens is \[\d+, ?(?P<limit>\d+)\]",
        r"max_(completion_)?tokens \(\d+\) exceeds.{0,40}?output tokens \((?P<limit>\d+)\)",
        r"max_(completion_)?tokens: \d+ > (?P<limit>\d+), which is the maximum allowed number of output tokens",
    )
)
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
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def from_status(status: int, headers: Mapping[str, str], body: Any) -> MessagesError:
    """The error to tell for an upstream's answer.

    Args:
        status: The upstream's HTTP status, 400 or more.
        headers: Its headers; `retry-after`, `retry-after-ms` and `x-should-retry` are handed on.
        body: Its parsed JSON, or its text; Anthropic's `details`, which its SDK acts on, are handed on.
    """
    error = _error_of(status, headers, body)
    if isinstance(details := _told(body).get("details"), Mapping):
        error.details = details
    return error


def _error_of(status: int, headers: Mapping[str, str], body: Any) -> MessagesError:
    message = message_of(body) or f"The upstream answered with status {status}"
    handed = {name: headers[name] for name in _HANDED_ON if name in headers}
    if status not in _NOT_OVERFLOW and _is_overflow(message, body):
        return _overflow(message, body)
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
    return UpstreamError(message, status=max(status, 500), headers=handed)


def from_event(body: Any) -> MessagesError:
    """The error to tell for an error that an upstream sends inside a stream."""
    told = _told(body)
    code = told.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return from_status(code, {}, body)
    words = (word for word in (told.get("type"), code) if isinstance(word, str))
    return from_status(next((_BY_WORD[word] for word in words if word in _BY_WORD), 500), {}, body)


def not_understood(body: bytes, wanted: str) -> MessagesError:
    """The error to tell for a 200 whose body is not what was asked for.

    Args:
        body: The body; its own error is told if it says one.
        wanted: What it should have been.
    """
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    if isinstance(told, Mapping) and told.get("error"):
        return from_event(told)
    # Something else than an answer comes again, such as the page of a wrong address; nothing at all may not.
    return UpstreamError(f"The upstream's answer is not {wanted}", headers=_NO_RETRY if body else None)


class understood:  # noqa: N801 - a context manager, read as a participle
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
            raise not_understood(orjson.dumps(self._answer), self._wanted) from exc


def is_envelope(body: Any, error: Any) -> bool:
    """Whether a body, and the `error` in it, are Anthropic's error envelope."""
    return isinstance(error, dict) and body.get("type") == "error" and isinstance(error.get("message"), str)


def message_of(body: Any) -> str:
    """The text of an error body in any of the shapes that servers use."""
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, str):
        return _readable(body.strip())[:_LONGEST]
    if isinstance(body, Mapping):
        texts = (message_of(body.get(key)) for key in ("error", "message", "detail"))
        return next(filter(None, texts), "") + _raw(body)
    if isinstance(body, list):
        return "; ".join(filter(None, map(_detail, body)))[:_LONGEST]
    return ""


def _readable(text: str) -> str:
    if not text.startswith("<"):
        return text
    title = _TITLE.search(text)
    return " ".join((title[1] if title else _TAG.sub(" ", text)).split())


def _raw(error: Mapping[str, Any]) -> str:
    # OpenRouter says "Provider returned error" and puts the provider's own words beside it.
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return f": {raw[:_LONGEST]}" if isinstance(raw, str) else ""


def _detail(item: Any) -> str:
    if isinstance(item, Mapping) and "msg" in item:
        where = ".".join(str(part) for part in item.get("loc", ()) if part != "body")
        return f"{where}: {item['msg']}" if where else str(item["msg"])
    return message_of(item)


def context_limits(message: str, body: Any = None) -> tuple[int, int] | None:
    """(prompt tokens, the model's limit) where an error about the context says them."""
    told = _told(body)
    if isinstance(used := told.get("n_prompt_tokens"), int) and isinstance(limit := told.get("n_ctx"), int):
        return used, limit
    for pattern in _LIMITS if _OVERFLOW.search(message) else ():
        if found := pattern.search(message):
            groups = {name: int(text.replace(",", "")) for name, text in found.groupdict(default="0").items()}
            return groups["used"] - groups.get("spare", 0), groups["limit"]
    return None


def output_limit(message: str) -> int | None:
    """The most tokens that a model generates, where a refusal of `max_tokens` says it."""
    found = next(filter(None, (pattern.search(message) for pattern in _OUTPUT_LIMITS)), None)
    return int(found["limit"]) if found else None


def _is_overflow(message: str, body: Any) -> bool:
    told = _told(body)
    words = " ".join([message, *(str(told[key]) for key in ("type", "code") if key in told)])
    return _OVERFLOW.search(words) is not None and output_limit(message) is None


def _is_deterministic(message: str) -> bool:
    return _DETERMINISTIC.search(message) is not None and _OF_THE_MACHINE.search(message) is None


def _overflow(message: str, body: Any) -> MessagesError:
    limits = context_limits(message, body)
    if limits is None:
        return InvalidRequestError(message if message.startswith("prompt is") else f"prompt is too long: {message}")
    used, limit = limits
    if used < limit:  # the prompt fits; the output that was asked for does not
        return InvalidRequestError(message)
    # A prompt that fills the window leaves no room for an answer.
    return InvalidRequestError(f"prompt is too long: {used} tokens > {min(limit, used - 1)} maximum")


def _told(body: Any) -> Mapping[str, Any]:
    """The object that says what is wrong: `error`, or the body itself as older vLLM and Mistral have it."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, Mapping):
        return error
    return body if isinstance(body, Mapping) else {}
