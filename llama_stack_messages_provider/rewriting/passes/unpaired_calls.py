"""Calls without results, results without calls, and what stands between them.

Chat templates insist that each call is answered right behind it, and interrupted or compacted conversations do not have
that: a result without a call becomes text, a call without a result gets one that says so, and what stands between calls
and their results waits until all are there.
"""

from typing import Any

from llama_stack_messages_provider.rewriting.draft import Block, Draft, Placed, Turn, text_block

FEATURES = frozenset({"unpaired_call"})
ORDER = 130

_NO_RESULT = "No result: the call was interrupted."


def rewrite(draft: Draft) -> None:
    """Each turn with calls is followed by one turn with all their results."""
    pairing = _Pairing(draft)
    for turn in draft.turns:
        pairing.add(turn)
    draft.turns = pairing.finished()


class _Pairing:
    """Puts calls and results together, turn by turn."""

    def __init__(self, draft: Draft) -> None:
        self._dropped = draft.dropped
        self._marker = draft.options.tool_error_marker
        self._turns: list[Turn] = []
        self._open: dict[str, None] = {}
        self._results: list[Placed] = []
        self._waiting: list[Turn] = []

    def add(self, turn: Turn) -> None:
        """Take the next turn."""
        if turn.role == "assistant":
            self._assistant(turn)
        elif turn.role == "user":
            self._user(turn)
        else:
            self._wait(turn)

    def finished(self) -> list[Turn]:
        """All turns, every call answered."""
        self._answer("messages")
        return self._turns

    def _assistant(self, turn: Turn) -> None:
        if self._waiting or self._results or not (self._turns and self._turns[-1].role == "assistant"):
            self._answer(turn.path)
        kept: list[Placed] = []
        for placed in turn.blocks:
            block = placed.value
            if block["type"] == "tool_use" and block["id"] in self._open:
                self._dropped.repair(f"{placed.path}.id", f"there are two tool_use blocks with the id {block['id']}")
                continue
            if block["type"] == "tool_use":
                self._open[block["id"]] = None
            kept.append(placed)
        if len(kept) < len(turn.blocks):
            turn = Turn(turn.path, turn.message, kept, changed=True)
        self._turns.append(turn)

    def _user(self, turn: Turn) -> None:
        rest: list[Placed] = []
        results: list[Placed] = []
        for placed in turn.blocks:
            if placed.value["type"] != "tool_result":
                rest.append(placed)
            elif placed.value["tool_use_id"] in self._open:
                del self._open[placed.value["tool_use_id"]]
                results.append(placed)
            else:
                rest += self._orphan(placed)
        orphans = len(rest) + len(results) != len(turn.blocks) or any(p.made for p in rest)
        if not (self._open or self._waiting or self._results or orphans):
            self._turns.append(turn)  # as it is
            return
        self._results += results
        if rest:
            turn = Turn(turn.path, turn.message, rest, changed=turn.changed or bool(results) or orphans)
            self._waiting.append(turn)
        if not self._open:
            self._release(turn.message)

    def _wait(self, turn: Turn) -> None:
        if self._open:
            self._waiting.append(turn)
        else:
            self._turns.append(turn)

    def _orphan(self, placed: Placed) -> list[Placed]:
        block = placed.value
        tool_use_id, path = block["tool_use_id"], placed.path
        self._dropped.repair(f"{path}.tool_use_id", f"no tool_use with the id {tool_use_id} in the turn before")
        content: Any = block.get("content") or ""
        blocks = [text_block(content)] if isinstance(content, str) else content
        text = "\n\n".join(each["text"] for each in blocks if each["type"] == "text" and each["text"])
        head: Block = text_block(f"Result of the tool call {tool_use_id}:\n{text}")
        return [Placed(path, each, made=True) for each in (head, *(b for b in blocks if b["type"] != "text"))]

    def _answer(self, path: str) -> None:
        """Answer the calls that were not answered."""
        for tool_use_id in self._open:
            self._dropped.repair(path, f"there is no tool_result for the tool_use {tool_use_id}")
            content = self._marker + _NO_RESULT
            result = {"type": "tool_result", "tool_use_id": tool_use_id, "content": content}
            self._results.append(Placed(path, result, made=True))
        self._open = {}
        self._release({"role": "user"})

    def _release(self, message: Any) -> None:
        """The turn of all results, and after it what waited."""
        if self._results:
            self._turns.append(Turn("", {"role": "user"}, self._results, changed=True))
        self._turns += self._waiting
        self._results, self._waiting = [], []
