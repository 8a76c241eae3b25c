"""What server tools have in common whose calls are `server_tool_use` blocks of one name."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.server_tools.tool import Block
from llama_stack_messages_provider.wire.base import WireModel, describe

__all__ = ["OneName", "check_definition", "custom_tool", "is_of_kind"]


def is_of_kind(definition: Block, prefix: str) -> bool:
    """Whether a tool of a request is one of Anthropic's whose type begins so, of any version."""
    kind = definition.get("type")
    return isinstance(kind, str) and kind.startswith(prefix) and "input_schema" not in definition


def check_definition(kind: type[WireModel], definition: Block, path: str) -> None:
    """Refuse a tool of a request that is not as Anthropic documents it.

    Raises:
        InvalidRequestError: It begins with the path of the field.
    """
    try:
        kind.model_validate(definition)
    except ValidationError as exc:
        raise InvalidRequestError(f"{path}.{describe(exc)}") from exc


def custom_tool(
    name: str, description: str, properties: Mapping[str, Any], *, required: Sequence[str] = (), strict: bool = False
) -> dict[str, Any]:
    """A custom tool that takes these properties and no others."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    schema["additionalProperties"] = False
    definition = {"name": name, "description": description, "input_schema": schema}
    return {**definition, "strict": True} if strict else definition


class OneName:
    """The part of a `ServerTool` that says what its calls look like.

    Attributes:
        name: The name of the tool.
    """

    name: str

    def call_fields(self, name: str) -> dict[str, Any]:
        """The fields of a call's block."""
        return {"type": "server_tool_use", "name": name}

    def custom_name(self, block: Block) -> str | None:
        """The custom tool, if a block is a call of this one."""
        return self.name if block.get("type") == "server_tool_use" and block.get("name") == self.name else None
