"""Tools that come and go in mid-conversation: offered from the start, and what changes is told in words."""

from typing import Any

from llama_stack_messages_provider.rewriting.client_tools import can_be_called
from llama_stack_messages_provider.rewriting.deferred_tools import is_deferred
from llama_stack_messages_provider.rewriting.draft import Block, Change, Draft, Place, Placed, text_block

FEATURES = frozenset({"tool_change", "tool_reference"})
ORDER = 20


def rewrite(draft: Draft) -> None:
    """Tools that are defined on the way join the others, which changes no answer."""

    def change(block: Block, path: str, place: Place) -> list[tuple[str, Block]]:
        tool = block["tool"]
        if block["type"] == "tool_addition" and tool["type"] == "tool_definition":
            draft.tools.append(Placed(f"{path}.tool.definition", tool["definition"], made=True))
        return _as_text(draft, block, path)

    draft.change_blocks({"tool_addition": change, "tool_removal": change})
    reference: Change = lambda block, path, _: [(path, text_block(available(draft, block["tool_name"])))]  # noqa: E731
    draft.change_results({"tool_reference": reference})


def available(draft: Draft, name: str) -> str:
    """What a model is told of a tool that it can call from now on."""
    return f"The tool {draft.options.tool_name(name)} is available now."


def _as_text(draft: Draft, block: Block, path: str) -> list[tuple[str, Block]]:
    tool: Any = block["tool"]
    definition = tool["definition"] if tool["type"] == "tool_definition" else {}
    name = str(tool.get("name") or definition.get("name") or definition.get("type") or tool.get("server_name"))
    if block["type"] == "tool_removal":
        return [(path, text_block(f"The tool {draft.options.tool_name(name)} is no longer available."))]
    if tool["type"].startswith("mcp_"):
        draft.dropped.drop(path, "nothing here calls MCP servers")
        return []
    # What cannot be called is named where tools are looked at.
    if definition and (is_deferred(definition) or not can_be_called(definition)):
        return []
    return [(path, text_block(available(draft, name)))]
