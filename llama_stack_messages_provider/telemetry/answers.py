"""What an answer says of itself: its id, its end, what it cost. Read beside it, and only where somebody listens."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.telemetry.content import Written
from llama_stack_messages_provider.telemetry.operation import Attributes, known_error
from llama_stack_messages_provider.wire.sse import SSEDecoder

__all__ = ["AnswerReader"]

_TOLD = re.compile(rb"message_start|message_delta|event: error")
_CONTENT = b"content_block_delta"
_CACHED = {"read": "cache_read_input_tokens", "creation": "cache_creation_input_tokens"}


class AnswerReader:
    """Reads one message, whole or by its events.

    Args:
        written: Takes its content, where that is captured.
    """

    __slots__ = ("_usage", "_written", "begun", "error", "message_id", "over", "stop_reason")

    def __init__(self, written: Written | None = None) -> None:
        self._written = written
        self._usage: dict[str, Any] = {}
        self.message_id: str | None = None
        self.stop_reason: str | None = None
        self.error: str | None = None
        """The type of the error that ended a stream."""
        self.begun = False
        """There was a piece of content."""
        self.over = False
        """A stream has told its end."""

    def take(self, message: Mapping[str, Any]) -> None:
        """Read a whole message."""
        self.message_id = _text(message.get("id"))
        self.stop_reason = _text(message.get("stop_reason"))
        self._add(message.get("usage"))
        if self._written is not None:
            self._written.take(message.get("content"))

    def feed(self, piece: bytes) -> None:
        """Read whole events of a stream."""
        self.begun = self.begun or _CONTENT in piece
        self.over = self.over or b"message_stop" in piece
        for frames in [piece] if self._written is not None else _telling(piece):
            for received in SSEDecoder().decode(frames):
                self._event(received.data)

    def _event(self, data: bytes) -> None:
        try:
            event = orjson.loads(data)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        kind = event.get("type")
        if kind == "message_start" and isinstance(message := event.get("message"), dict):
            self.message_id = _text(message.get("id"))
            self._add(message.get("usage"))
        elif kind == "message_delta":
            delta = event.get("delta")
            self.stop_reason = _text(delta.get("stop_reason")) if isinstance(delta, dict) else None
            self._add(event.get("usage"))
        elif kind == "error":
            error = event.get("error")
            self.error = known_error(str(error.get("type")) if isinstance(error, dict) else "")
        elif self._written is not None:
            self._written.feed(event)

    def _add(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    @property
    def told(self) -> bool:
        """Whether it told what it cost."""
        return "output_tokens" in self._usage

    @property
    def input_tokens(self) -> int:
        """All tokens of the prompt: Anthropic's `input_tokens` are those that no cache had to do with."""
        return self._tokens("input_tokens") + sum(map(self._tokens, _CACHED.values()))

    @property
    def output_tokens(self) -> int:
        """The tokens that were generated."""
        return self._tokens("output_tokens")

    def cached(self) -> dict[str, int]:
        """Tokens that were read from a cache, and written to one."""
        return {kind: tokens for kind, name in _CACHED.items() if (tokens := self._tokens(name))}

    def attributes(self) -> Attributes:
        """The attributes of the span of whoever asked for the message."""
        told: dict[str, Any] = {}
        if self.message_id:
            told["gen_ai.response.id"] = self.message_id
        if self.stop_reason:
            told["gen_ai.response.finish_reasons"] = [self.stop_reason]
        if self.told:
            told["gen_ai.usage.input_tokens"] = self.input_tokens
            told["gen_ai.usage.output_tokens"] = self.output_tokens
        told |= {f"gen_ai.usage.cache_{kind}.input_tokens": tokens for kind, tokens in self.cached().items()}
        if self._written is not None:
            told["gen_ai.output.messages"] = self._written.as_json(self.stop_reason)
        return told

    def _tokens(self, name: str) -> int:
        value = self._usage.get(name)
        return value if type(value) is int else 0


def _telling(piece: bytes) -> Iterator[bytes]:
    """The events of a piece that tell something: few of many do."""
    at = 0
    while found := _TOLD.search(piece, at):
        before, after = piece.rfind(b"\n\n", at, found.start()), piece.find(b"\n\n", found.end())
        begin = at if before < 0 else before + 2
        at = len(piece) if after < 0 else after + 2
        yield piece[begin:at]


def _text(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) else None
