"""Context editing: what `context_management` clears of a conversation before its model reads it.

Clients send the whole conversation at every turn. What is cleared is found by going through it as it grew: where a
request was sent, and the conversation as it was edited by then was over the trigger, a step was made. So a step that
was made stays made, and between two steps a prompt only grows at its end: an engine finds its beginning in its cache.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.rewriting.compaction import drop_compacted
from llama_stack_messages_provider.rewriting.context_edits import (
    FIELD,
    ClearThinking,
    ClearToolUses,
    changes_nothing,
    edits_of,
)
from llama_stack_messages_provider.rewriting.draft import Draft, Placed, Turn, kind_of
from llama_stack_messages_provider.wire.token_estimate import weight_of

__all__ = ["CLEARED", "FEATURES", "MARKS", "ORDER", "rewrite"]

FEATURES = frozenset({"context_edits"})
MARKS = {"context_edits": f'"{FIELD}"'.encode()}
ORDER = 5

CLEARED = "[Old result cleared]"
"""What a model reads in place of a result: short, for a long session has hundreds of them."""

_THINKING = ("thinking", "redacted_thinking")


def rewrite(draft: Draft) -> None:
    """Make the edits, thinking first, and note what they cleared."""
    edits = edits_of(draft.fields)
    drop_compacted(draft)
    if not changes_nothing(draft.fields):
        draft.applied_edits = []
    for path, kind in edits.others:
        draft.dropped.drop(path, f"there is no {kind} here")
    if edits.thinking is not None and edits.thinking.keep is not None:
        _clear_thinking(draft, edits.thinking)
    for edit in edits.tool_uses:
        _clear_tool_uses(draft, edit, math.inf if edits.thinking is None else edits.thinking.keep or math.inf)
    draft.fields.pop(FIELD, None)


# --- thinking ---


def _clear_thinking(draft: Draft, edit: ClearThinking) -> None:
    keep = edit.keep or 0
    older = [turns for turns in _answers(draft.turns) if any(map(_thinks, turns))][: -keep or None]
    weight = 0
    for turn in (turn for turns in older for turn in turns if _thinks(turn)):
        weight += weight_of(placed.value for placed in turn.blocks if kind_of(placed.value) in _THINKING)
        turn.blocks = [placed for placed in turn.blocks if kind_of(placed.value) not in _THINKING]
        turn.changed = True
    if older:
        counted = {"cleared_thinking_turns": len(older), "cleared_input_tokens": _tokens(draft, weight)}
        draft.note_edit({"type": "clear_thinking_20251015", **counted})


def _answers(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    """The assistant's messages by the turn of the conversation that they are in: results of tools begin none."""
    answer: list[Turn] = []
    for turn in turns:
        if turn.role == "assistant":
            answer.append(turn)
        elif _begins_turn(turn):
            if answer:
                yield answer
            answer = []
    if answer:
        yield answer


def _begins_turn(turn: Turn) -> bool:
    return turn.role == "user" and not any(kind_of(placed.value) == "tool_result" for placed in turn.blocks)


def _content(turn: Turn) -> list[Any]:
    """What the client put there."""
    content = turn.message.get("content")
    return content if isinstance(content, list) else []


def _thinks(turn: Turn) -> bool:
    return turn.role == "assistant" and any(kind_of(placed.value) in _THINKING for placed in turn.blocks)


# --- tool uses ---


@dataclass(slots=True)
class _Use:
    """A tool use, and what clearing it takes away, in bytes."""

    index: int
    call: Placed
    of_call: Turn
    result: Placed | None = None
    of_result: Turn | None = None
    weight: int = 0


