"""What server tools did earlier, read as text. The loop that runs server tools has made calls of its own before."""

from typing import Any

from llama_stack_messages_provider.rewriting.documents import server_tool_text, tagged
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, text_block
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
    """Calls and results as text."""

    def as_text(block: Block, path: str, place: Place) -> list[tuple[str, Block]]:
        return [(path, text_block(_text(draft, block, path)))]

    draft.change_blocks(dict.fromkeys(_BLOCKS, as_text))


def _text(draft: Draft, block: Block, path: str) -> str:
    content: Any = block.get("content")
    if block["type"] == "tool_search_tool_result" and content["type"] == "tool_search_tool_search_result":
        names = "\n".join(available(draft, each["tool_name"]) for each in content["tool_references"])
        return tagged("server_tool_result", names, type=block["type"])
    return server_tool_text(block, path, draft.dropped)
