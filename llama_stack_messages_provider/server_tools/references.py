"""Names of tools that are run here, as clients call them, and the custom tools that models know. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llama_stack_messages_provider.server_tools.tool import Block, ServerTool

__all__ = ["plain_changes", "plain_choice"]

_CHANGES = frozenset({"tool_addition", "tool_removal"})
_REFERENCES = frozenset({"mcp_tool_reference", "mcp_toolset_reference"})


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


def plain_changes(content: Any, tools: Iterable[ServerTool]) -> Any:
    """A turn's content with the names of custom tools where tools of MCP servers come and go; the same object where
    none does.
    """
    if not isinstance(content, list) or not any(map(_reference_of, content)):
        return content
    known = list(_known(tools))
    return [each for block in content for each in _plain_change(block, known)]


def _plain_change(block: Any, known: list[tuple[str, Mapping[str, Any]]]) -> Iterator[Any]:
    reference = _reference_of(block)
    wanted = {} if reference is None else {k: reference[k] for k in ("server_name", "name") if k in reference}
    names = [name for name, fields in known if wanted and wanted.items() <= fields.items()]
    if not names:
        yield block
    for name in names:
        yield {**block, "tool": {"type": "tool_reference", "name": name}}


def _reference_of(block: Any) -> Mapping[str, Any] | None:
    """The tools of an MCP server that a block adds or removes."""
    tool = block.get("tool") if isinstance(block, Mapping) and block.get("type") in _CHANGES else None
    return tool if isinstance(tool, Mapping) and tool.get("type") in _REFERENCES else None


def _known(tools: Iterable[ServerTool]) -> Iterator[tuple[str, Block]]:
    """The custom tools, and the fields of the blocks of their calls."""
    for tool in tools:
        for definition in tool.definitions:
            yield definition["name"], tool.call_fields(definition["name"])
