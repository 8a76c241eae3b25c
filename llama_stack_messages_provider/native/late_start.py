"""The start of a stream whose upstream is still silent."""

from collections.abc import Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.translation.answer import message_skeleton
from llama_stack_messages_provider.translation.reasons import usage_of
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode

__all__ = ["LateMessageStart"]

# What only a native upstream's `message_start` may count; the documentation lets `message_delta` count it too.
_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class LateMessageStart:
    """Whether `message_start` has gone out before the upstream said anything.

    Args:
        message_id: Id of the message.
        model: The name that the client used.
        request_id: Id of the request, for errors in the stream.

    Attributes:
        diagnostics: What the message tells of its prompt's cache; None is nothing.
    """

    __slots__ = ("_model", "_usage", "diagnostics", "message_id", "request_id", "sent")

    def __init__(self, message_id: str, model: str, request_id: str) -> None:
        self.message_id = message_id
        self.request_id = request_id
        self._model = model
        self._usage: Mapping[str, Any] = {}
        self.sent = False
        self.diagnostics: dict[str, Any] | None = None

    def now(self) -> bytes:
        """The event, which is then not sent again."""
        self.sent = True
        message = message_skeleton(self.message_id, self._model, usage_of(None))
        told = {} if self.diagnostics is None else {"diagnostics": self.diagnostics}
        return encode({"type": "message_start", "message": {**message, **told}})

    def merged(self, piece: bytes) -> bytes:
        """What comes after the event of a native stream that has one of its own.

        Its `message_start` is left out, and the input tokens in it are told by `message_delta`.

        Args:
            piece: Whole events.
        """
        if b"message_start" not in piece and b"message_delta" not in piece:
            return piece
        return b"".join(map(self._merge, SSEDecoder().decode(piece)))

    def _merge(self, received: ServerSentEvent) -> bytes:
        if received.event == b"message_start":
            message = _object(orjson.loads(received.data)).get("message")
            self._usage = _object(_object(message).get("usage"))
            return b""
        if received.event != b"message_delta":
            return received.frame()
        event = _object(orjson.loads(received.data))
        usage = _object(event.get("usage"))
        known = {name: self._usage[name] for name in _INPUT if self._usage.get(name) and not usage.get(name)}
        return encode({**event, "usage": {**usage, **known}}) if known else received.frame()


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
