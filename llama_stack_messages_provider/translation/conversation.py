"""Anthropic's turns to OpenAI's messages.

Each `tool_use` is answered by a `tool` message right behind it, whatever the client sent: a result without a call
becomes text of the user's turn, a call without a result gets one that says so, and what stands between calls and
their results waits until all are there. Consecutive turns of one role become one message. This is what chat templates
insist on, and what interrupted or compacted conversations lack.

Where web searches are run here, those of the history are calls and `tool` messages too: an assistant turn that goes on
after what it found is several messages.
"""

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ChatWording
from llama_stack_messages_provider.rewriting.call_ids import decode_call_id
from llama_stack_messages_provider.rewriting.documents import found_text
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.translation.content import Part, Place, joined, to_parts
from llama_stack_messages_provider.translation.tools import ToolPlan

__all__ = ["Conversation"]

Block = Mapping[str, Any]
Blocks = list[tuple[int, Block]]

_BETWEEN = "\n\n"
_REASONING = "reasoning_content"
# What LiteLLM sends to Moonshot: not empty, since some take that for none.
_NO_REASONING = " "
_THINKING = frozenset({"thinking", "redacted_thinking"})
_NO_RESULT = "No result: the call was interrupted."


class Conversation:
    """Builds the messages, turn by turn.

    Args:
        dialect: The upstream's row.
        losses: Takes what cannot be carried.
        plan: The tools: shortens their names, finds the function of a toolset's call.
        error_marker: Put before the content of a result whose `is_error` is true.
        signer: Reads what signatures and ids of calls carry.
        fill_reasoning: Give every message with calls some reasoning.
    """

    def __init__(
        self,
        dialect: ChatWording,
        losses: DroppedFields,
        plan: ToolPlan,
        error_marker: str,
        *,
        signer: Signer | None = None,
        fill_reasoning: bool = False,
    ) -> None:
        self._signer = signer
        self._model = signer.model if signer is not None else ""
        self._fill_reasoning = fill_reasoning
        self._dialect = dialect
        self._losses = losses
        self._plan = plan
        self._error_marker = error_marker
        self._unanswered: dict[str, None] = {}
        self._waiting: list[tuple[str, list[Part]]] = []
        self.messages: list[dict[str, Any]] = []

    def prompt(self, content: Any, path: str, *, offset: int = 0) -> None:
        """The system prompt; `offset` is where its first block stood in the request."""
        self._add("system", to_parts(content, path, self._losses, place="prompt", offset=offset))

    def system(self, content: Any, path: str) -> None:
        """A system turn in mid-conversation, which keeps its position; never between calls and their results."""
        self._say("system", self._parts(content or "", path, "system"))

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
                rest += self._parts([block], path, "user", index)
        self._say("user", pictures + rest)

    def assistant(self, content: Any, path: str) -> None:
        """An assistant turn: text, calls, and thinking where the upstream takes it back."""
        blocks = list(enumerate(_blocks(content)))
        if self._plan.search is not None:
            for part, searches, found in _around_searches(blocks, self._unanswered):
                self._assistant(part, path, searches)
                self.messages += [self._found(block, f"{path}.{index}.content") for index, block in found]
        else:
            self._assistant(blocks, path)

    def _assistant(self, blocks: Blocks, path: str, searches: Iterable[Block] = ()) -> None:
        if self._waiting or not self._goes_on():
            self._answer_the_rest(path)
        text = self._assistant_text(blocks, path)
        thinking, details = self._reasoning(blocks, path)
        calls = [*map(self._tool_call, searches), *self._tool_calls(blocks, path)]
        if not (text or calls or details or (thinking and self._dialect.reasoning)):
            return
        if not self._goes_on():
            self.messages.append({"role": "assistant", "content": [], "thinking": [], "details": [], "tool_calls": []})
        last = self.messages[-1]
        last["content"] += [text] if text else []
        last["thinking"] += [thinking] if thinking else []
        last["details"] += details
        last["tool_calls"] += calls

    def _reasoning(self, blocks: Blocks, path: str) -> tuple[str, list[Any]]:
        """The thinking of a turn, as one text as the upstream wrote it, and its `reasoning_details`."""
        texts, details = [], []
        for index, block in blocks:
            if block["type"] in _THINKING:
                carried = self._carried(block, f"{path}.{index}")
                texts.append(block.get("thinking") or str(carried.get("text") or ""))
                given = carried.get("details")
                details += given if isinstance(given, list) else []
        return "".join(texts), details

    def _carried(self, block: Block, path: str) -> dict[str, Any]:
        if self._signer is None:
            return {}
        name = "signature" if block["type"] == "thinking" else "data"
        carried = self._signer.carried(block.get("thinking") or "", block.get(name))
        if carried is None and not block.get("thinking"):
            self._losses.drop(path, "its signature is not one of this model's")
        if carried and "too_much" in carried:
            self._losses.drop(path, "the reasoning was too long to be carried")
        return carried or {}

    def close(self, path: str) -> list[dict[str, Any]]:
        """All messages, every call answered."""
        self._answer_the_rest(path)
        return [*map(self._joined, self.messages)]

    def _joined(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message whose pieces, collected in lists, have become strings: once, since a turn may have many."""
        if message["role"] in ("system", "user"):
            return {**message, "content": joined(message["content"])}
        if message["role"] == "tool":
            return message
        texts, thinking, details = message["content"], message["thinking"], message["details"]
        whole: dict[str, Any] = {"role": "assistant"}
        if texts or not message["tool_calls"]:  # thinking alone is no message
            whole["content"] = _BETWEEN.join(texts)
        reasoning = self._dialect.reasoning or (_REASONING if self._fill_reasoning else None)
        if thinking and reasoning:
            whole[reasoning] = "\n".join(thinking)
        elif reasoning and self._fill_reasoning and message["tool_calls"]:
            whole[reasoning] = _NO_REASONING
        if details:
            whole["reasoning_details"] = details
        if message["tool_calls"]:
            whole["tool_calls"] = message["tool_calls"]
        return whole

    def _goes_on(self) -> bool:
        """Whether the last message is the assistant's, so that another turn of it belongs to the same message."""
        return bool(self.messages) and self.messages[-1]["role"] == "assistant"

    def _say(self, role: str, parts: list[Part]) -> None:
        if parts:
            self._waiting.append((role, parts))
        if not self._unanswered:
            self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for role, parts in waiting:
            self._add(role, parts)

    def _parts(self, blocks: str | Iterable[Mapping[str, Any]], path: str, place: Place, offset: int = 0) -> list[Part]:
        dialect, sent = self._dialect, self._plan.names.sent
        takes = {"files": dialect.files, "images": dialect.images}
        return to_parts(blocks, path, self._losses, place=place, sent=sent, offset=offset, **takes)

    def _assistant_text(self, blocks: Blocks, path: str) -> str:
        """The text of an assistant turn. A model's text is cut into blocks at any place: nothing goes between them."""
        pieces: list[str] = []
        last = ""
        for index, block in blocks:
            if block["type"] not in _APART:
                piece = _BETWEEN.join(part["text"] for part in self._parts([block], path, "assistant", index))
                if pieces and piece and not last == block["type"] == "text":
                    pieces.append(_BETWEEN)
                pieces += [piece] if piece else []
            last = block["type"]
        return "".join(pieces)

    def _result(self, block: Mapping[str, Any], path: str, pictures: list[Part], rest: list[Part]) -> None:
        parts = self._parts(block.get("content") or "", f"{path}.content", "result")
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
        self.messages.append(self._answered(tool_use_id, text))
        if others:
            pictures.append({"type": "text", "text": f"From the result of the tool call {tool_use_id}:"})
            pictures += others

    def _answered(self, tool_use_id: str, content: str) -> dict[str, Any]:
        upstream_id = decode_call_id(tool_use_id, self._model).id
        return {"role": "tool", "tool_call_id": upstream_id, "content": content}

    def _answer_the_rest(self, path: str) -> None:
        for tool_use_id in self._unanswered:
            self._losses.repair(path, f"there is no tool_result for the tool_use {tool_use_id}")
            content = self._error_marker + _NO_RESULT
            self.messages.append(self._answered(tool_use_id, content))
        self._unanswered = {}
        self._release()

    def _tool_calls(self, blocks: Blocks, path: str) -> list[dict[str, Any]]:
        calls = []
        for index, block in blocks:
            if block["type"] != "tool_use":
                continue
            if block["id"] in self._unanswered:
                self._losses.repair(f"{path}.{index}.id", f"there are two tool_use blocks with the id {block['id']}")
                continue
            self._unanswered[block["id"]] = None
            calls.append(self._tool_call(block))
        return calls

    def _tool_call(self, block: Mapping[str, Any]) -> dict[str, Any]:
        name = self._plan.client_tools.function_name(block)
        arguments = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
        function = {"name": self._plan.names.sent(name), "arguments": arguments}
        upstream = decode_call_id(block["id"], self._model)
        return {"id": upstream.id, "type": "function", "function": function, **upstream.extra}

    def _found(self, block: Block, path: str) -> dict[str, Any]:
        text, is_error = found_text(block["content"], path, self._losses)
        marked = self._error_marker + text if is_error else text
        return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": marked}

    def _add(self, role: str, parts: list[Part]) -> None:
        if not parts:
            return
        last = self.messages[-1] if self.messages else None
        if last is not None and last["role"] == role:
            last["content"] += parts
        else:
            self.messages.append({"role": role, "content": list(parts)})


# Blocks of an assistant turn that have a place of their own in OpenAI's message.
_APART = frozenset({"tool_use", "thinking", "redacted_thinking"})


def _around_searches(blocks: Blocks, taken: Container[str]) -> Iterator[tuple[Blocks, list[Block], Blocks]]:
    """The parts of an assistant turn: what was said, the searches after it, and what they found.

    The client's calls come in the last part, since their results are in the next turn. A search without a result, or a
    result without its search, is said; so is one whose id is taken by a call that has no result yet.
    """
    answered = set(_answered_searches(blocks))
    said: Blocks = []
    later: Blocks = []
    searches: dict[str, Block] = {}
    waiting: set[str] = set()
    found: Blocks = []
    for index, block in blocks:
        if block["type"] == "tool_use":
            later.append((index, block))
        elif block["type"] == "web_search_tool_result" and block["tool_use_id"] in waiting:
            found.append((index, block))
            waiting.discard(block["tool_use_id"])
        else:
            if found and not waiting:
                yield said, [*searches.values()], found
                said, searches, found = [], {}, []
            if index in answered and block["id"] not in taken and block["id"] not in searches:
                searches[block["id"]] = block
                waiting.add(block["id"])
            else:
                said.append((index, block))
    if found:
        yield said, [*searches.values()], found
        said = []
    yield said + later, [], []


def _answered_searches(blocks: Blocks) -> Iterator[int]:
    """The places of the searches that have a result behind them, one for each id at a time."""
    open_searches: dict[str, int] = {}
    for index, block in blocks:
        if block["type"] == "server_tool_use" and block["name"] == "web_search":
            open_searches.setdefault(block["id"], index)
        elif block["type"] == "web_search_tool_result" and block["tool_use_id"] in open_searches:
            yield open_searches.pop(block["tool_use_id"])


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
