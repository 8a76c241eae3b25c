"""The calls of a message that its client runs, whole or from its events."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from llama_stack_messages_provider.wire.sse import ServerSentEvent

__all__ = ["CallReader", "ToolCall", "calls_of"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as its client will run it.

    Args:
        id: Of the `tool_use` block.
        name: The tool's.
        input: The arguments.
        unjudged: Why it cannot be judged, if it cannot: a reason that clients know.
    """

    id: str
    name: str
    input: Any = None
    unjudged: str | None = None


def calls_of(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    """The calls of a whole message."""
    for block in message.get("content") or ():
        if _is_call(block):
            yield _call(block, block.get("input"))


def _is_call(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_use" and isinstance(block.get("id"), str)


def _call(block: Mapping[str, Any], given: Any) -> ToolCall:
    unjudged = None if isinstance(given, dict) else "input_unparsed"
    return ToolCall(block["id"], str(block.get("name")), given, unjudged)


class CallReader:
    """Feed it the events of a message; it gives each call once its block is complete.

    Args:
        limit: Bytes of arguments that are kept; a call with more cannot be judged.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Mapping[str, Any] | None = None
        self._arguments: list[bytes] = []
        self._size = 0

    def read(self, received: ServerSentEvent) -> ToolCall | None:
        """Take an event; the call that it completes."""
        match received.event:
            case b"content_block_start":
                block = _part(received, "content_block")
                self._open = block if _is_call(block) else None
                self._arguments, self._size = [], 0
            case b"content_block_delta" if self._open is not None:
                self._add(_part(received, "delta").get("partial_json"))
            case b"content_block_stop" if self._open is not None:
                block, self._open = self._open, None
                return self._whole(block)
        return None

    def _add(self, fragment: Any) -> None:
        data = fragment.encode() if isinstance(fragment, str) else b""
        self._size += len(data)
        if self._size <= self._limit:
            self._arguments.append(data)

    def _whole(self, block: Mapping[str, Any]) -> ToolCall:
        if self._size > self._limit:
            return ToolCall(block["id"], str(block.get("name")), unjudged="input_too_long")
        text = b"".join(self._arguments)
        try:
            given = orjson.loads(text) if text.strip() else block.get("input")
        except orjson.JSONDecodeError:
            given = None
        return _call(block, given)


def _part(received: ServerSentEvent, name: str) -> Mapping[str, Any]:
    try:
        part = orjson.loads(received.data).get(name)
    except (orjson.JSONDecodeError, AttributeError):
        return {}
    return part if isinstance(part, dict) else {}
