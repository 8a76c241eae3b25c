"""Tools that Anthropic's servers run, where nothing here does."""

from typing import Any

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.client_tools import can_be_called
from llama_stack_messages_provider.rewriting.draft import Draft, Placed

FEATURES = frozenset({"server_tool", "web_search"})
ORDER = 40

# Where a request has no other tool, a model without them could only make up what they would find.
_SERVER_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_", "advisor_", "mcp_toolset")


def rewrite(draft: Draft) -> None:
    """Leave them out.

    Raises:
        InvalidRequestError: They are the only tools, or the forced one.
    """
    kept = [placed for placed in draft.tools if can_be_called(placed.value)]
    gone = [placed for placed in draft.tools if not can_be_called(placed.value)]
    for placed in gone:
        draft.dropped.drop(placed.path, f"nothing here runs {placed.value['type']}")
    choice: Any = draft.fields.get("tool_choice")
    draft.tools = kept
    if gone and not kept:
        _check_only(draft, gone, choice)
        draft.choose_from_nothing()
    elif choice and choice["type"] == "tool" and _names(gone, choice) and not _names(kept, choice):
        raise InvalidRequestError(f"tool_choice.name: {choice['name']} is a tool that this server cannot run")


def _check_only(draft: Draft, gone: list[Placed], choice: Any) -> None:
    kinds = [kind for placed in gone if (kind := str(placed.value.get("type"))).startswith(_SERVER_TOOLS)]
    # A prompt that is only counted asks nothing of its tools.
    if kinds and "max_tokens" in draft.fields and not (choice and choice["type"] == "none"):
        raise InvalidRequestError(f"tools: the only tools are ones that this server cannot run ({', '.join(kinds)})")
    if choice and choice["type"] == "tool" and _names(gone, choice):
        raise InvalidRequestError(f"tool_choice.name: {choice['name']} is a tool that this server cannot run")


def _names(tools: list[Placed], choice: Any) -> bool:
    return any(placed.value.get("name") == choice["name"] for placed in tools)
