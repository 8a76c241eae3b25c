"""Plain turns to OpenAI's messages.

Consecutive turns of one role become one message. Calls have been paired with their results before: the `tool` messages
stand right behind their calls, and what else the user says stands behind them.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from llama_stack_messages_provider.rewriting.call_ids import decode_call_id
from llama_stack_messages_provider.translation.content import Part, joined, text_of, to_parts
from llama_stack_messages_provider.translation.tools import ToolNames

__all__ = ["Conversation"]

Block = Mapping[str, Any]

_BETWEEN = "\n\n"


class Conversation:
    """Builds the messages, turn by turn.

    Args:
        reasoning: The field of an assistant's message that replays its thinking, if the upstream takes one.
        names: Gives the names by which the upstream knows tools.
        model: The model that is asked, which gets back what ids of calls carry for it.
    """

    def __init__(
        self,
        reasoning: str | None,
        names: ToolNames,
        *,
        model: str = "",
    ) -> None:
        self._reasoning = reasoning
        self._names = names
        self._model = model
        self._messages: list[dict[str, Any]] = []

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages; their pieces become strings here, once, since a turn may have many."""
        return [*map(self._joined, self._messages)]

    def add(self, role: str, content: str | Iterable[Block] | None) -> None:
        """Take the next turn.

        Args:
            role: `system`, `user` or `assistant`.
            content: A string or plain blocks.
        """
        blocks: list[Block] = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
        if role == "assistant":
            self._assistant(blocks)
        elif role == "user":
            self._user(blocks)
        else:
            self._say(role, to_parts(blocks))

    def _user(self, blocks: list[Block]) -> None:
        """Results first, as OpenAI's API wants them; it takes pictures from the user only."""
        pictures: list[Part] = []
        for block in blocks:
            if block["type"] == "tool_result":
                pictures += self._result(block)
        self._say("user", pictures + to_parts(block for block in blocks if block["type"] != "tool_result"))

    def _result(self, block: Block) -> list[Part]:
        tool_use_id, parts = block["tool_use_id"], to_parts(block.get("content") or "")
        upstream_id = decode_call_id(tool_use_id, self._model).id
        self._messages.append({"role": "tool", "tool_call_id": upstream_id, "content": text_of(parts)})
        others = [part for part in parts if part["type"] != "text"]
        origin: Part = {"type": "text", "text": f"From the result of the tool call {tool_use_id}:"}
        return [origin, *others] if others else []

    def _say(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        if self._messages and self._messages[-1]["role"] == role:
            self._messages[-1]["content"] += parts
        else:
            self._messages.append({"role": role, "content": list(parts)})

    def _assistant(self, blocks: list[Block]) -> None:
        text = _text(blocks)
        thinking = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
        details = [each for block in blocks for each in block.get("reasoning_details") or ()]
        calls = [self._tool_call(block) for block in blocks if block["type"] == "tool_use"]
        if not (text or calls or details or (thinking and self._reasoning)):
            return
        if not self._messages or self._messages[-1]["role"] != "assistant":
            new: dict[str, Any] = {"role": "assistant", "content": [], "thinking": [], "details": [], "tool_calls": []}
            self._messages.append(new)
        last = self._messages[-1]
        last["content"] += [text] if text else []
        last["thinking"] += [thinking] if thinking else []
        last["details"] += details
        last["tool_calls"] += calls

    def _tool_call(self, block: Block) -> dict[str, Any]:
        arguments = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
        upstream = decode_call_id(block["id"], self._model)
        function = {"name": self._names.sent(block["name"]), "arguments": arguments}
        return {"id": upstream.id, "type": "function", "function": function, **upstream.extra}

    def _joined(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["role"] == "tool":
            return message
        if message["role"] != "assistant":
            return {"role": message["role"], "content": joined(message["content"])}
        whole: dict[str, Any] = {"role": "assistant"}
        if message["content"] or not message["tool_calls"]:  # thinking alone is no message
            whole["content"] = _BETWEEN.join(message["content"])
        if self._reasoning and message["thinking"]:
            whole[self._reasoning] = "\n".join(message["thinking"])
        if message["details"]:
            whole["reasoning_details"] = message["details"]
        if message["tool_calls"]:
            whole["tool_calls"] = message["tool_calls"]
        return whole


def _text(blocks: list[Block]) -> str:
    """The text of an assistant turn. A model's text is cut into blocks at any place, as between the thoughts of an
    upstream that thinks on while it answers: nothing goes between them.
    """
    pieces: list[str] = []
    cut = True
    for block in blocks:
        if block["type"] == "text" and block["text"]:
            pieces += [block["text"]] if cut or not pieces else [_BETWEEN, block["text"]]
        cut = block["type"] == "text" or (block["type"] == "thinking" and not block.get("signature"))
    return "".join(pieces)
