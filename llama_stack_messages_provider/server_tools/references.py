"""Names of tools that are run here, as clients call them, and the custom tools that models know. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.server_tools.tool import Block, ServerTool

__all__ = ["ToolChanges", "plain_choice"]

# Tools that come or go in one request.
_MOST_CHANGES = 20_000
_CHANGES = ("tool_addition", "tool_removal")
_REFERENCES = ("mcp_tool_reference", "mcp_toolset_reference")


def plain_choice(choice: Any, tools: Iterable[ServerTool], others: Iterable[str]) -> Any:
    """A `tool_choice` with the name of the custom tool; the same object where it names none of these tools.

    Args:
        choice: The choice, of any shape.
        tools: The tools that are run here.
        others: Names of the other tools, which go first.
    """
    name = choice.get("name") if isinstance(choice, Mapping) and choice.get("type") == "tool" else None
    if not isinstance(name, str) or name in others:
        return choice
    known = [(custom, fields) for custom, fields in _known(tools) if fields["type"] == "mcp_tool_use"]
    # Anthropic's own servers put the two names together so.
    found = [custom for custom, fields in known if f"{fields['server_name']}_{fields['name']}" == name]
    found = found or [custom for custom, fields in known if name in (fields["name"], custom)]
    return {**choice, "name": found[0]} if len(found) == 1 else choice


class ToolChanges:
    """The tools of MCP servers that come and go in a conversation, as the custom tools that they are.

    Args:
        tools: The tools that are run here.
    """

    def __init__(self, tools: Iterable[ServerTool]) -> None:
        self._names: dict[tuple[Any, Any], list[str]] = {}
        self._left = _MOST_CHANGES
        for custom, fields in _known(tools):
            if fields["type"] == "mcp_tool_use":
                for name in (fields["name"], None):
                    self._names.setdefault((fields["server_name"], name), []).append(custom)

    def plain(self, content: Any, path: str) -> Any:
        """A turn's content with the names of custom tools in its changes; the same object where it has none.

        Args:
            content: The content, of any shape.
            path: Where it stands in the request.

        Raises:
            InvalidRequestError: The request has too many: one block may stand for all tools of a server.
        """
        if not isinstance(content, list) or not any(map(_reference_of, content)):
            return content
        return [each for index, block in enumerate(content) for each in self._plain(block, f"{path}.{index}")]

    def _plain(self, block: Any, path: str) -> Iterator[Any]:
        reference = _reference_of(block)
        names = [] if reference is None else self._named(reference)
        self._left -= len(names)
        if self._left < 0:
            raise InvalidRequestError(f"{path}: more than {_MOST_CHANGES} tools of MCP servers come and go")
        if not names:
            yield block
        for name in names:
            yield {**block, "tool": {"type": "tool_reference", "name": name}}

    def _named(self, reference: Mapping[str, Any]) -> list[str]:
        server, name = reference.get("server_name"), reference.get("name")
        is_known = isinstance(server, str) and (name is None or isinstance(name, str))
        return self._names.get((server, name), []) if is_known else []


def _reference_of(block: Any) -> Mapping[str, Any] | None:
    """The tools of an MCP server that a block adds or removes."""
    tool = block.get("tool") if isinstance(block, Mapping) and block.get("type") in _CHANGES else None
    return tool if isinstance(tool, Mapping) and tool.get("type") in _REFERENCES else None


def _known(tools: Iterable[ServerTool]) -> Iterator[tuple[str, Block]]:
    """The custom tools, and the fields of the blocks of their calls."""
    for tool in tools:
        for definition in tool.definitions:
            yield definition["name"], tool.call_fields(definition["name"])
