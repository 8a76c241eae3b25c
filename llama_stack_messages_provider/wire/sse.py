"""Server-sent events: events to bytes, bytes to events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.errors import UpstreamError

__all__ = ["MAX_EVENT_BYTES", "PING", "EventTooLargeError", "SSEDecoder", "ServerSentEvent", "encode", "encode_all"]

PING = b'event: ping\ndata: {"type":"ping"}\n\n'

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The largest event that is held in memory, unless told otherwise."""

_BOM = b"\xef\xbb\xbf"


class EventTooLargeError(UpstreamError):
    """An event, or a line of one, does not end within the limit.

    Args:
        limit: The limit, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"The upstream sent an event of more than {limit} bytes", headers={"x-should-retry": "false"})


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

    Lines end with LF, CRLF or CR; several `data:` lines are joined with LF; comments, other fields and a byte order
    mark at the start are passed over. Time and memory are linear in what comes, however it is cut.

    Args:
        max_event_bytes: The most that is held of an event that is not complete.
    """

    __slots__ = ("_begun", "_cr", "_data", "_data_bytes", "_event", "_fresh", "_line_bytes", "_line_parts", "_max")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._line_parts: list[bytes] = []
        self._event = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._line_bytes = 0
        self._cr = False
        self._begun = False
        # Whether the next byte begins an event, which most pieces of a stream do.
        self._fresh = True

    def decode(self, data: bytes) -> list[ServerSentEvent]:
        """Take bytes, cut at any place.

        Raises:
            EventTooLargeError: What is held has become too much.
        """
        is_begun = self._begun or not data.startswith(_BOM[:1])
        if self._fresh and is_begun and data[-2:] == b"\n\n" and b"\r" not in data:
            self._begun = True
            return self._whole(data)
        if not data:
            return []
        if not self._begun and not (data := self._after_bom(data)):
            return []
        if self._cr and data[:1] == b"\n":  # the second half of a CRLF
            data = data[1:]
        self._cr = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[ServerSentEvent] = []
        self._lines(data, events)
        self._fresh = self._begun and not (self._line_bytes or self._event or self._data or self._cr)
        return events

    def flush(self) -> list[ServerSentEvent]:
        """The stream is over: an event whose blank line is missing still counts."""
        events: list[ServerSentEvent] = []
        self._lines(b"\n\n", events)
        return events

    def _whole(self, data: bytes) -> list[ServerSentEvent]:
        """The events of bytes that begin and end with one."""
        events: list[ServerSentEvent] = []
        for frame in data[:-2].split(b"\n\n"):
            name, _, line = frame.partition(b"\n")
            if not line and name[:6] == b"data: ":
                events.append(ServerSentEvent(b"", name[6:]))
            elif name[:7] == b"event: " and line[:6] == b"data: " and b"\n" not in line:
                events.append(ServerSentEvent(name[7:], line[6:]))
            else:
                self._lines(frame + b"\n\n", events)
        return events

    def _after_bom(self, data: bytes) -> bytes:
        """The first bytes without a byte order mark; none while they may still be one."""
        head = b"".join(self._line_parts) + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._line_parts = [head]
            self._fresh = False
            return b""
        self._begun = True
        self._line_parts = []
        return head.removeprefix(_BOM)

    def _lines(self, data: bytes, events: list[ServerSentEvent]) -> None:
        *lines, rest = data.split(b"\n")
        if lines and self._line_parts:
            lines[0] = b"".join((*self._line_parts, lines[0]))
            self._line_parts = []
        for line in lines:
            self._line(line, events)
        if lines:
            self._line_bytes = 0
        if rest:
            self._line_parts.append(rest)
            self._line_bytes += len(rest)
        if self._line_bytes + self._data_bytes > self._max:
            raise EventTooLargeError(self._max)

    def _line(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if line.startswith(b"data:"):
            self._data_bytes += len(line)
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            if self._data:
                events.append(ServerSentEvent(self._event, b"\n".join(self._data)))
                self._data = []
                self._data_bytes = 0
            self._event = b""
        elif line.startswith(b"event:"):
            self._event = line[7:] if line[6:7] == b" " else line[6:]
        elif line == b"data":
            self._data_bytes += len(line)
            self._data.append(b"")
