"""Anthropic's tool search for models that know nothing of it: it finds the tools of a request that are deferred.

What a search names is offered from then on: `rewriting.deferred_tools` reads the references in the conversation.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.rewriting.deferred_tools import is_deferred
from llama_stack_messages_provider.server_tools.catalogue import (
    MOST_PATTERN,
    Entry,
    PatternError,
    entries,
    matching,
    ranked,
)
from llama_stack_messages_provider.server_tools.one_name import OneName, check_definition, custom_tool
from llama_stack_messages_provider.server_tools.plain import server_tool_definitions
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult
from llama_stack_messages_provider.wire.types import wire_type

__all__ = ["RESULT", "ToolSearch"]

RESULT = "tool_search_tool_result"

_BM25, _REGEX = "tool_search_tool_bm25", "tool_search_tool_regex"
_TYPES = {
    _BM25: wire_type("ToolSearchToolBm25_20251119Param"),
    _REGEX: wire_type("ToolSearchToolRegex20251119Param"),
}
_FIELDS = {_BM25: "query", _REGEX: "pattern"}
_MOST_QUERY = 500
_FOUND, _MOST_FOUND = 5, 20
# Catalogues with more text are searched in a thread.
_LARGE = 128 * 1024
_WORDS = {
    _BM25: (
        "Finds tools that exist and are not shown yet, by what they do. Those that it finds can be called from then "
        "on. Search before you say that you cannot do something.",
        "What the tool is to do, in a few words.",
    ),
    _REGEX: (
        "Finds tools that exist and are not shown yet, by a regular expression that is searched for in their names, "
        "descriptions and arguments. Those that it finds can be called from then on. Search before you say that you "
        "cannot do something.",
        "A regular expression in Python's syntax, such as (?i)weather or get_.*_data; no look-around. It has "
        f"{MOST_PATTERN} characters at the most.",
    ),
}


class ToolSearch:
    """Tool search, which needs nothing of the stack: a `ServerToolType`."""

    def defines(self, definition: Block) -> bool:
        """Whether a tool of a request is Anthropic's tool search, of either kind and any version."""
        return _name_of(definition) is not None

    async def available(self) -> bool:
        """Always."""
        return True

    async def open(self, definition: Block, path: str, dropped: DroppedFields) -> "_ToolSearches":
        """The searches of a request."""
        name = _name_of(definition)
        assert name is not None
        # A version that is not known yet has not been looked at.
        check_definition(_TYPES[name], {**definition, "type": name, "name": name}, path)
        return _ToolSearches(name, strict=definition.get("strict") is True)


def _name_of(definition: Block) -> str | None:
    kind = definition.get("type")
    if not isinstance(kind, str) or "input_schema" in definition:
        return None
    return next((name for name in (_BM25, _REGEX) if kind == name or kind.startswith(f"{name}_")), None)


class _ToolSearches(OneName):
    """The tool search of one request: a `ServerTool`."""

    usage_field = "tool_search_requests"

    def __init__(self, name: str, *, strict: bool) -> None:
        self.name = name
        self._strict = strict

    @property
    def definitions(self) -> Sequence[dict[str, Any]]:
        """The custom tool that the model is offered."""
        description, about = _WORDS[self.name]
        field = _FIELDS[self.name]
        fields = {field: {"type": "string", "description": about}}
        return [custom_tool(self.name, description, fields, required=[field], strict=self._strict)]

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """Nothing but a search that cannot be made has no result."""
        asked = self._asked(call)
        if not asked.strip():
            return _failed(call, f"{_FIELDS[self.name]} has to be a text")
        most = MOST_PATTERN if self.name == _REGEX else _MOST_QUERY
        return _failed(call, f"It has more than {most} characters") if len(asked) > most else None

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """References to what was found."""
        found = entries([tool for _, tool in server_tool_definitions(request) if is_deferred(tool)])
        large = sum(len(entry.text) for entry in found) > _LARGE
        try:
            args = (self._asked(call), found)
            names = await asyncio.to_thread(self._search, *args) if large else self._search(*args)
        except PatternError as exc:
            return _failed(call, str(exc))
        references = [{"type": "tool_reference", "tool_name": name} for name in names[: _limit(call)]]
        return _block(call, {"type": "tool_search_tool_search_result", "tool_references": references})

    def _search(self, asked: str, found: Sequence[Entry]) -> list[str]:
        return matching(asked, found) if self.name == _REGEX else ranked(asked, found)

    def _asked(self, call: Block) -> str:
        given = call["input"] if isinstance(call.get("input"), Mapping) else {}
        # Anthropic's models say `pattern`, its documentation `query`.
        asked = given.get(_FIELDS[self.name], given.get("query"))
        return asked if isinstance(asked, str) else ""

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """The references, if a block has some; what comes of them is the passes' to say."""
        content = block.get("content")
        if block.get("type") != RESULT or not isinstance(content, Mapping):
            return None
        if isinstance(code := content.get("error_code"), str):
            return PlainResult(f"The search failed: {content.get('error_message') or code}", is_error=True)
        found = content.get("tool_references")
        if not isinstance(found, list):
            return None
        names = [each.get("tool_name") for each in found if isinstance(each, Mapping)]
        references = [{"type": "tool_reference", "tool_name": name} for name in names if isinstance(name, str)]
        return PlainResult(references or "No tool was found.")


def _limit(call: Block) -> int:
    limit = call["input"].get("limit")
    return min(limit, _MOST_FOUND) if type(limit) is int and limit > 0 else _FOUND


def _failed(call: Block, why: str) -> dict[str, Any]:
    error = {"type": "tool_search_tool_result_error", "error_code": "invalid_tool_input", "error_message": why}
    return _block(call, error)


def _block(call: Block, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": RESULT, "tool_use_id": call["id"], "content": content}
