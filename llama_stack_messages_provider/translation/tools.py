"""Custom tools and choices to OpenAI functions, and tool names that OpenAI-style servers take."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.errors import InvalidRequestError

__all__ = ["ToolNames", "ToolPlan", "tool_plan"]

# OpenAI's bound on function names: ^[a-zA-Z0-9_-]{1,64}$.
_MAX_NAME = 64
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
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

    Attributes:
        functions: OpenAI tools.
        choice: OpenAI's `tool_choice`, or None.
        parallel: OpenAI's `parallel_tool_calls`, or None.
        names: The names that were exchanged.
    """

    __slots__ = ("choice", "functions", "names", "parallel")

    def __init__(self, names: ToolNames) -> None:
        self.functions: list[dict[str, Any]] = []
        self.choice: str | dict[str, Any] | None = None
        self.parallel: bool | None = None
        self.names = names

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the chat completion."""
        given = {"tools": self.functions or None, "tool_choice": self.choice, "parallel_tool_calls": self.parallel}
        return {name: value for name, value in given.items() if value is not None}


def tool_plan(request: Mapping[str, Any], names: ToolNames) -> ToolPlan:
    """The functions to offer and the choice among them.

    Args:
        request: A plain request.
        names: The names that are exchanged.

    Raises:
        InvalidRequestError: A choice without tools, or of a tool that is not there.
    """
    plan = ToolPlan(names)
    plan.functions = [_function(tool, names) for tool in request.get("tools") or ()]
    if choice := request.get("tool_choice"):
        _choose(plan, choice)
    return plan


def _function(tool: Mapping[str, Any], names: ToolNames) -> dict[str, Any]:
    function: dict[str, Any] = {"name": names.sent(tool["name"])}
    if description := _description(tool):
        function["description"] = description
    # OpenAI's models refuse an object without `properties`.
    function["parameters"] = {"type": "object", "properties": {}, **tool["input_schema"]}
    if isinstance(tool.get("strict"), bool):
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _description(tool: Mapping[str, Any]) -> str:
    described, examples = tool.get("description"), tool.get("input_examples")
    texts = [described] if isinstance(described, str) and described else []
    if isinstance(examples, list) and examples:
        lines = (json.dumps(example, ensure_ascii=False, separators=(",", ":")) for example in examples)
        texts.append("\n".join(["Examples of its input:", *lines]))
    return "\n\n".join(texts)


def _choose(plan: ToolPlan, choice: Mapping[str, Any]) -> None:
    kind = choice["type"]
    if not plan.functions and kind != "none":
        raise InvalidRequestError("tool_choice: may only be specified while providing tools")
    if kind == "tool":
        sent = plan.names.sent(choice["name"])
        if not any(function["function"]["name"] == sent for function in plan.functions):
            raise InvalidRequestError(f"tool_choice.name: there is no tool named {choice['name']}")
        plan.choice = {"type": "function", "function": {"name": sent}}
    elif plan.functions:
        plan.choice = _CHOICES[kind]
    if plan.functions and choice.get("disable_parallel_tool_use"):
        plan.parallel = False
