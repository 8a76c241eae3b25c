"""A whole message as the events of a stream, and the other way round: upstreams that answer in the other shape."""

from collections.abc import Iterator
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import from_event
from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.native.message import Event, Sign
from llama_stack_messages_provider.native.repair import StreamRepair
from llama_stack_messages_provider.wire.lenient_json import JSONReader
from llama_stack_messages_provider.wire.sse import SSEDecoder, encode_all

__all__ = ["EARLY_END", "looks_like_events", "looks_whole", "message_as_stream", "stream_as_message"]

EARLY_END = "The upstream's stream ended before its message did"

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_STRINGS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def looks_like_events(head: bytes) -> bool:
    """Whether a body begins as a stream of events does, whatever its content type says."""
    return head.removeprefix(_BOM).lstrip().startswith(_FIELDS)


def looks_whole(head: bytes) -> bool:
    """Whether a body begins as JSON or a page does, and no stream of events."""
    return head.removeprefix(_BOM).lstrip()[:1] in (b"{", b"[", b"<")


def message_as_stream(message: Event) -> bytes:
    """The events of a whole message, in which the blocks' content still comes with their starts."""
    return encode_all(_events_of(message))


def _events_of(message: Event) -> Iterator[Event]:
    yield {"type": "message_start", "message": {**message, "content": []}}
    for index, block in enumerate(message.get("content") or []):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    delta = {name: message[name] for name in ("stop_reason", "stop_sequence") if name in message}
    yield {"type": "message_delta", "delta": delta, "usage": message.get("usage") or {}}
    yield {"type": "message_stop"}


def stream_as_message(body: bytes, sign: Sign, *, message_id: str, model: str) -> Event:
    """The message of a whole stream.

    Raises:
        MessagesError: The stream's error, or it has no end.
    """
    decoder, reader = SSEDecoder(), JSONReader()
    repair = StreamRepair(sign, message_id=message_id, model=model)
    message = _Folded()
    for received in (*decoder.decode(body), *decoder.flush()):
        if received.data.strip() in (b"", b"[DONE]"):
            continue
        for event in repair.feed(reader.read(received.data), received.event.decode(errors="replace")):
            message.add(event)
    if not repair.finished:
        raise UpstreamError(EARLY_END)
    return message.fields


class _Folded:
    """A message that grows by the events of its stream."""

    def __init__(self) -> None:
        self.fields: Event = {}
        self._parts: list[str] = []
        self._field = ""

    def add(self, event: Event) -> None:
        """Take the next event, in a stream that obeys the grammar."""
        match event["type"]:
            case "error":
                raise from_event(event)
            case "message_start":
                self.fields = {**event["message"], "content": []}
            case "content_block_start":
                self.fields["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                self._delta(event["delta"])
            case "content_block_stop":
                self._end()
            case "message_delta":
                self.fields |= event["delta"]
                self.fields["usage"] = {**self.fields["usage"], **event["usage"]}

    def _delta(self, delta: Event) -> None:
        if delta["type"] == "citations_delta":
            block = self.fields["content"][-1]
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
            return
        field = _STRINGS.get(delta["type"], "input")
        if field != self._field:
            self._end()
        self._field = field
        self._parts.append(delta["partial_json"] if field == "input" else delta[field])

    def _end(self) -> None:
        text, self._parts = "".join(self._parts), []
        if text:
            block: dict[str, Any] = self.fields["content"][-1]
            block[self._field] = orjson.loads(text) if self._field == "input" else text
