"""Searches that were made here, for Anthropic, which takes no `encrypted_content` but its own."""

from typing import Any

from llama_stack_messages_provider.rewriting.documents import server_tool_text
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Placed, Turn, kind_of, text_block
from llama_stack_messages_provider.rewriting.encrypted_content import MARK, is_encoded

FEATURES = frozenset({"foreign_search"})
MARKS = {"foreign_search": f'"{MARK}'.encode()}
ORDER = 70


def rewrite(draft: Draft) -> None:
    """Each search and what it found, as text."""
    for turn in draft.turns:
        texts = _texts(draft, turn)
        if texts:
            turn.blocks = [texts.get(placed.path, placed) for placed in turn.blocks]
            turn.changed = True


def _texts(draft: Draft, turn: Turn) -> dict[str, Placed]:
    """What becomes of a turn's blocks, by their paths."""
    results = [placed for placed in turn.blocks if _is_ours(placed.value)]
    try:
        ids = {placed.value.get("tool_use_id") for placed in results}
        calls = [each for each in turn.blocks if _is_call(each.value) and each.value.get("id") in ids]
        return {placed.path: _as_text(draft, placed) for placed in (*results, *calls)}
    except (KeyError, TypeError, AttributeError):  # not the documented shape: its upstream is the judge
        return {}


def _is_ours(block: Any) -> bool:
    pages = block.get("content") if kind_of(block) == "web_search_tool_result" else None
    pages = pages if isinstance(pages, list) else ()
    return any(isinstance(page, dict) and is_encoded(page.get("encrypted_content")) for page in pages)


def _is_call(block: Any) -> bool:
    return kind_of(block) == "server_tool_use"


def _as_text(draft: Draft, placed: Placed) -> Placed:
    block: Block = placed.value
    mark = {"cache_control": block["cache_control"]} if "cache_control" in block else {}
    text = text_block(server_tool_text(block, placed.path, draft.dropped))
    return Placed(placed.path, {**text, **mark}, made=True)
