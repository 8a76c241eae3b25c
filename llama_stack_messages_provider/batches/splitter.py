"""A batch's body cut into its requests as it arrives. Pure: bytes in, the bytes of whole requests out.

```
{  "key"  :  value  ,  ...  }          any value but that of `requests` is checked and dropped
             [ request , request ]     each comes out as soon as it is complete
```

Only where a value ends is looked for here, with regular expressions that consume what they match for good
(possessive ones): each byte is looked at a bounded number of times, however the body is nested or cut. Whether the
value is JSON is for its parser to say, which sees nothing that is nested deeper, longer, or of longer numbers than
the limits. The standard parsers that read as bytes arrive have no such limits, and crash.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from llama_stack_messages_provider.errors import InvalidRequestError, RequestTooLargeError

__all__ = ["RequestSplitter", "SplitterLimits"]

MAX_FIELDS = 100
"""Fields of the body itself, beside `requests`."""

MAX_KEY_BYTES = 1000
"""Bytes of the name of such a field."""

STEP = 5
"""Levels of nesting that are matched in one go."""

_WHITESPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = rb'"[^"\\]*+(?:"|(?:\\.[^"\\]*+)++")'
_FILLER = rb'[^"\[\]{}0-9]'  # commas, colons, white space, literals, signs
_KEY = re.compile(_STRING, re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR = re.compile(rb'[^ \t\n\r,:"\[\]{}]*+')
_NUMBER = re.compile(rb"-?([0-9.eE+-]*+)")
_KEY_BEFORE = re.compile(rb'"([\w-]{1,64})"[ \t\n\r]*+:[ \t\n\r]*+-?\Z')


@dataclass(frozen=True, slots=True)
class SplitterLimits:
    """What a request may be, while it is read.

    Args:
        depth: Levels of nesting in one of its fields.
        digits: Characters of a number, its sign aside.
        request_bytes: Bytes of one request.
    """

    depth: int
    digits: int
    request_bytes: int


class RequestSplitter:
    """Feed it the bytes of a body; `close` after the last.

    Raises:
        InvalidRequestError: The body is not a JSON object with a list of `requests`, or beyond a limit.
        RequestTooLargeError: A request has too many bytes.
    """

    def __init__(self, limits: SplitterLimits) -> None:
        self._limits = limits
        levels = limits.depth + 1  # a request is a level around its fields
        self._whole_request = _compiled(_group(min(STEP + 1, levels), limits.digits) + rb"[ \t\n\r]*+,[ \t\n\r]*+")
        self._buffer = bytearray()
        self._at = 0  # what comes before is understood
        self._step: Callable[[], bool] = self._begin
        self._key = ""
        self._fields = 0
        self._seen = False
        self._requests = 0
        self._found: list[bytes] = []
        # The value that is being read: where it begins, its brackets that are open, how many may be.
        self._start = 0
        self._depth = 0
        self._levels = 0
        self._in_string = False
        self._field_at = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The JSON texts of the requests that these bytes complete."""
        self._buffer += data
        while self._step():
            pass
        kept_from = self._start if self._step in (self._read_request, self._read_field) else self._at
        del self._buffer[:kept_from]
        self._at -= kept_from
        self._field_at -= kept_from
        self._start = 0
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        """The body is complete."""
        if self._step != self._end:
            raise _invalid("unexpected end of data")
        if not self._seen:
            raise InvalidRequestError("requests: Field required")

    # --- the steps: each goes on from `_at`, and returns False where it needs more bytes ---

    def _begin(self) -> bool:
        return self._expect({b"{": self._first_key}, "expected an object")

    def _first_key(self) -> bool:
        return self._expect({b'"': self._read_key, b"}": self._end}, "expected a field's name")

    def _next_key(self) -> bool:
        return self._expect({b'"': self._read_key}, "expected a field's name")

    def _read_key(self) -> bool:
        found = _KEY.match(self._buffer, self._at)
        if (found.end() if found else len(self._buffer)) - self._at > MAX_KEY_BYTES:
            raise InvalidRequestError(f"A field's name has more than {MAX_KEY_BYTES} bytes")
        if found is None:
            return False
        self._key = str(_parsed(found[0], "The request body"))
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise InvalidRequestError(f"The request body has more than {MAX_FIELDS} fields")
        return self._go(found.end(), self._colon)

    def _colon(self) -> bool:
        return self._expect({b":": self._start_field}, "expected a colon")

    def _start_field(self) -> bool:
        if self._key != "requests":
            return self._start_value(self._read_field, self._limits.depth)
        if self._seen:
            raise InvalidRequestError("requests: Field given twice")
        found = self._look()
        if found and found != b"[":
            raise InvalidRequestError("requests: Input should be a list")
        self._seen = bool(found)
        return self._seen and self._go(self._at + 1, self._first_request)

    def _read_field(self) -> bool:
        end = self._value_end()
        if end is None:
            return False
        _parsed(self._buffer[self._start : end], self._key[:64])
        return self._go(end, self._after_field)

    def _after_field(self) -> bool:
        return self._expect({b",": self._next_key, b"}": self._end}, "expected a comma or a brace")

    def _first_request(self) -> bool:
        found = self._look()
        if found == b"]":
            return self._go(self._at + 1, self._after_field)
        return bool(found) and self._go(self._at, self._start_request)

    def _start_request(self) -> bool:
        while found := self._whole_request.match(self._buffer, self._at):
            self._start = found.start(1)
            self._add_request(found.end(1))
            self._at = found.end()
        return self._start_value(self._read_request, self._limits.depth + 1)

    def _read_request(self) -> bool:
        end = self._value_end()
        if end is None:
            return False
        self._add_request(end)
        return self._go(end, self._after_request)

    def _after_request(self) -> bool:
        return self._expect({b",": self._start_request, b"]": self._after_field}, "expected a comma or a bracket")

    def _end(self) -> bool:
        if self._look():
            raise _invalid("unexpected data after the object")
        return False

    # --- what the steps are made of ---

    def _go(self, at: int, step: Callable[[], bool]) -> bool:
        self._at, self._step = at, step
        return True

    def _look(self) -> bytes:
        """The next byte that is no white space; empty if it has not come."""
        self._skip(_WHITESPACE)
        return self._next()

    def _next(self) -> bytes:
        return bytes(self._buffer[self._at : self._at + 1])

    def _skip(self, pattern: re.Pattern[bytes]) -> None:
        found = pattern.match(self._buffer, self._at)
        self._at = found.end() if found else self._at

    def _expect(self, steps: dict[bytes, Callable[[], bool]], otherwise: str) -> bool:
        """Go on by the next byte, and past it unless it opens a string."""
        found = self._look()
        if not found:
            return False
        if found not in steps:
            raise _invalid(otherwise)
        return self._go(self._at + (found != b'"'), steps[found])

    def _add_request(self, end: int) -> None:
        self._check_size(end)
        self._found.append(bytes(self._buffer[self._start : end]))
        self._requests += 1

    # --- one value ---

    def _start_value(self, step: Callable[[], bool], levels: int) -> bool:
        if not self._look():
            return False
        self._start = self._field_at = self._at
        self._depth, self._levels, self._in_string = 0, levels, False
        return self._go(self._at, step)

    def _value_end(self) -> int | None:
        """The end of the value that begins at `_start`; None if it has not come, and `_at` is how far it was read."""
        while self._at < len(self._buffer):
            if self._in_string:
                self._skip(_REST_OF_STRING)
                if self._next() != b'"':
                    break
                self._in_string = False
                self._at += 1
            elif self._depth:
                self._skip(_skipper(min(STEP, self._levels - self._depth), self._limits.digits))
                if not self._enter_or_leave(self._next()):
                    break
            elif not self._enter_or_leave(self._next()):
                return self._scalar_end()
            if not self._depth and not self._in_string:
                return self._at
        self._check_size(self._at)
        return None

    def _enter_or_leave(self, byte: bytes) -> bool:
        """Take a quote or a bracket. False for all else: nothing, or a number that is not complete."""
        if not byte:
            return False
        if byte == b'"':
            self._in_string = True
        elif byte in b"[{":
            self._enter()
        elif byte in b"]}" and self._depth:
            self._depth -= 1
        else:
            self._check_number()
            return False
        self._at += 1
        return True

    def _enter(self) -> None:
        if self._depth == 1:
            self._field_at = self._at
        if self._depth == self._levels:
            raise InvalidRequestError(f"{self._path()}: nested more than {self._limits.depth} levels deep")
        self._depth += 1

    def _scalar_end(self) -> int | None:
        """The end of a value that is neither a string nor has brackets; it is read anew until it is complete."""
        found = _SCALAR.match(self._buffer, self._start)
        end = found.end() if found else self._start
        complete = end < len(self._buffer) or end - self._start > self._limits.digits + 1
        return end if complete else None

    def _check_number(self) -> None:
        found = _NUMBER.match(self._buffer, self._at)
        if found and len(found[1]) > self._limits.digits:
            if self._depth == 1:
                self._field_at = self._at
            raise InvalidRequestError(f"{self._path()}: a number of more than {self._limits.digits} characters")

    def _check_size(self, end: int) -> None:
        if end - self._start > self._limits.request_bytes:
            name = f"requests.{self._requests}" if self._in_requests() else self._key[:64]
            raise RequestTooLargeError(f"{name}: exceeds the maximum size of {self._limits.request_bytes} bytes")

    def _in_requests(self) -> bool:
        return self._key == "requests"

    def _path(self) -> str:
        """The field that is being read: `requests.3.params`."""
        if not self._in_requests():
            return self._key[:64]
        before = bytes(self._buffer[max(self._start, self._field_at - 100) : self._field_at])
        field = _KEY_BEFORE.search(before)
        return f"requests.{self._requests}" + (f".{field[1].decode()}" if field else "")


def _element(digits: int) -> bytes:
    number = rb"[0-9][0-9.eE+-]{0,%d}+(?=[^0-9.eE+-])" % (digits - 1)
    return _STRING + _FILLER + rb"*+|" + _FILLER + rb"++|" + number


def _group(levels: int, digits: int) -> bytes:
    """Something in brackets with at most so many levels, as group 1."""
    inner = pattern = _element(digits)
    for _ in range(levels):
        pattern = rb"[\[{](?:" + inner + rb")*+[\]}]"
        inner = _element(digits) + rb"|" + pattern
    return rb"(" + pattern + rb")"


@cache
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


@cache
def _skipper(levels: int, digits: int) -> re.Pattern[bytes]:
    """What is complete within brackets: strings, scalars, and brackets of at most so many levels."""
    inner = _element(digits) + (rb"|" + _group(levels, digits).replace(b"(", b"(?:", 1) if levels else b"")
    return _compiled(rb"(?:" + inner + rb")*+")


def _parsed(text: bytes | bytearray, path: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"{path}: not valid JSON: {error.msg}") from None


def _invalid(text: str) -> InvalidRequestError:
    return InvalidRequestError(f"The request body is not valid JSON: {text}")
