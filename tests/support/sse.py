"""Server-sent events, parsed from the whole byte string; shares no code with the package under test.

```
frames(raw)    [("message_start", "{...}"), ...]   event name ("" if none) and data, comments left out
comments(raw)  ["keep-alive", ...]
parse(raw)     [("message_start", {...}), ...]      data as JSON; `[DONE]` is left out
events(raw)    [{...}, ...]                         asserts that every frame is named after its type
```
A frame without its blank line is not dispatched: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import re
from collections.abc import Iterable

import orjson

from tests.support.wire import Json

__all__ = ["comments", "events", "frames", "parse"]

LINE_END = re.compile(rb"\r\n|\n|\r")


def _joined(raw: bytes | Iterable[bytes]) -> bytes:
    return raw if isinstance(raw, bytes) else b"".join(raw)


def comments(raw: bytes | Iterable[bytes]) -> list[str]:
    """The texts of comment lines."""
    lines = LINE_END.split(_joined(raw))
    return [line[1:].strip().decode() for line in lines if line.startswith(b":")]


def frames(raw: bytes | Iterable[bytes]) -> list[tuple[str, str]]:
    """Every dispatched frame's event name and data."""
    found: list[tuple[str, str]] = []
    name, data = "", list[str]()
    for line in LINE_END.split(_joined(raw))[:-1]:
        if not line:
            if data:
                found.append((name, "\n".join(data)))
            name, data = "", []
            continue
        key, _, value = line.decode().partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "data":
            data.append(value)
    return found


def parse(raw: bytes | Iterable[bytes]) -> list[tuple[str, Json]]:
    """Every frame's event name and JSON data."""
    return [(name, orjson.loads(data)) for name, data in frames(raw) if data != "[DONE]"]


def events(raw: bytes | Iterable[bytes]) -> list[Json]:
    """The data of an Anthropic stream.

    Raises:
        AssertionError: A frame is not named after its `type`, or the last one is cut.
    """
    whole = _joined(raw)
    assert not whole or LINE_END.split(whole)[-2:] == [b"", b""], "the stream ends within a frame"
    pairs = parse(whole)
    for name, data in pairs:
        assert name == data.get("type"), f"event: {name!r} carries type {data.get('type')!r}"
    return [data for _, data in pairs]
