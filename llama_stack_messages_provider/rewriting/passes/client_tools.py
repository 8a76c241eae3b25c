"""Anthropic's client tools (bash, text editor, memory, computer, browser) as custom tools with their schemas."""

from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.rewriting.client_tools import ClientTools
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, Placed

FEATURES = frozenset({"client_tool", "toolset_call"})
ORDER = 30


def rewrite(draft: Draft) -> None:
    """Exchange the tools, the calls of the history that name a toolset, and a choice of one."""
    tools = ClientTools([placed.value for placed in draft.tools])
    draft.tools = [made for placed in draft.tools for made in _custom(draft, tools, placed)]
    draft.restored |= tools.members

    def rename(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        if not block.get("toolset_name"):
            return None
        renamed = {name: value for name, value in block.items() if name != "toolset_name"}
        return [(path, {**renamed, "name": tools.function_name(block)})]

    draft.change_blocks({"tool_use": rename})
    _force(draft, tools)
    if draft.fields.get("tools") and not draft.tools:
        draft.choose_from_nothing()


def _custom(draft: Draft, tools: ClientTools, placed: Placed) -> list[Placed]:
    tool = placed.value
    if (functions := tools.functions_of(tool)) is None:
        return [placed]
    if tool.get("strict"):
        draft.dropped.drop(f"{placed.path}.strict", "its documented schema leaves open what strict ones must not")
    kept = {name: tool[name] for name in ("cache_control", "input_examples") if name in tool}
    return [Placed(placed.path, {**_tool(each["function"]), **kept}, made=True) for each in functions]


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": function["name"],
        "description": function["description"],
        "input_schema": function["parameters"],
    }


def _force(draft: Draft, tools: ClientTools) -> None:
    """A toolset is forced by offering nothing but its members."""
    choice: Any = draft.fields.get("tool_choice")
    name = choice.get("name") if choice else None
    if name is None or any(placed.value.get("name") == name for placed in draft.tools):
        return
    members = {member for member, fields in tools.members.items() if fields["toolset_name"] == name}
    offered = [placed for placed in draft.tools if placed.value.get("name") in members]
    if offered:
        draft.tools = [Placed(placed.path, placed.value, made=True) for placed in offered]
        draft.fields["tool_choice"] = {**{k: v for k, v in choice.items() if k != "name"}, "type": "any"}
