"""Cache markers, where an engine refuses them: they never change a prompt."""

from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, Placed

FEATURES = frozenset({"cache_control"})
ORDER = 140


def rewrite(draft: Draft) -> None:
    """Take them out of the request, its system prompt, its tools and all blocks."""
    draft.fields.pop("cache_control", None)
    if isinstance(system := draft.fields.get("system"), list):
        draft.fields["system"] = [*map(_unmarked, system)]
    draft.tools = [_without(placed) for placed in draft.tools]

    def change(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        return [(path, _unmarked(block))] if "cache_control" in block else None

    kinds = {placed.value["type"] for turn in draft.turns for placed in turn.blocks}
    draft.change_results(dict.fromkeys(_kinds_in_results(draft), change))
    draft.change_blocks(dict.fromkeys(kinds, change))


def _kinds_in_results(draft: Draft) -> set[str]:
    contents = (placed.value.get("content") for turn in draft.turns for placed in turn.blocks)
    return {block["type"] for content in contents if isinstance(content, list) for block in content if "type" in block}


def _without(placed: Placed) -> Placed:
    tool = placed.value
    return Placed(placed.path, _unmarked(tool), made=True) if "cache_control" in tool else placed


def _unmarked(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != "cache_control"} if isinstance(value, Mapping) else value
