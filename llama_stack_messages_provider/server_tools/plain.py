"""A request with tools that are run here, as any model takes it.

Definitions become custom tools. In the history a call is a `tool_use`, its result the `tool_result` of a user turn:
an assistant turn that goes on after what a tool found is several messages.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.server_tools.references import ToolChanges, plain_choice
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult, ServerTool

__all__ = ["OpenTools", "plain_request", "plain_turns", "server_tool_definitions"]

type Message = dict[str, Any]
type OpenTools = Mapping[str, ServerTool | None]

# Where the tools of a server stand that no toolset names, as in requests of the connector's older version.
_SERVERS = "mcp_servers."
# What a server listed: a mark for whoever runs its tools.
_LISTING = "mcp_tool_listing"


def server_tool_definitions(request: Mapping[str, Any]) -> Iterator[tuple[str, Block]]:
    """All definitions of tools with their paths, those that are added in mid-conversation too, in any valid request;
    what has another shape is passed over.
    """
    for index, tool in enumerate(_listed(request.get("tools"))):
        if isinstance(tool, Mapping):
            yield f"tools.{index}", tool
    for i, message in enumerate(_listed(request.get("messages"))):
        content = message.get("content") if isinstance(message, Mapping) else None
        for j, block in enumerate(_listed(content)):
            if isinstance(definition := _added(block), Mapping):
                yield f"messages.{i}.content.{j}.tool.definition", definition


def plain_request(request: Mapping[str, Any], tools: OpenTools, dropped: DroppedFields) -> dict[str, Any]:
    """The request with custom tools in place of server tools, in its definitions and in its history.

    Args:
        request: A request, not necessarily a valid one.
        tools: The tools that are run here, by the paths of their definitions; None is one to be left out.
        dropped: Takes what cannot be carried.
    """
    plain = {**request, "messages": _plain_messages(request, tools, dropped)}
    given = request.get("tools")
    if isinstance(given, list):
        plain["tools"] = [
            each for index, tool in enumerate(given) for each in _in_place_of(tool, f"tools.{index}", tools)
        ]
    if _are_called(request, tools):
        of_servers = [tools[path] for path in tools if path.startswith(_SERVERS)]
        offered = [each for tool in of_servers if tool is not None for each in tool.definitions]
        if offered:
            plain["tools"] = [*_listed(plain.get("tools")), *offered]
        del plain["mcp_servers"]
        if "tool_choice" in request:
            plain["tool_choice"] = plain_choice(request["tool_choice"], _opened(tools), _names(given))
    return plain


def _opened(tools: OpenTools) -> list[ServerTool]:
    return [tool for tool in tools.values() if tool is not None]


def _names(given: Any) -> list[Any]:
    return [tool.get("name") for tool in _listed(given) if isinstance(tool, Mapping)]


def _are_called(request: Mapping[str, Any], tools: OpenTools) -> bool:
    """Whether the MCP servers of a request are called here."""
    if "mcp_servers" not in request:
        return False
    toolsets = (path for path, each in server_tool_definitions(request) if each.get("type") == "mcp_toolset")
    return any(path in tools for path in toolsets) or any(path.startswith(_SERVERS) for path in tools)


def _in_place_of(definition: Any, path: str, tools: OpenTools) -> Sequence[Any]:
    if path not in tools:
        return [definition]
    tool = tools[path]
    definitions, mark = tool.definitions if tool is not None else (), definition.get("cache_control")
    if definition.get("defer_loading") is True:
        definitions = [{**each, "defer_loading": True} for each in definitions]
    if mark is None or not definitions:
        return definitions
    return [*definitions[:-1], {**definitions[-1], "cache_control": mark}]


def _plain_messages(request: Mapping[str, Any], tools: OpenTools, dropped: DroppedFields) -> Any:
    messages = request.get("messages")
    if not isinstance(messages, list):
        return messages
    calls = (block for message in messages for block in _blocks(message) if block.get("type") == "tool_use")
    taken = {ident for block in calls if isinstance(ident := block.get("id"), str)}
    opened = _opened(tools)
    plain: list[Any] = []
    changes = ToolChanges(opened)
    for index, message in enumerate(messages):
        path = f"messages.{index}.content"
        if isinstance(message, Mapping) and message.get("role") == "assistant":
            plain += plain_turns(message, path, opened, dropped, taken)
        else:
            plain.append(_with_definitions(message, path, tools, changes))
    return plain


def _with_definitions(message: Any, path: str, tools: OpenTools, changes: ToolChanges) -> Any:
    """A message with the tools that it adds or removes made plain."""
    content = message.get("content") if isinstance(message, Mapping) else None
    paths = [f"{path}.{index}.tool.definition" for index in range(len(content))] if isinstance(content, list) else []
    if not tools.keys() & set(paths):
        changed = changes.plain(content, path)
        return message if changed is content else {**message, "content": changed}
    blocks = [
        {**block, "tool": {**block["tool"], "definition": definition}} if at in tools else block
        for block, at in zip(_listed(content), paths, strict=True)
        for definition in _in_place_of(_added(block), at, tools)
    ]
    return {**message, "content": changes.plain(blocks, path)}


# --- the history ---


@dataclass(slots=True)
class _Segment:
    """A part of an assistant turn: what was said, the calls after it, and their results."""

    said: list[Any] = field(default_factory=list)
    calls: dict[Any, Message] = field(default_factory=dict)
    results: list[Message] = field(default_factory=list)

    @property
    def is_answered(self) -> bool:
        return bool(self.results) and len(self.results) == len(self.calls)

    def messages(self, turn: Mapping[str, Any]) -> Iterator[Message]:
        if self.said or self.calls:
            yield {**turn, "content": [*self.said, *self.calls.values()]}
        if self.results:
            yield {"role": "user", "content": self.results}


def plain_turns(
    turn: Mapping[str, Any],
    path: str,
    tools: Sequence[ServerTool],
    dropped: DroppedFields,
    taken: Container[Any] = (),
) -> list[Any]:
    """An assistant turn as messages in which each call is answered by the next one.

    The client's calls come in the last one, since their results are in the next turn. A call without a result, or a
    result without its call, stays as it is; so does a call whose id is `taken`.
    """
    blocks = _listed(turn.get("content"))
    answers = _answers(blocks, path, tools, dropped, taken)
    kept = [(index, block) for index, block in enumerate(blocks) if not _is_listing(block)]
    if not answers:
        return [turn] if len(kept) == len(blocks) else _turn_of(turn, [block for _, block in kept])
    segments, calls_of_client = [_Segment()], []
    for index, block in kept:
        segment = segments[-1]
        answer = answers.get(index)
        if isinstance(answer, PlainResult):
            segment.results.append(_tool_result(block, answer))
        elif isinstance(block, Mapping) and block.get("type") == "tool_use":
            calls_of_client.append(block)
        else:
            if segment.is_answered:
                segments.append(segment := _Segment())
            if answer is None:
                segment.said.append(block)
            else:
                segment.calls[block["id"]] = _tool_use(block, answer)
    if segments[-1].is_answered and calls_of_client:
        segments.append(_Segment())
    segments[-1].said += calls_of_client
    return [message for segment in segments for message in segment.messages(turn)]


def _is_listing(block: Any) -> bool:
    return isinstance(block, Mapping) and block.get("type") == _LISTING


def _turn_of(turn: Mapping[str, Any], content: list[Any]) -> list[Any]:
    return [{**turn, "content": content}] if content else []


def _answers(
    blocks: Sequence[Any], path: str, tools: Sequence[ServerTool], dropped: DroppedFields, taken: Container[Any]
) -> dict[int, str | PlainResult]:
    """The calls that have a result behind them, with the names of their custom tools, and those results; by the places
    of both. An id counts once.
    """
    answers: dict[int, str | PlainResult] = {}
    done: set[str] = set()
    waiting: dict[Any, tuple[int, str]] = {}
    for index, block in enumerate(blocks):
        if not isinstance(block, Mapping):
            continue
        if (name := _first(tool.custom_name(block) for tool in tools)) is not None and "input" in block:
            if isinstance(ident := block.get("id"), str) and not (ident in taken or ident in done):
                waiting.setdefault(ident, (index, name))
        elif isinstance(ident := block.get("tool_use_id"), str) and ident in waiting:
            result = _first(tool.plain_result(block, f"{path}.{index}", dropped) for tool in tools)
            if result is not None:
                place, name = waiting.pop(ident)
                answers[place], answers[index] = name, result
                done.add(ident)
    return answers


def _first[T](found: Iterator[T | None]) -> T | None:
    return next((each for each in found if each is not None), None)


def _tool_use(block: Block, name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": block["id"], "name": name, "input": block["input"]}


def _tool_result(block: Block, result: PlainResult) -> dict[str, Any]:
    plain: dict[str, Any] = {"type": "tool_result", "tool_use_id": block["tool_use_id"], "content": result.content}
    if result.is_error:
        plain["is_error"] = True
    if (mark := block.get("cache_control")) is not None:
        plain["cache_control"] = mark
    return plain


def _added(block: Any) -> Any:
    """The definition in a `tool_addition` block."""
    tool = block.get("tool") if isinstance(block, Mapping) and block.get("type") == "tool_addition" else None
    return tool.get("definition") if isinstance(tool, Mapping) else None


def _blocks(message: Any) -> list[Mapping[str, Any]]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return [block for block in _listed(content) if isinstance(block, Mapping)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
