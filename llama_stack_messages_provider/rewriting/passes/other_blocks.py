"""Blocks of some servers only, and of types that nobody knows."""

from collections.abc import Callable
from itertools import chain

from llama_stack_messages_provider.rewriting.documents import tagged
from llama_stack_messages_provider.rewriting.draft import Block, Change, Draft, Place, text_block

FEATURES = frozenset({"unknown_block", "container_upload", "misplaced_block"})
ORDER = 100

# What the plain dialect has, and what other passes see to.
KNOWN = frozenset(
    {"text", "image", "document", "search_result", "tool_use", "tool_result", "thinking", "redacted_thinking"}
)
HOMES = {"tool_use": "assistant", "tool_result": "user", "tool_reference": "result", "browser_state": "result"}
"""Blocks that have one place only."""
IN_RESULTS = frozenset({"text", "image", "document", "search_result"})
"""What a result holds in the plain dialect."""
# Nothing to read in them: meant for the server that wrote them.
_MARKS = frozenset({"fallback", "mcp_tool_listing"})
_CHANGES = frozenset({"tool_addition", "tool_removal"})


def rewrite(draft: Draft) -> None:
    """Summaries and the browser's state are read as text; everything else is left out."""
    turns = {placed.value["type"] for turn in draft.turns for placed in turn.blocks} - (KNOWN - HOMES.keys())
    if "tool_change" not in draft.lacks:
        turns -= _CHANGES
    draft.change_blocks({kind: _change_of(draft, kind) for kind in turns})
    results = (placed for turn in draft.turns for placed in turn.blocks if placed.value["type"] == "tool_result")
    contents = (placed.value.get("content") for placed in results)
    inner = {block["type"] for block in chain.from_iterable(c for c in contents if isinstance(c, list))} - IN_RESULTS
    draft.change_results({kind: _change_in_result(draft, kind) for kind in inner})


def _change_of(draft: Draft, kind: str) -> Change:
    if kind == "compaction":
        return lambda block, path, place: _summary(draft, block, path)
    if kind in _MARKS:
        return lambda block, path, place: []
    if kind == "container_upload":
        return _dropping(draft, "there is no container to upload to")
    drop = _dropping(draft, f"{kind} blocks are not understood here")
    return lambda block, path, place: None if place == HOMES.get(kind) else drop(block, path, place)


def _change_in_result(draft: Draft, kind: str) -> Change:
    if kind == "browser_state":
        return lambda block, path, place: [(path, text_block(_browser_state(block)))]
    return _dropping(draft, f"{kind} blocks are not understood here")


def _dropping(draft: Draft, reason: str) -> Callable[[Block, str, Place], list[tuple[str, Block]]]:
    def change(block: Block, path: str, place: Place) -> list[tuple[str, Block]]:
        draft.dropped.drop(path, reason)
        return []

    return change


def _summary(draft: Draft, block: Block, path: str) -> list[tuple[str, Block]]:
    if content := block.get("content"):
        return [(path, text_block(tagged("summary", content)))]
    draft.dropped.drop(path, "the summary is encrypted")
    return []


def _browser_state(block: Block) -> str:
    downloads = filter(None, map(_download, block.get("state_changes") or ()))
    return tagged("browser_state", "\n".join([*map(_tab, block["tabs"]), *downloads]))


def _tab(tab: Block) -> str:
    return f"{tab['tab_id']}: {tab['title']} ({tab['url']})" + (", active" if tab.get("active") else "")


def _download(change: Block) -> str:
    """What became of a download; a tab that was opened is in the list of tabs."""
    state = {"download_started": "started", "download_completed": "completed", "download_failed": "failed"}
    if (kind := change["type"]) not in state:
        return ""
    more = change.get("path") or change.get("error")
    return f"Download of {change['url']} {state[kind]}" + (f": {more}" if more else "")
