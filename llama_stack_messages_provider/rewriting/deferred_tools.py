"""Tools with `defer_loading`: a request defines them, and its conversation says which of them a model gets to see.

A `tool_reference` loads a tool, whoever searched: the client, in the result of a tool of its own, or a server. Of any
JSON; what has not the documented shape says nothing.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.errors import InvalidRequestError

__all__ = ["Mention", "check_deferred", "is_deferred", "mentions"]


@dataclass(frozen=True, slots=True)
class Mention:
    """A tool that a request names.

    Args:
        name: The tool's.
        path: Where, if it is a reference, which has to have a definition.
    """

    name: str
    path: str | None = None


def is_deferred(tool: Any) -> bool:
    """Whether a definition is kept from the model until something names the tool."""
    return isinstance(tool, Mapping) and tool.get("defer_loading") is True and isinstance(tool.get("name"), str)


def mentions(request: Mapping[str, Any]) -> Iterator[Mention]:
    """What loads tools, in the conversation's order: references, calls, and at last a forced choice."""
    for i, message in enumerate(_listed(request.get("messages"))):
        content = message.get("content") if isinstance(message, Mapping) else None
        for j, block in enumerate(_listed(content)):
            if isinstance(block, Mapping):
                yield from _in_block(block, f"messages.{i}.content.{j}")
    choice = request.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "tool":
        yield from _mention(choice.get("name"))


def check_deferred(request: Mapping[str, Any], defined: Mapping[str, Any]) -> None:
    """Refuse references that have no definition, as Anthropic does.

    Args:
        request: The request.
        defined: The names of all tools, those included that are defined on the way.

    Raises:
        InvalidRequestError: One has none.
    """
    tools = _listed(request.get("tools"))
    # The tools of an MCP server that nobody asked are not known; and without tools there is nothing to find them in.
    if not tools or any(isinstance(tool, Mapping) and tool.get("type") == "mcp_toolset" for tool in tools):
        return
    for each in mentions(request):
        if each.path is not None and each.name not in defined:
            raise InvalidRequestError(
                f"{each.path}: Tool reference '{each.name[:200]}' has no corresponding tool definition"
            )


def _in_block(block: Mapping[str, Any], path: str) -> Iterator[Mention]:
    match block.get("type"):
        case "tool_result":
            yield from _references(block.get("content"), f"{path}.content")
        case "tool_search_tool_result":
            found = block.get("content")
            if isinstance(found, Mapping):
                yield from _references(found.get("tool_references"), f"{path}.content.tool_references")
        case "tool_addition":
            tool = block.get("tool")
            if isinstance(tool, Mapping) and tool.get("type") == "tool_reference":
                yield from _mention(tool.get("name"))
        case "compaction":
            for change in _listed(block.get("tool_changes")):
                if isinstance(change, Mapping) and change.get("type") == "tool_addition":
                    yield from _in_block(change, path)
        case "tool_use" if not block.get("toolset_name"):
            yield from _mention(block.get("name"))


def _references(content: Any, path: str) -> Iterator[Mention]:
    for index, each in enumerate(_listed(content)):
        if isinstance(each, Mapping) and each.get("type") == "tool_reference":
            yield from _mention(each.get("tool_name"), f"{path}.{index}.tool_name")


def _mention(name: Any, path: str | None = None) -> Iterator[Mention]:
    if isinstance(name, str):
        yield Mention(name, path)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
