"""Anthropic's turns to OpenAI's messages.

Each `tool_use` is answered by a `tool` message right behind it, whatever the client sent: a result without a call
becomes text of the user's turn, a call without a result gets one that says so. Consecutive turns of one role become
one message. Both are what chat templates insist on, and what interrupted or compacted conversations lack.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from llama_stack_messages_provider.translate.client_tools import ClientTools
from llama_stack_messages_provider.translate.content import Part, joined, to_parts, tool_result_parts
from llama_stack_messages_provider.translate.dialects import Dialect
from llama_stack_messages_provider.translate.losses import Losses
from llama_stack_messages_provider.translate.tools import ToolNames

__all__ = ["Conversation"]

_BETWEEN = "\n\n"
_NO_RESULT = "No result: the call was interrupted."


class Conversation:
    """Builds the messages, turn by turn.

    Args:
        dialect: The upstream's row.
        losses: Takes what cannot be carried.
        names: Shortens tool names.
        client_tools: Finds the function of a toolset's call.
        error_marker: Put before the content of a result whose `is_error` is true.
    """

    def __init__(
        self, dialect: Dialect, losses: Losses, names: ToolNames, client_tools: ClientTools, error_marker: str
    ) -> None:
        self._dialect = dialect
        self._losses = losses
        self._names = names
        self._client_tools = client_tools
        self._error_marker = error_marker
        self._unanswered: dict[str, None] = {}
        self._waiting_system: list[Part] = []
        self.messages: list[dict[str, Any]] = []

    def system(self, content: Any, path: str) -> None:
        """The system prompt, or a system turn in mid-conversation, which keeps its position."""
        parts = to_parts(content, path, self._losses)
        if self._unanswered:  # not between calls and their results
            self._waiting_system += parts
        else:
            self._add_system(parts)

    def user(self, content: Any, path: str) -> None:
        """A user turn: results first, as OpenAI's API wants them, then everything else in its order."""
        blocks: list[Mapping[str, Any]] = _blocks(content)
        pictures: list[Part] = []
        rest: list[Part] = []
        for index, block in enumerate(blocks):
            where = f"{path}.{index}"
            if block["type"] == "tool_result":
                self._result(block, where, pictures, rest)
            else:
                rest += self._parts([block], path, index)
        self._answer_the_rest(path)
        self._add("user", pictures + rest)

    def assistant(self, content: Any, path: str) -> None:
        """An assistant turn: text, calls, and thinking where the upstream takes it back."""
        self._answer_the_rest(path)
        blocks = _blocks(content)
        message: dict[str, Any] = {"role": "assistant"}
        text = joined([p for i, b in enumerate(blocks) if b["type"] not in _APART for p in self._parts([b], path, i)])
        if text:
            message["content"] = text
        thinking = "\n".join(b["thinking"] for b in blocks if b["type"] == "thinking" and b["thinking"])
        if thinking and self._dialect.reasoning:
            message[self._dialect.reasoning] = thinking
        if calls := [self._tool_call(b) for b in blocks if b["type"] == "tool_use"]:
            message["tool_calls"] = calls
            self._unanswered = {call["id"]: None for call in calls}
        if len(message) > 1:
            self._add_assistant(message)

    def close(self, path: str) -> list[dict[str, Any]]:
        """All messages, every call answered."""
        self._answer_the_rest(path)
        return self.messages

    def _parts(self, blocks: Iterable[Mapping[str, Any]], path: str, offset: int) -> list[Part]:
        return to_parts(blocks, path, self._losses, files=self._dialect.files, offset=offset)

    def _result(
        self, block: Mapping[str, Any], path: str, pictures: list[Part], rest: list[Part]
    ) -> None:
        parts = tool_result_parts(block, path, self._losses, files=self._dialect.files)
        text = _BETWEEN.join(p["text"] for p in parts if p["type"] == "text")
        others = [p for p in parts if p["type"] != "text"]
        if block.get("is_error"):
            text = self._error_marker + text
        tool_use_id = block["tool_use_id"]
        if tool_use_id not in self._unanswered:
            self._losses.repair(f"{path}.tool_use_id", f"no tool_use with the id {tool_use_id} in the turn before")
            rest.append({"type": "text", "text": f"Result of the tool call {tool_use_id}:\n{text}"})
            rest += others
            return
        del self._unanswered[tool_use_id]
        self.messages.append({"role": "tool", "tool_call_id": tool_use_id, "content": text})
        if others:
            pictures.append({"type": "text", "text": f"From the result of the tool call {tool_use_id}:"})
            pictures += others

    def _answer_the_rest(self, path: str) -> None:
        for tool_use_id in self._unanswered:
            self._losses.repair(path, f"there is no tool_result for the tool_use {tool_use_id}")
            content = self._error_marker + _NO_RESULT
            self.messages.append({"role": "tool", "tool_call_id": tool_use_id, "content": content})
        self._unanswered = {}
        waiting, self._waiting_system = self._waiting_system, []
        self._add_system(waiting)

    def _tool_call(self, block: Mapping[str, Any]) -> dict[str, Any]:
        name = self._client_tools.function_name(block)
        arguments = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
        function = {"name": self._names.sent(name), "arguments": arguments}
        return {"id": block["id"], "type": "function", "function": function}

    def _add_system(self, parts: list[Part]) -> None:
        if parts:
            self._add("system", parts)

    def _add(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        last = self.messages[-1] if self.messages else None
        if last is not None and last["role"] == role:
            last["content"] = joined([*_as_parts(last["content"]), *parts])
        else:
            self.messages.append({"role": role, "content": joined(parts)})

    def _add_assistant(self, message: dict[str, Any]) -> None:
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant":
            self.messages.append(message)
            return
        if "content" in message:
            last["content"] = joined([*_as_parts(last.get("content", [])), *_as_parts(message["content"])])
        if reasoning := self._dialect.reasoning:
            both = [m[reasoning] for m in (last, message) if reasoning in m]
            last.update({reasoning: "\n".join(both)} if both else {})
        if "tool_calls" in message:
            last["tool_calls"] = [*last.get("tool_calls", []), *message["tool_calls"]]


# Blocks of an assistant turn that have a place of their own in OpenAI's message.
_APART = frozenset({"tool_use", "thinking", "redacted_thinking"})


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _as_parts(content: str | list[Part]) -> list[Part]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
