"""What server tools did earlier: read as text; or, of searches where they are run here, as calls and their results."""

from collections.abc import Container, Iterable, Iterator
from typing import Any

from llama_stack_messages_provider.rewriting.documents import found_text, server_tool_text, tagged
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, Placed, Turn, text_block
from llama_stack_messages_provider.rewriting.passes.tool_changes import available

FEATURES = frozenset({"server_tool_history"})
ORDER = 70

_BLOCKS = (
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "advisor_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
)


def rewrite(draft: Draft) -> None:
    """Searches become turns of their own where they are run here; everything else becomes text."""
    if draft.options.runs_search and any(_is_search(placed.value) for placed in draft.tools):
        draft.turns = [*_with_searches(draft)]

    def told(block: Block, path: str, place: Place) -> list[tuple[str, Block]]:
        return [(path, text_block(_text(draft, block, path)))]

    draft.change_blocks(dict.fromkeys(_BLOCKS, told))


def _is_search(tool: Any) -> bool:
    return str(tool.get("type")).startswith("web_search_") and "input_schema" not in tool


def _text(draft: Draft, block: Block, path: str) -> str:
    content: Any = block.get("content")
    if block["type"] == "tool_search_tool_result" and content["type"] == "tool_search_tool_search_result":
        names = "\n".join(available(draft, each["tool_name"]) for each in content["tool_references"])
        return tagged("server_tool_result", names, type=block["type"])
    return server_tool_text(block, path, draft.dropped)


def _with_searches(draft: Draft) -> Iterator[Turn]:
    """The turns; one of the assistant's that goes on after what it found is several."""
    waiting: set[str] = set()
    for turn in draft.turns:
        if turn.role == "user":
            waiting -= {p.value["tool_use_id"] for p in turn.blocks if p.value["type"] == "tool_result"}
        if turn.role != "assistant" or not any(p.value["type"] == "web_search_tool_result" for p in turn.blocks):
            yield turn
        else:
            for said, searches, found in _around_searches(turn.blocks, waiting):
                calls = [Placed(placed.path, _call(placed.value), made=True) for placed in searches]
                yield Turn(turn.path, turn.message, [*said, *calls], changed=True)
                if found:
                    results = [Placed(placed.path, _result(draft, placed), made=True) for placed in found]
                    yield Turn(turn.path, {"role": "user"}, results, changed=True)
        waiting |= {p.value["id"] for p in turn.blocks if p.value["type"] == "tool_use"}


def _call(block: Block) -> Block:
    return {"type": "tool_use", "id": block["id"], "name": block["name"], "input": block["input"]}


def _result(draft: Draft, placed: Placed) -> Block:
    block = placed.value
    text, is_error = found_text(block["content"], f"{placed.path}.content", draft.dropped)
    result = {"type": "tool_result", "tool_use_id": block["tool_use_id"], "content": text}
    return {**result, "is_error": True} if is_error else result


def _around_searches(
    blocks: list[Placed], taken: Container[str]
) -> Iterator[tuple[list[Placed], list[Placed], list[Placed]]]:
    """The parts of an assistant turn: what was said, the searches after it, and what they found.

    The client's calls come in the last part, since their results are in the next turn. A search without a result, or a
    result without its search, is said; so is one whose id is taken by a call that has no result yet.
    """
    answered = {id(placed) for placed in _answered_searches(blocks)}
    said: list[Placed] = []
    later: list[Placed] = []
    searches: dict[str, Placed] = {}
    waiting: set[str] = set()
    found: list[Placed] = []
    for placed in blocks:
        block = placed.value
        if block["type"] == "tool_use":
            later.append(placed)
        elif block["type"] == "web_search_tool_result" and block["tool_use_id"] in waiting:
            found.append(placed)
            waiting.discard(block["tool_use_id"])
        else:
            if found and not waiting:
                yield said, [*searches.values()], found
                said, searches, found = [], {}, []
            if id(placed) in answered and block["id"] not in taken and block["id"] not in searches:
                searches[block["id"]] = placed
                waiting.add(block["id"])
            else:
                said.append(placed)
    if found:
        yield said, [*searches.values()], found
        said = []
    if said or later:
        yield said + later, [], []


def _answered_searches(blocks: Iterable[Placed]) -> Iterator[Placed]:
    """The searches that have a result behind them, one for each id at a time."""
    open_searches: dict[str, Placed] = {}
    for placed in blocks:
        block = placed.value
        if block["type"] == "server_tool_use" and block["name"] == "web_search":
            open_searches.setdefault(block["id"], placed)
        elif block["type"] == "web_search_tool_result" and block["tool_use_id"] in open_searches:
            yield open_searches.pop(block["tool_use_id"])
