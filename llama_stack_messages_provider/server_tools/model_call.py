"""One call of a model within a message of several: what it answered, whole or as events."""

from collections.abc import Callable, Mapping
from typing import Any

from llama_stack_messages_provider.translation.calls import parse_arguments

__all__ = ["ModelCall"]

type Event = dict[str, Any]

_END = ("stop_reason", "stop_sequence", "stop_details")
_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class ModelCall:
    """Takes a message, or the events of one.

    Args:
        first_index: The index of its first block in the whole message.
        seen_by_client: Makes the client's block of the model's.
        is_first: Whether the message starts with it.

    Attributes:
        content: The blocks.
        usage: What it cost.
        delta: How it ended: `stop_reason` and what else a `message_delta` has.
        message: The message without those, if it came whole.
    """

    def __init__(
        self, first_index: int, seen_by_client: Callable[[Mapping[str, Any]], dict[str, Any]], *, is_first: bool
    ) -> None:
        self._first_index = first_index
        self._is_first = is_first
        self._seen_by_client = seen_by_client
        self._arguments: list[str] = []
        self.content: list[dict[str, Any]] = []
        self.usage: dict[str, Any] = {}
        self.delta: dict[str, Any] = {"stop_reason": None}
        self.message: Mapping[str, Any] = {}

    def add_message(self, message: Mapping[str, Any]) -> None:
        """Take a whole message."""
        self.message = message
        self.content = [self._seen_by_client(block) for block in message["content"]]
        self.usage = dict(message.get("usage") or {})
        self.delta |= {name: message[name] for name in _END if name in message}

    def add_event(self, event: Event) -> Event | None:
        """Take an event; the one that the client gets. The end of a call is not yet the message's."""
        match event.get("type"):
            case "message_start":
                usage = (event.get("message") or {}).get("usage") or {}
                self.usage = {name: count for name, count in usage.items() if type(count) is int}
                return event if self._is_first else None
            case "content_block_start":
                return self._start(event)
            case "content_block_delta":
                self._grow(self.content[-1], event["delta"])
                return {**event, "index": self._index}
            case "content_block_stop":
                if self._arguments:
                    self.content[-1]["input"] = parse_arguments("".join(self._arguments))
                return {**event, "index": self._index}
            case "message_delta":
                self.usage = _updated(self.usage, event.get("usage") or {})
                self.delta = _updated(self.delta, event.get("delta") or {})
                return None
            case "message_stop":
                return None
            case _:
                return event

    @property
    def _index(self) -> int:
        return self._first_index + len(self.content) - 1

    def _start(self, event: Event) -> Event:
        block = self._seen_by_client(event["content_block"])
        self.content.append(dict(block))
        self._arguments = []
        return {**event, "index": self._index, "content_block": block}

    def _grow(self, block: dict[str, Any], delta: Mapping[str, Any]) -> None:
        kind = delta["type"]
        if kind == "input_json_delta":
            self._arguments.append(delta["partial_json"])
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        elif name := _DELTAS.get(kind):
            block[name] = (block.get(name) or "") + delta[name]


def _updated(fields: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with those that came later; null says nothing new."""
    return {**later, **fields, **{name: value for name, value in later.items() if value is not None}}
