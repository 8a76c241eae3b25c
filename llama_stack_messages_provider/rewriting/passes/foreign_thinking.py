"""Thinking and summaries that were signed here, for Anthropic, which takes no signature but its own."""

from typing import Any

from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, kind_of
from llama_stack_messages_provider.rewriting.signatures import PREFIX, carrier_of, is_ours

FEATURES = frozenset({"foreign_thinking"})
MARKS = {"foreign_thinking": f'"{PREFIX}'.encode()}
ORDER = 85

_THINKING = ("thinking", "redacted_thinking")


def rewrite(draft: Draft) -> None:
    """Leave thinking out, and of summaries the signature."""
    begins_unthought = _is_answer_to_foreign_thinking(draft)
    draft.change_blocks(dict.fromkeys(_THINKING, _left_out) | {"compaction": _unsigned})
    if begins_unthought and kind_of(draft.fields.get("thinking")) == "enabled":
        # A call made in thinking mode has to begin with thinking, and that was not Anthropic's.
        draft.fields["thinking"] = {"type": "disabled"}


def _left_out(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
    return [] if _is_foreign(block) else None


def _unsigned(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
    if not is_ours(block.get("signature")):
        return None
    return [(path, {name: value for name, value in block.items() if name != "signature"})]


def _is_foreign(block: Any) -> bool:
    return kind_of(block) in _THINKING and is_ours(carrier_of(block))


def _is_answer_to_foreign_thinking(draft: Draft) -> bool:
    """Whether the last turn answers calls that were made after thinking of ours, and of nobody else."""
    if len(draft.turns) < 2:
        return False
    called, answered = ([placed.value for placed in turn.blocks] for turn in draft.turns[-2:])
    kept = [block for block in called if not _is_foreign(block)]
    answers = any(kind_of(block) == "tool_result" for block in answered)
    return answers and len(kept) < len(called) and not (kept and kind_of(kept[0]) in _THINKING)
