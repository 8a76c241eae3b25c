"""Tool definitions and choices to OpenAI functions, and tool names that OpenAI-style servers take."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.client_tools import ClientTools, client_tool_functions
from llama_stack_messages_provider.server_tools.web_search import SearchTool, is_search_tool

__all__ = ["ToolNames", "ToolPlan", "can_be_called", "tool_plan"]

# OpenAI's bound on function names: ^[a-zA-Z0-9_-]{1,64}$.
_MAX_NAME = 64
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Run by servers; where a request has no other tool, a model without them could only make up what they would find.
_SERVER_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_", "advisor_", "mcp_toolset")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class ToolNames:
    """Names that are sent upstream for names that clients use: shortened with a hash where they are too long."""

    def __init__(self) -> None:
        self.restored: dict[str, str] = {}

    def sent(self, name: str) -> str:
        """The name to send; the same name always becomes the same one, so that prompts stay cacheable."""
        if _NAME.fullmatch(name):
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        short = f"{re.sub('[^a-zA-Z0-9_-]', '_', name[: _MAX_NAME - 13])}_{digest}"
        self.restored[short] = name
        return short


class ToolPlan:
    """What is offered to the model.

    Args:
        functions: OpenAI tools.
        choice: OpenAI's `tool_choice`, or None.
        parallel: OpenAI's `parallel_tool_calls`, or None.
        names: The names that were exchanged.
        client_tools: The client tools with documented schemas among them.
        search: The web search, where it is run here.
    """

    __slots__ = ("_offered", "choice", "client_tools", "functions", "names", "parallel", "search")

    def __init__(self, names: ToolNames, client_tools: ClientTools) -> None:
        self.functions: list[dict[str, Any]] = []
        self.choice: str | dict[str, Any] | None = None
        self.parallel: bool | None = None
        self.names = names
        self.client_tools = client_tools
        self.search: SearchTool | None = None
        self._offered: set[str] = set()

    def offer(self, functions: list[dict[str, Any]]) -> bool:
        """Add functions whose names are not taken; false if any name was."""
        new = [function for function in functions if function["function"]["name"] not in self._offered]
        self._offered.update(function["function"]["name"] for function in new)
        self.functions += new
        return len(new) == len(functions)

    def restored(self, function_name: str) -> dict[str, Any]:
        """The `name`, and for a toolset's member the `toolset_name`, of a call's `tool_use` block; for a search the
        `type` as well.
        """
        if self.search is not None and function_name == "web_search":
            return {"type": "server_tool_use", "name": "web_search"}
        name = self.names.restored.get(function_name, function_name)
        return {"name": name, **self.client_tools.block_fields(name)}


def tool_plan(request: Mapping[str, Any], losses: DroppedFields, *, searches: bool = False) -> ToolPlan:
    """The functions to offer and the choice among them.

    Args:
        request: The request's JSON, validated.
        losses: Takes what cannot be carried.
        searches: Whether web searches are run here.

    Raises:
        InvalidRequestError: A choice without tools, of a tool that is not there, or of one that nothing here runs; or
            none of the tools is one that is run here.
    """
    found = {f"tools.{index}": tool for index, tool in enumerate(request.get("tools") or ())} | dict(_added(request))
    tools = list(found.values())
    plan = ToolPlan(ToolNames(), ClientTools(tools))
    for path, tool in found.items():
        functions = _functions(plan, tool, path, losses)
        if functions is None and searches and is_search_tool(tool):
            _offer_search(plan, tool, path, losses)
        elif functions is None:
            losses.drop(path, f"nothing here runs {tool['type']}")
        else:
            _offer(plan, functions, path, losses)
    choice = request.get("tool_choice")
    # A prompt that is only counted asks nothing of its tools.
    if not plan.functions and "max_tokens" in request and not (choice and choice["type"] == "none"):
        _refuse_server_tools(tools)
    if choice:
        _choose(plan, choice, tools)
    return plan


def _refuse_server_tools(tools: list[dict[str, Any]]) -> None:
    kinds = [kind for tool in tools if (kind := str(tool.get("type"))).startswith(_SERVER_TOOLS)]
    if kinds:
        raise InvalidRequestError(f"tools: the only tools are ones that this server cannot run ({', '.join(kinds)})")


def _offer_search(plan: ToolPlan, tool: Mapping[str, Any], path: str, losses: DroppedFields) -> None:
    search, offered = SearchTool.of(tool, path), len(plan.functions)
    _offer(plan, [_function(search.definition, plan.names)], path, losses)
    if len(plan.functions) > offered:
        plan.search = search


def _functions(
    plan: ToolPlan, tool: Mapping[str, Any], path: str, losses: DroppedFields
) -> list[dict[str, Any]] | None:
    """What a tool is to the model; None if it is one that a server runs."""
    functions = plan.client_tools.functions_of(tool)
    if functions is not None and tool.get("strict"):
        losses.drop(f"{path}.strict", "its documented schema leaves open what strict ones must not")
    if functions is None and _is_custom(tool):
        functions = [_function(tool, plan.names)]
    if functions and isinstance(examples := tool.get("input_examples"), list) and examples:
        functions = [_with_examples(each, examples) for each in functions]
    return functions


def _with_examples(tool: dict[str, Any], examples: list[Any]) -> dict[str, Any]:
    function = tool["function"]
    lines = [json.dumps(example, ensure_ascii=False, separators=(",", ":")) for example in examples]
    text = "\n".join(["Examples of its input:", *lines])
    if described := function.get("description"):
        text = f"{described}\n\n{text}"
    return {**tool, "function": {**function, "description": text}}


def _added(request: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tools that `tool_addition` blocks define in mid-conversation: offered from the start, which changes no answer."""
    for i, message in enumerate(request["messages"]):
        if isinstance(content := message.get("content"), list):
            for j, block in enumerate(content):
                if block["type"] == "tool_addition" and block["tool"]["type"] == "tool_definition":
                    yield f"messages.{i}.content.{j}.tool.definition", block["tool"]["definition"]


