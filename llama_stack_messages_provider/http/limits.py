"""Limits of a request, each with its name in the configuration: of its head, of its bytes before they are parsed, and
of what they are parsed to.

A JSON value of two bytes may take a hundred as an object, so values are counted before there are any: first roughly, by
commas and brackets wherever they are, and only if there are too many, outside strings.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.config import RequestLimits
from llama_stack_messages_provider.errors import InvalidRequestError, RequestTooLargeError

__all__ = ["LIMITS_KEY", "check_head", "check_request", "parse_request"]

type Headers = list[tuple[bytes, bytes]]

LIMITS_KEY = "messages_limits"
"""Where a scope's `state` has the limits."""

PROVIDER_DATA = b"x-llamastack-provider-data"
FORWARDED = (b"anthropic-version", b"anthropic-beta")
"""Headers of a client that become headers of a request to an upstream."""

_STEP = 256 * 1024
_WRITTEN_LEVELS = 254
"""What orjson writes; it reads 1024."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e\t]")
_DIGIT = re.compile(rb"[0-9]")
_DIGITS = b"0123456789"


# --- before the body ---


def check_head(url_bytes: int, headers: Headers, limits: RequestLimits) -> None:
    """Refuse a head that is too large, or that would break what reads it.

    Raises:
        RequestTooLargeError: It is too large.
        InvalidRequestError: A header is not what it has to be; the message begins with its name.
    """
    if url_bytes > limits.max_url_bytes:
        raise RequestTooLargeError(f"The URL exceeds the maximum size of {limits.max_url_bytes} bytes")
    size = 0
    for name, value in headers:
        size += len(name) + len(value) + len(": \r\n")
        if name in FORWARDED:
            _check_forwarded(name.decode(), value, limits.max_header_value_bytes)
        elif name == PROVIDER_DATA and value:
            _check_provider_data(value)
    if size > limits.max_header_bytes:
        raise RequestTooLargeError(f"The headers exceed the maximum size of {limits.max_header_bytes} bytes")


def _check_forwarded(name: str, value: bytes, limit: int) -> None:
    if len(value) > limit:
        raise InvalidRequestError(f"{name}: Header should have at most {limit} bytes")
    if _UNPRINTABLE.search(value):
        raise InvalidRequestError(f"{name}: Header should be printable ASCII")


def _check_provider_data(value: bytes) -> None:
    name = PROVIDER_DATA.decode()
    try:
        data = orjson.loads(value)
        orjson.dumps(data)  # the host's own parser gives up where it is deep
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as exc:
        raise InvalidRequestError(f"{name}: Header is not valid JSON: {exc}") from None
    if not isinstance(data, dict):
        raise InvalidRequestError(f"{name}: Header should be a JSON object")
    for path, text in _texts(data, name):
        # The host keeps the user of a request beside what the client gave.
        if path.startswith(f"{name}.__"):
            raise InvalidRequestError(f"{name}: Names that begin with `__` are reserved")
        # Keys of upstreams are sent as headers.
        if _CONTROL.search(text) or (("key" in path or "token" in path) and not text.isascii()):
            raise InvalidRequestError(f"{path}: Value should have no control characters, and a key only ASCII")


def _texts(data: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """The names and texts of an object with their paths, without recursion: it may be a thousand deep."""
    waiting: list[tuple[str, Any]] = [(path, data)]
    while waiting:
        at, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{at}.{key}"[:200], each) for key, each in value.items()]
            yield from ((f"{at}.{key}"[:200], key) for key in value)
        elif isinstance(value, list):
            waiting += [(at, each) for each in value]
        elif isinstance(value, str):
            yield at, value


# --- the body ---


async def parse_request(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """The JSON object that a body is, within all limits.

    Raises:
        RequestTooLargeError: It has too many values.
        InvalidRequestError: It is no JSON object, or one of its parts is beyond a limit; see `check_request`.
    """
    if _roughly_too_many(body, limits.max_values) or _may_have_long_number(body, limits.max_number_length):
        await _check_tokens(body, limits)
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequestError(f"The request body is not valid JSON: {exc}") from None
    if not isinstance(request, dict):
        raise InvalidRequestError("The request body is not a JSON object")
    if len(body) > 2 * limits.max_depth:  # it takes two bytes to go one deeper
        _check_depth(request, limits.max_depth)
    check_request(request, limits)
    return request


def _roughly_too_many(body: bytes, limit: int) -> bool:
    if len(body) <= limit:
        return False
    found = 0
    for start in range(0, len(body), _STEP):
        found += sum(body.count(mark, start, start + _STEP) for mark in (b",", b"[", b"{"))
        if found > limit:
            return True
    return False


def _may_have_long_number(body: bytes, limit: int) -> bool:
    """Whether somewhere more than `limit` digits follow each other: they then fill one of the steps in half of that."""
    if len(body) <= limit:
        return False
    step = limit // 2 + 1
    starts = (found.start() * step for found in _DIGIT.finditer(body[::step]))
    return any(body[start : start + step].isdigit() for start in starts if len(body) >= start + step)


async def _check_tokens(body: bytes, limits: RequestLimits) -> None:
    """Look at everything that is in no string, a quarter of a megabyte at a time."""
    number = re.compile(rb"[0-9]{%d}" % (limits.max_number_length + 1))
    values, before = 0, b""
    for outside in _outside_strings(body):
        values += sum(outside.count(mark) for mark in (b",", b"[", b"{"))
        if values > limits.max_values:
            raise RequestTooLargeError(f"The request body has more than {limits.max_values} values")
        joined = before + outside
        if number.search(joined):
            raise InvalidRequestError(f"The request body has a number of more than {limits.max_number_length} digits")
        before = joined[len(joined.rstrip(_DIGITS)) :]
        await asyncio.sleep(0)


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """What is outside strings, piece by piece."""
    inside = escaped = False
    for start in range(0, len(body), _STEP):
        piece = body[start + escaped : start + _STEP]
        escaped = (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b" ".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0


def _check_depth(request: dict[str, Any], limit: int) -> None:
    """orjson refuses to write what is too deep, at a sixth of the cost of reading it."""
    deepened: Any = request
    for _ in range(_WRITTEN_LEVELS - limit):
        deepened = [deepened]
    try:
        orjson.dumps(deepened)
    except orjson.JSONEncodeError:
        raise InvalidRequestError(f"The request body is nested too deeply: more than {limit} levels") from None


# --- what it says ---


def check_request(request: Mapping[str, Any], limits: RequestLimits) -> None:
    """Refuse a request with too much of something; shapes are judged elsewhere.

    Raises:
        InvalidRequestError: The message begins with the path of the field.
    """
    if len(request) > limits.max_fields:
        raise InvalidRequestError(f"The request body should have at most {limits.max_fields} fields")
    model = request.get("model")
    if isinstance(model, str) and len(model) > limits.max_model_characters:
        raise InvalidRequestError(f"model: String should have at most {limits.max_model_characters} characters")
    messages = request.get("messages")
    _check_length(messages, "messages", limits.max_messages)
    _check_length(request.get("tools"), "tools", limits.max_tools)
    _check_length(request.get("stop_sequences"), "stop_sequences", limits.max_stop_sequences)
    _check_blocks(messages, limits.max_blocks)


def _check_length(value: Any, path: str, limit: int) -> None:
    if isinstance(value, list) and len(value) > limit:
        raise InvalidRequestError(f"{path}: List should have at most {limit} items")


def _check_blocks(messages: Any, limit: int) -> None:
    found = 0
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        found += len(content) if isinstance(content, list) else 0
        if found > limit:
            raise InvalidRequestError(f"messages.{index}.content: Messages should have at most {limit} blocks in all")
