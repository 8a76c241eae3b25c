"""Native streams that need no repair: bytes in, the same bytes out, cut where events end.

Only `message_start` is ever parsed, to exchange the model's name, and an error. What comes out always ends with a
blank line, so a ping or an error event of ours can follow it at any time.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream (lines that end with
a lone CR, which the page allows too, are held until the end of the stream: no engine sends them).
"""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from llama_stack_messages_provider.native.repair import told_error
from llama_stack_messages_provider.wire.sse import encode

__all__ = ["Relay"]

_ENDS = (b"\n\n", b"\n\r\n")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_COMMENTS = re.compile(rb"(?:(?::[^\n]*\n)+\r?\n)+")
_MODEL = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')
# What may follow the end of a message, and says nothing about it.
_TRAILERS = (b":", b"data: [DONE]", b"data:[DONE]")


class Relay:
    """Feed it the bytes of a native stream as they come; it returns those that make whole events.

    Args:
        model: The name that the client used, put into `message_start`; None leaves the upstream's.
        ping: What a comment that ends a silence becomes, once the message has started; None leaves it. Clients
            take no notice of comments, and some engines keep a stream alive with nothing else.
        patches: Bytes that an engine always gets wrong, and what is right. Give only what holds a bare quote: in
            text that comes from a model quotes are escaped, so it is never touched.
        request_id: Id of the request, for errors that are put in Anthropic's envelope.
    """

    __slots__ = (
        "_ended",
        "_failed",
        "_last",
        "_model",
        "_patches",
        "_ping",
        "_request_id",
        "_tail",
        "started",
    )

    def __init__(
        self,
        model: str | None = None,
        *,
        ping: bytes | None = None,
        patches: Sequence[tuple[bytes, bytes]] = (),
        request_id: str | None = None,
    ) -> None:
        self._model = model
        self._ping = ping
        self._patches = patches
        self._request_id = request_id
        self._tail = bytearray()
        self._last = b""
        self._ended = False
        self._failed = False
        self.started = False
        """Whether `message_start` came: from then on a ping may be sent."""

    @property
    def ended(self) -> bool:
        """Whether the stream came to its end: `message_stop`, or an error. Otherwise the upstream cut it."""
        return self._ended or _ends_message(self._last)

    def feed(self, data: bytes) -> bytes:
        """Take bytes, cut at any place. Nothing comes out after an error."""
        if self._tail or not data.endswith(_ENDS):
            data = self._whole_events(data)
        if not data or self._failed:
            return b""
        if not self.started:
            data = self._start(data)
        if data.startswith(_TRAILERS):
            self._ended = self.ended
            data = self._pinged(data)
        for wrong, right in self._patches:
            data = data.replace(wrong, right)
        # An error ends a stream, so it can only be the last event of a piece.
        last = data.rfind(b"\nevent: ", 0, -2) + 1
        if data.startswith(b"event: error", last):
            data = self._told(data, last)
        self._last = data
        return data

    def close(self) -> bytes:
        """The upstream is over: the last event, if only its blank line is missing. What was cut stays behind."""
        tail = bytes(self._tail).rstrip(b"\r\n")
        self._tail.clear()
        return self.feed(tail + b"\n\n") if _json_of(tail) is not None else b""

    def _whole_events(self, data: bytes) -> bytes:
        tail = self._tail
        kept = len(tail)
        tail += data
        end = _end_of_events(tail, kept, len(tail))
        whole = bytes(tail[:end])
        del tail[:end]
        return whole

    def _start(self, data: bytes) -> bytes:
        at = data.find(b"message_start")
        while at >= 0:
            begin = _end_of_events(data, 0, at)
            blank = _BLANK_LINE.search(data, at)
            end = blank.end() if blank else len(data)
            event = _json_of(data[begin:end])
            if isinstance(event, dict) and event.get("type") == "message_start":
                self.started = True
                return data[:begin] + self._renamed(data[begin:end], event) + data[end:]
            at = data.find(b"message_start", end)
        return data

    def _pinged(self, data: bytes) -> bytes:
        comments = _COMMENTS.match(data)
        if comments is None or self._ping is None or not self.started or self._ended:
            return data
        return self._ping + data[comments.end() :]

    def _told(self, data: bytes, begin: int) -> bytes:
        self._ended = self._failed = True
        event = _json_of(data[begin:])
        told = told_error(event, self._request_id) if isinstance(event, dict) else event
        return data if told is event else data[:begin] + encode(told)

    def _renamed(self, frame: bytes, event: dict[str, Any]) -> bytes:
        message = event.get("message")
        if self._model is None or not isinstance(message, dict) or message.get("model") in (None, self._model):
            return frame
        wanted = {**event, "message": {**message, "model": self._model}}
        # The bytes around the name stay as they are; another `model` in the same event is told by its effect.
        for found in _MODEL.finditer(frame):
            renamed = frame[: found.start(1)] + orjson.dumps(self._model) + frame[found.end(1) :]
            if _json_of(renamed) == wanted:
                return renamed
        return encode(wanted)


def _end_of_events(data: bytes | bytearray, start: int, end: int) -> int:
    """Where the last blank line that ends between `start` and `end` ends; 0 if there is none.

    Line by line from the end: two or three steps, since an event is two lines and a blank one.
    """
    at = data.rfind(b"\n", start, end)
    while at >= 0:
        before = data[max(0, at - 2) : at]
        if before in (b"", b"\r") or before.endswith((b"\n", b"\n\r")):
            return at + 1
        at = data.rfind(b"\n", start, at)
    return 0


def _ends_message(data: bytes) -> bool:
    while data := data.rstrip(b"\r\n"):
        begin = _end_of_events(data, 0, len(data))
        frame = data[begin:]
        if not frame.startswith(_TRAILERS):
            return _type_of(frame) in ("message_stop", "error")
        data = data[:begin]
    return False


def _type_of(frame: bytes) -> str | None:
    for line in frame.splitlines():
        if line.startswith(b"event:"):
            return line[6:].strip().decode(errors="replace")
    event = _json_of(frame)
    return event.get("type") if isinstance(event, dict) else None


def _json_of(frame: bytes) -> Any:
    """The data of one event, parsed; None if it is no JSON."""
    lines = (line[5:] for line in frame.splitlines() if line.startswith(b"data:"))
    try:
        return orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return None
