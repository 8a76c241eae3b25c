"""Anthropic's client tools (bash, text editor, memory, computer, browser) as functions for any model.

A toolset is one entry of `tools` and many functions. Its calls are `tool_use` blocks with the member as
`name` and the family as `toolset_name`; two families share names, and a client's own tool may have one
too. So a member is offered as `<family>_<member>` and gets its own name back on the way out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.rewriting.client_tool_schemas import TOOLS, Function
from llama_stack_messages_provider.rewriting.toolset_schemas import TOOLSETS, Member, Toolset

__all__ = ["ClientTools", "can_be_called", "client_tool_functions"]


def client_tool_functions(tool: Mapping[str, Any], prefix: str | None = None) -> list[dict[str, Any]] | None:
    """The OpenAI functions that a tool of a request is.

    Args:
        tool: An item of the request's `tools`, as the client sent it.
        prefix: Beginning of the names of a toolset's members, `<family>_` if not given.

    Returns:
        The functions, whose schemas are shared and not to be changed; an empty list if all members are off.
        None if the tool is not a client tool: one of the client's own, or one that a server runs.
    """
    kind = str(tool.get("type"))
    if kind in TOOLSETS:
        return _toolset_functions(TOOLSETS[kind], tool.get("configs") or {}, prefix)
    if kind not in TOOLS:
        return None
    function = TOOLS[kind](tool)
    return [_openai(function._replace(name=tool.get("name") or function.name))]


def can_be_called(tool: Mapping[str, Any]) -> bool:
    """Whether a tool can be offered to any model: the client's own, one of an unknown type that looks like one, and the
    documented ones that clients execute.
    """
    if tool.get("type") in (None, "custom"):
        return True
    looks_like_one = isinstance(tool.get("name"), str) and isinstance(tool.get("input_schema"), dict)
    return looks_like_one or client_tool_functions(tool) is not None


class ClientTools:
    """The client tools of one request, and both directions of their names.

    Args:
        tools: The request's `tools`, as the client sent them.
    """

    __slots__ = ("_members", "_prefixes")

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._prefixes: dict[str, str] = {}
        self._members: dict[str, dict[str, str]] = {}
        taken = {str(tool["name"]) for tool in tools if tool.get("name")}
        for tool in tools:
            if (toolset := _toolset(tool)) and toolset.name not in self._prefixes:
                self._declare(toolset, taken)

    def _declare(self, toolset: Toolset, taken: set[str]) -> None:
        prefix = f"{toolset.name}_"
        while any(prefix + member in taken for member in toolset.members):
            prefix += "_"
        self._prefixes[toolset.name] = prefix
        # Disabled members too: the client's toolset tells the model more than "there is no such tool" would.
        for member in toolset.members:
            self._members[prefix + member] = {"name": member, "toolset_name": toolset.name}

    @property
    def members(self) -> dict[str, dict[str, str]]:
        """The `name` and `toolset_name` of each member of a toolset, by the name of its function."""
        return self._members

    def functions_of(self, tool: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """`client_tool_functions` with names that no other tool of the request has."""
        toolset = _toolset(tool)
        return client_tool_functions(tool, self._prefixes.get(toolset.name) if toolset else None)

    def function_name(self, tool_use_block: Mapping[str, Any]) -> str:
        """The name of the function that a `tool_use` block of the conversation called."""
        name, family = str(tool_use_block["name"]), tool_use_block.get("toolset_name")
        return self._prefixes.get(family, f"{family}_") + name if family else name


def _toolset(tool: Mapping[str, Any]) -> Toolset | None:
    return TOOLSETS.get(str(tool.get("type")))


def _toolset_functions(toolset: Toolset, configs: Mapping[str, Any], prefix: str | None) -> list[dict[str, Any]]:
    start = prefix or f"{toolset.name}_"
    return [
        _openai(Function(start + name, member.description, member.parameters))
        for name, member in toolset.members.items()
        if _enabled(member, configs.get(name))
    ]


def _enabled(member: Member, config: Any) -> bool:
    """As the SDK's runners decide: a boolean switches a member, null keeps the default, all else is off."""
    enabled = config.get("enabled") if isinstance(config, Mapping) else config
    return member.enabled if enabled is None else enabled is True and isinstance(config, Mapping)


def _openai(function: Function) -> dict[str, Any]:
    return {"type": "function", "function": function._asdict()}
