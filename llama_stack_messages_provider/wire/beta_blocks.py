"""Request blocks of beta features: advisors, MCP servers, tools changed in mid-conversation, compaction, fallbacks.

Source: the `anthropic` SDK's `beta_*_block_param` types.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    ByShape,
    JsonObject,
    Omittable,
    UnknownType,
    WireModel,
    known,
)
from llama_stack_messages_provider.wire.blocks import CacheControlEphemeral, CachedBlock, TextBlockParam, UnknownBlock
from llama_stack_messages_provider.wire.server_blocks import ServerToolErrorParam, ServerToolResultParam
from llama_stack_messages_provider.wire.tools import ToolUnionParam

__all__ = [
    "AdvisorRedactedResultBlockParam",
    "AdvisorResultBlockParam",
    "AdvisorToolResultBlockParam",
    "CompactionBlockParam",
    "FallbackBlockParam",
    "FallbackInfo",
    "MCPTool",
    "MCPToolListingBlockParam",
    "MCPToolResultBlockParam",
    "MCPToolUseBlockParam",
    "SummarizedToolChange",
    "ToolAdditionBlockParam",
    "ToolChangeMCPToolReference",
    "ToolChangeMCPToolsetReference",
    "ToolChangeToolDefinition",
    "ToolChangeToolReference",
    "ToolRemovalBlockParam",
]


class AdvisorResultBlockParam(WireModel):
    type: Literal["advisor_result"]
    text: str
    stop_reason: str | None = None


class AdvisorRedactedResultBlockParam(WireModel):
    type: Literal["advisor_redacted_result"]
    encrypted_content: str
    stop_reason: str | None = None


class AdvisorToolResultBlockParam(ServerToolResultParam):
    type: Literal["advisor_tool_result"]
    content: Annotated[
        ServerToolErrorParam | AdvisorResultBlockParam | AdvisorRedactedResultBlockParam | UnknownType,
        ByField(),
    ]


class MCPToolUseBlockParam(CachedBlock):
    type: Literal["mcp_tool_use"]
    id: str
    name: str
    server_name: str
    input: JsonObject


class MCPToolResultBlockParam(CachedBlock):
    type: Literal["mcp_tool_result"]
    tool_use_id: str
    content: Omittable[Annotated[str | Array[Annotated[TextBlockParam | UnknownBlock, ByField()]], ByShape()]] = None
    is_error: Omittable[bool] = None


class MCPTool(WireModel):
    """A tool as an MCP server listed it."""

    name: str
    description: str | None = None
    input_schema: JsonObject


class MCPToolListingBlockParam(WireModel):
    type: Literal["mcp_tool_listing"]
    mcp_server_name: str
    tools: Array[MCPTool]


class ToolChangeToolReference(WireModel):
    type: Literal["tool_reference"]
    name: str


class ToolChangeMCPToolReference(WireModel):
    type: Literal["mcp_tool_reference"]
    name: str
    server_name: str


class ToolChangeMCPToolsetReference(WireModel):
    type: Literal["mcp_toolset_reference"]
    server_name: str


class ToolChangeToolDefinition(WireModel):
    type: Literal["tool_definition"]
    definition: ToolUnionParam


class ToolAdditionBlockParam(CachedBlock):
    """From here on the model may use this tool too."""

    type: Literal["tool_addition"]
    tool: Annotated[
        ToolChangeToolReference
        | ToolChangeMCPToolReference
        | ToolChangeMCPToolsetReference
        | ToolChangeToolDefinition
        | UnknownType,
        ByField(),
    ]


class ToolRemovalBlockParam(CachedBlock):
    """From here on the model may not use this tool."""

    type: Literal["tool_removal"]
    tool: Annotated[
        ToolChangeToolReference | ToolChangeMCPToolReference | ToolChangeMCPToolsetReference | UnknownType,
        ByField(),
    ]


class SummarizedToolChange(WireModel):
    """A change of the tools in what was summarised; the tool is kept as it came, with the server's nulls."""

    type: Annotated[str, known("tool_addition", "tool_removal")]
    tool: JsonObject
    cache_control: CacheControlEphemeral | None = None
    """Cache the prompt up to and including this change."""


class CompactionBlockParam(CachedBlock):
    """A summary that stands for the conversation before it."""

    type: Literal["compaction"]
    content: str | None = None
    encrypted_content: str | None = None
    signature: str | None = None
    tool_changes: Array[SummarizedToolChange] | None = None


class FallbackInfo(WireModel):
    model: str


class FallbackBlockParam(WireModel):
    """Marks where another model took over."""

    type: Literal["fallback"]
    from_: Annotated[FallbackInfo, Field(alias="from")]
    to: FallbackInfo
    trigger: Any = None
