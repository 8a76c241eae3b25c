"""Server-sent events: events to bytes, bytes to events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

__all__ = ["PING", "SSEDecoder", "ServerSentEvent", "encode", "encode_all"]

PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def encode(event: Mapping[str, Any]) -> bytes:
    """One event as Anthropic frames it: an `event:` line with its type, and one `data:` line."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def encode_all(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Several events as one piece of bytes."""
    return b"".join(map(encode, events))


class ServerSentEvent:
    """An event as it was received: its name (empty where there was none) and its data."""

    __slots__ = ("data", "event")

    def __init__(self, event: bytes, data: bytes) -> None:
        self.event = event
        self.data = data

    def frame(self) -> bytes:
        """Its bytes, framed as `encode` does; several lines of data stay several."""
        return b"event: %b\ndata: %b\n\n" % (self.event, self.data.replace(b"\n", b"\ndata: "))

    def __repr__(self) -> str:
        return f"ServerSentEvent(event={self.event!r}, data={self.data!r})"


class SSEDecoder:
    """Feed it bytes as they come; it returns the events that are complete.

    Lines end with LF, CRLF or CR; several `data:` lines are joined with LF; comments and other fields are passed over.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._event = b""
        self._data: list[bytes] = []
        self._cr = False

    def decode(self, data: bytes) -> list[ServerSentEvent]:
        """Take bytes, cut at any place."""
        if not data:
            return []
        if self._cr and data[:1] == b"\n":  # the second half of a CRLF
            data = data[1:]
        self._cr = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = (self._rest + data).split(b"\n")
        events: list[ServerSentEvent] = []
        for line in lines:
            self._line(line, events)
        return events

    def flush(self) -> list[ServerSentEvent]:
        """The stream is over: an event whose blank line is missing still counts."""
        events: list[ServerSentEvent] = []
        self._line(self._rest, events)
        self._line(b"", events)
        self._rest = b""
        return events

    def _line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            if self._data:
                events.append(ServerSentEvent(self._event, b"\n".join(self._data)))
                self._data = []
            self._event = b""
        elif line.startswith(b"event:"):
            self._event = line[7:] if line[6:7] == b" " else line[6:]
        elif line == b"data":
            self._data.append(b"")