class _Context:
    """A conversation while it grows: what it weighs after the steps that were made so far.

    Args:
        edit: What is cleared.
        bytes_per_token: Of the model.
        weight: Of what stands before the conversation.
        keep_thinking: The turns of the conversation with thinking that keep it, from the last one.
    """

    def __init__(self, edit: ClearToolUses, bytes_per_token: float, weight: int, keep_thinking: float) -> None:
        self._edit = edit
        self._bytes_per_token = bytes_per_token
        self._weight = weight
        self._keep_thinking = keep_thinking
        self._thought: deque[int] = deque()
        self._answers_anew = True
        self._uses: dict[str, _Use] = {}
        self._waiting: deque[_Use] = deque()
        self._old: list[_Use] = []
        self._old_weight = 0
        self.cleared: list[_Use] = []

    def add(self, turn: Turn) -> None:
        """The next message."""
        self._weight += weight_of([turn.message])
        for placed in turn.blocks:
            kind = kind_of(placed.value)
            if kind == "tool_use" and turn.role == "assistant":
                self._add_call(placed, turn)
            elif kind == "tool_result":
                self._add_result(placed, turn)
        self._forget_thinking(turn)

    def _forget_thinking(self, turn: Turn) -> None:
        """Take off what an edit of thinking would have cleared by now."""
        if _begins_turn(turn):
            self._answers_anew = True
        elif turn.role == "assistant":
            weight = weight_of(block for block in _content(turn) if kind_of(block) in _THINKING)
            if weight and self._answers_anew:
                self._answers_anew = False
                self._thought.append(0)
            if weight:
                self._thought[-1] += weight
            while len(self._thought) > self._keep_thinking:
                self._weight -= self._thought.popleft()

    def _add_call(self, placed: Placed, turn: Turn) -> None:
        ident, name = placed.value.get("id"), placed.value.get("name")
        if not isinstance(ident, str) or not isinstance(name, str) or ident in self._uses:
            return
        use = self._uses[ident] = _Use(len(self._uses), placed, turn)
        if name not in self._edit.excluded:
            self._waiting.append(use)

    def _add_result(self, placed: Placed, turn: Turn) -> None:
        ident = placed.value.get("tool_use_id")
        use = self._uses.get(ident) if isinstance(ident, str) else None
        if use is None or use.result is not None:
            return
        use.result, use.of_result = placed, turn
        use.weight = max(0, weight_of([placed.value.get("content")]) - weight_of([CLEARED]))
        if self._edit.clears_input(use.call.value["name"]):
            use.weight += weight_of([use.call.value.get("input")])

    def ask(self) -> None:
        """The conversation is sent: a step is made, if it is due and clears enough."""
        while self._waiting and self._waiting[0].index < len(self._uses) - self._edit.keep:
            use = self._waiting.popleft()
            if use.weight:
                self._old.append(use)
                self._old_weight += use.weight
        if self._old and self._is_due() and self._old_weight / self._bytes_per_token >= self._edit.at_least:
            self.cleared += self._old
            self._weight -= self._old_weight
            self._old, self._old_weight = [], 0

    def _is_due(self) -> bool:
        if self._edit.unit == "tool_uses":
            return len(self._old) + len(self._waiting) > self._edit.trigger
        return self._weight / self._bytes_per_token > self._edit.trigger


def _clear_tool_uses(draft: Draft, edit: ClearToolUses, keep_thinking: float) -> None:
    head = weight_of(value for name in ("system", "tools") if (value := draft.fields.get(name)))
    context = _Context(edit, draft.options.bytes_per_token, head, keep_thinking)
    for turn in draft.turns:
        if turn.role == "assistant":
            context.ask()
        context.add(turn)
    if draft.turns and draft.turns[-1].role != "assistant":
        context.ask()
    for use in context.cleared:
        _clear(use, edit)
    if context.cleared:
        tokens = _tokens(draft, sum(use.weight for use in context.cleared))
        counted = {"cleared_tool_uses": len(context.cleared), "cleared_input_tokens": tokens}
        draft.note_edit({"type": "clear_tool_uses_20250919", **counted})


def _clear(use: _Use, edit: ClearToolUses) -> None:
    if use.result is not None and use.of_result is not None:
        use.result.value = {**use.result.value, "content": CLEARED}
        use.of_result.changed = True
    if edit.clears_input(use.call.value["name"]):
        use.call.value = {**use.call.value, "input": {}}
        use.of_call.changed = True


def _tokens(draft: Draft, weight: int) -> int:
    return int(weight / draft.options.bytes_per_token)