def can_be_called(tool: Mapping[str, Any]) -> bool:
    """Whether a tool becomes functions: the client's own, and the documented ones that clients execute."""
    return _is_custom(tool) or client_tool_functions(tool) is not None


def _is_custom(tool: Mapping[str, Any]) -> bool:
    """Whether a tool is the client's own; one of an unknown type is, if it looks like one."""
    if tool.get("type") in (None, "custom"):
        return True
    return isinstance(tool.get("name"), str) and isinstance(tool.get("input_schema"), dict)


def _offer(plan: ToolPlan, functions: list[dict[str, Any]], path: str, losses: DroppedFields) -> None:
    if not plan.offer(functions):
        losses.drop(path, "another tool has the same name")


def _function(tool: Mapping[str, Any], names: ToolNames) -> dict[str, Any]:
    function: dict[str, Any] = {"name": names.sent(tool["name"])}
    if isinstance(description := tool.get("description"), str) and description:
        function["description"] = description
    # OpenAI's models refuse an object without `properties`.
    function["parameters"] = {"type": "object", "properties": {}, **tool["input_schema"]}
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _choose(plan: ToolPlan, choice: Mapping[str, Any], tools: list[dict[str, Any]]) -> None:
    kind = choice["type"]
    if not tools and kind != "none":
        raise InvalidRequestError("tool_choice: may only be specified while providing tools")
    if kind == "tool":
        _force(plan, choice["name"], tools)
    elif plan.functions:
        plan.choice = _CHOICES[kind]
    elif kind == "any":
        raise InvalidRequestError("tool_choice: there is no tool to call")
    if plan.functions and choice.get("disable_parallel_tool_use"):
        plan.parallel = False


def _force(plan: ToolPlan, name: str, tools: list[dict[str, Any]]) -> None:
    sent = plan.names.sent(name)
    if any(function["function"]["name"] == sent for function in plan.functions):
        plan.choice = {"type": "function", "function": {"name": sent}}
        return
    if members := plan.client_tools.toolset_functions(name):  # a toolset is forced by offering nothing but its members
        plan.functions, plan.choice = members, "required"
        return
    if any(tool.get("name") == name for tool in tools):
        raise InvalidRequestError(f"tool_choice.name: {name} is a tool that this server cannot run")
    raise InvalidRequestError(f"tool_choice.name: there is no tool named {name}")
