"""Native streams that need no repair: bytes in, the same bytes out, cut where events end.

Each event is read, since a client that cannot read one breaks; only `message_start` is changed, to exchange the
model's name, and an error. What comes out always ends with a blank line, so a ping or an error event of ours can
follow it at any time. After `message_stop` or an error nothing comes out.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream (lines that end with
a lone CR, which the page allows too, are held until the end of the stream: no engine sends them).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from llama_stack_messages_provider.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.native.message import error_event
from llama_stack_messages_provider.native.repair import NOT_JSON
from llama_stack_messages_provider.wire.lenient_json import read_leniently
from llama_stack_messages_provider.wire.sse import MAX_EVENT_BYTES, EventTooLargeError, encode

__all__ = ["Relay"]

_BOM = b"\xef\xbb\xbf"
_ENDS = (b"\n\n", b"\n\r\n")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_MODEL = re.compile(rb'"model"\s*:\s*(?=")')
# Nearly all that comes.
_DELTA = b"event: content_block_delta\ndata: "
_DELTA_BYTES = len(_DELTA)
_DONE = b"[DONE]"
# What clients look into without a second thought.
_OBJECTS: Mapping[str, str] = {
    "message_start": "message",
    "content_block_start": "content_block",
    "content_block_delta": "delta",
    "message_delta": "delta",
}
_ODD = "The upstream's answer is not a stream of messages' events"


class Relay:
    """Feed it the bytes of a native stream as they come; it returns those that make whole events.

    Args:
        model: The name that the client used, put into `message_start`; None leaves the upstream's.
        ping: What a comment becomes, once the message has started. Clients take no notice of comments, and some
            engines keep a stream alive with nothing else. None leaves it out.
        patches: Bytes that an engine always gets wrong, and what is right. Give only what holds a bare quote: in
            text that comes from a model quotes are escaped, so it is never touched.
        request_id: Id of the request, for errors that are put in Anthropic's envelope.
        max_event_bytes: The most that is held of an event that is not complete.

    Attributes:
        started: Whether `message_start` came: from then on a ping may be sent.
        ended: Whether the stream came to its end: `message_stop`, or an error. Otherwise the upstream cut it.
        failure: What is wrong with an event that came; nothing comes out from then on.
    """

    __slots__ = (
        "_begun",
        "_flowing",
        "_max",
        "_model",
        "_patches",
        "_ping",
        "_request_id",
        "_tail",
        "ended",
        "failure",
        "started",
    )

    def __init__(
        self,
        model: str | None = None,
        *,
        ping: bytes | None = None,
        patches: Sequence[tuple[bytes, bytes]] = (),
        request_id: str | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self._model = model
        self._ping = ping
        self._patches = patches
        self._request_id = request_id
        self._max = max_event_bytes
        self._tail = bytearray()
        self._begun = False
        self._flowing = False
        self.started = False
        self.ended = False
        self.failure: MessagesError | None = None

    def feed(self, data: bytes) -> bytes:
        """Take bytes, cut at any place.

        Raises:
            EventTooLargeError: An event does not end within the limit.
        """
        if self._tail or not data.endswith(_ENDS):
            data = self._whole_events(data)
        if self._flowing and data.startswith(_DELTA) and _are_deltas(data):
            return data
        out = b"".join(self._events(data))
        self._flowing = self.started and not (self.ended or self.failure)
        return out

    def close(self) -> bytes:
        """The upstream is over: the last event, if only its blank line is missing. What was cut stays behind."""
        tail = bytes(self._tail).rstrip(b"\r\n")
        self._tail.clear()
        return self.feed(tail + b"\n\n") if _value_of(_fields_of(tail)[1])[0] is not None else b""

    def _whole_events(self, data: bytes) -> bytes:
        tail = self._tail
        kept = len(tail)
        tail += data
        end = _end_of_events(tail, kept, len(tail))
        if len(tail) - end > self._max:
            raise EventTooLargeError(self._max)
        whole = bytes(tail[:end])
        del tail[:end]
        return whole

    def _events(self, data: bytes) -> Iterator[bytes]:
        if not self._begun and data:
            self._begun = True
            data = data.removeprefix(_BOM)
        commented = False
        for frame in _frames_of(data):
            if self.ended or self.failure:
                return
            if self.started and frame.startswith(_DELTA) and _are_deltas(frame):
                yield frame
                continue
            frame = frame.lstrip(b"\r\n")
            name, value = _fields_of(frame)
            if value is None:
                if self._ping and self.started and not commented and frame.startswith(b":"):
                    commented = True
                    yield self._ping
            elif value.strip() not in (b"", _DONE) and (self.started or name != "ping"):
                yield self._event(frame, name, value)

    def _event(self, frame: bytes, name: str, data: bytes) -> bytes:
        event, is_readable = _value_of(data)
        given = event.get("type") if isinstance(event, dict) else None
        kind = name or (given if isinstance(given, str) else "")
        if kind == "error":
            return self._error_frame(frame, event)
        if not isinstance(event, dict) or not isinstance(event.get(_OBJECTS.get(kind, ""), {}), dict):
            self.failure = UpstreamError(NOT_JSON if not isinstance(event, dict) else _ODD)
            return b""
        if kind == "message_start":
            return self._start(frame, event)
        self.ended = kind == "message_stop"
        if (kind and not name) or not is_readable:
            return encode({**event, "type": kind})
        for wrong, right in self._patches:
            frame = frame.replace(wrong, right)
        return frame

    def _start(self, frame: bytes, event: dict[str, Any]) -> bytes:
        if self.started:  # a second one
            return b""
        self.started = True
        message = event.get("message")
        if self._model is None or not isinstance(message, dict) or message.get("model") in (None, self._model):
            return frame
        wanted = {**event, "type": "message_start", "message": {**message, "model": self._model}}
        # The bytes around the name stay as they are; another `model` in the same event is told by its effect.
        given, new = orjson.dumps(message["model"]), orjson.dumps(self._model)
        for found in _MODEL.finditer(frame):
            if frame.startswith(given, found.end()):
                renamed = frame[: found.end()] + new + frame[found.end() + len(given) :]
                return renamed if _value_of(_fields_of(renamed)[1])[0] == wanted else encode(wanted)
        return encode(wanted)

    def _error_frame(self, frame: bytes, event: Any) -> bytes:
        self.ended = True
        mapped = error_event(event if isinstance(event, dict) else {"message": NOT_JSON}, self._request_id)
        return frame if mapped is event else encode(mapped)


def _are_deltas(data: bytes) -> bool:
    """Whether these events are deltas of content that any client can read."""
    try:
        if data.find(b"\n", _DELTA_BYTES) == len(data) - 2:  # one, as nearly always
            return type(orjson.loads(data[_DELTA_BYTES:-2]).get("delta")) is dict
        for frame in data[:-2].split(b"\n\n"):
            if not frame.startswith(_DELTA) or frame.find(b"\n", _DELTA_BYTES) >= 0:
                return False
            if type(orjson.loads(frame[_DELTA_BYTES:]).get("delta")) is not dict:
                return False
    except (orjson.JSONDecodeError, AttributeError):
        return False
    return True


def _frames_of(data: bytes) -> Iterator[bytes]:
    """The events of bytes that end with one, each with its blank line."""
    begin = 0
    for blank in _BLANK_LINE.finditer(data):
        yield data[begin : blank.end()]
        begin = blank.end()


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


def _fields_of(frame: bytes) -> tuple[str, bytes | None]:
    """The name of an event and its data, which is None where it has none."""
    first, _, second = frame.partition(b"\n")
    is_plain = second.find(b"\n") == len(second) - 2 and b"\r" not in frame
    if is_plain and first.startswith(b"event:") and second.startswith(b"data:"):
        return first[6:].strip().decode(errors="replace"), second[5:-2]
    name, data = "", []
    for line in frame.splitlines():
        if line.startswith(b"data:"):
            data.append(line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode(errors="replace")
    return name, b"\n".join(data) if data else None


def _value_of(data: bytes | None) -> tuple[Any, bool]:
    """The data of an event, parsed, and whether any client can read it as it is; None if it is no JSON."""
    try:
        return read_leniently(data or b"")
    except ValueError:
        return None, False
