"""Prompts and answers as the conventions' JSON, for whoever switched that on; bounded.

Shapes: docs/gen-ai/gen-ai-input-messages.json and gen-ai-output-messages.json of the semantic conventions 1.41.0.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

__all__ = ["MAX_CONTENT_CHARACTERS", "Written", "captures_content", "clipped", "prompt_attributes"]

_SWITCH = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON = frozenset({"true", "1", "span_only", "span_and_event"})

MAX_CONTENT_CHARACTERS: int = 32 * 1024
"""Characters of a prompt that one span holds, and of an answer: of a prompt the last ones, of an answer the first."""

_MOST_PARTS = 256


def captures_content() -> bool:
    """Whether the standard's switch asks for prompts and answers on spans."""
    return os.environ.get(_SWITCH, "").strip().lower() in _ON


def prompt_attributes(request: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of a prompt: its newest messages, as many as there is room for, and its system prompt."""
    room = _Room()
    messages: list[dict[str, Any]] = []
    turns = request.get("messages")
    for turn in reversed(turns if isinstance(turns, list) else []):
        if room.full:
            break
        if isinstance(turn, dict):
            messages.append({"role": str(turn.get("role"))[:20], "parts": _parts(turn.get("content"), room)})
    system = _parts(request.get("system"), _Room())
    found = {"gen_ai.input.messages": _dumped(messages[::-1])}
    return {**found, "gen_ai.system_instructions": _dumped(system)} if system else found


def clipped(value: Any) -> str:
    """The arguments or the result of a tool, as far as there is room."""
    return _dumped(value)[:MAX_CONTENT_CHARACTERS]


class Written:
    """The content of an answer, as it comes."""

    def __init__(self) -> None:
        self._room = _Room()
        self._parts: list[dict[str, Any]] = []

    def take(self, content: Any) -> None:
        """Take whole content."""
        self._parts = _parts(content, self._room)

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take an event of a stream."""
        block, delta = event.get("content_block"), event.get("delta")
        if isinstance(block, dict):
            self._parts += _parts([block], self._room)
        elif isinstance(delta, dict) and self._parts:
            part = self._parts[-1]
            said = delta.get("text") or delta.get("thinking") or delta.get("partial_json")
            field = "arguments" if part["type"] == "tool_call" else "content"
            before = part.get(field)
            part[field] = (before if isinstance(before, str) else "") + self._room.text(said)

    def as_json(self, stop_reason: str | None) -> str:
        """The one message that it is."""
        return _dumped([{"role": "assistant", "parts": self._parts, "finish_reason": stop_reason or "error"}])


class _Room:
    """How many characters and parts may still be taken."""

    def __init__(self) -> None:
        self._left = MAX_CONTENT_CHARACTERS
        self._parts = _MOST_PARTS

    @property
    def full(self) -> bool:
        return self._left <= 0 or self._parts <= 0

    def text(self, value: Any) -> str:
        """As much of a text as there is room for; of what is no text, its JSON."""
        # Nothing is written out in full to be cut: a part of a list is as small as its client made it.
        taken = value if isinstance(value, str) else "" if value is None else _dumped(value)
        taken = taken[: self._left]
        self._left -= len(taken)
        return taken

    def part(self) -> bool:
        self._parts -= 1
        return self._parts >= 0 and self._left > 0


def _parts(content: Any, room: _Room) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "content": room.text(content)}]
    blocks: Iterable[Any] = content if isinstance(content, list) else ()
    parts = []
    for block in blocks:
        if not room.part():
            break
        if isinstance(block, dict):
            parts.append(_part(block, room))
    return parts


def _part(block: Mapping[str, Any], room: _Room) -> dict[str, Any]:
    kind = str(block.get("type"))[:64]
    if kind == "text":
        return {"type": "text", "content": room.text(block.get("text"))}
    if kind == "thinking":
        return {"type": "reasoning", "content": room.text(block.get("thinking"))}
    if kind.endswith("tool_use"):
        name, ident = str(block.get("name"))[:200], str(block.get("id"))[:200]
        return {"type": "tool_call", "id": ident, "name": name, "arguments": room.text(block.get("input") or None)}
    if kind.endswith("_result"):
        ident = str(block.get("tool_use_id"))[:200]
        return {"type": "tool_call_response", "id": ident, "response": room.text(block.get("content"))}
    # Images and documents: that there was one.
    return {"type": kind}


def _dumped(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()
