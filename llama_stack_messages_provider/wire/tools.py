"""Tools of requests: the client's own, client tools of documented schema, server tools, toolsets.

Source: the `anthropic` SDK's `tool_*_param` types, beta ones included.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    JsonObject,
    Named,
    Omittable,
    UnknownType,
    WireModel,
    known,
    published,
)
from llama_stack_messages_provider.wire.blocks import CacheControlEphemeral
from llama_stack_messages_provider.wire.citations import CitationsConfigParam

__all__ = [
    "AdvisorTool20260301",
    "AllowedCaller",
    "ClientToolParam",
    "CodeExecutionTool",
    "InputSchema",
    "MCPToolConfig",
    "MCPToolset",
    "MemoryTool",
    "ServerToolParam",
    "Tool",
    "ToolBash",
    "ToolChoice",
    "ToolChoiceAny",
    "ToolChoiceAuto",
    "ToolChoiceNone",
    "ToolChoiceTool",
    "ToolComputerUse",
    "ToolSearchToolBm25",
    "ToolSearchToolRegex",
    "ToolStrReplaceEditor",
    "ToolTextEditor",
    "ToolUnionParam",
    "ToolsetMemberConfig",
    "ToolsetParam",
    "UnknownTool",
    "UserLocation",
    "WebFetchTool",
    "WebFetchURLSource",
    "WebFetchURLSourceTool",
    "WebFetchURLSources",
    "WebSearchTool",
]

AllowedCaller = Annotated[
    str,
    known("direct", "code_execution_20250825", "code_execution_20260120", "code_execution_20260521"),
]
Positive = Annotated[int, Field(gt=0)]


class _ToolOptions(WireModel):
    cache_control: CacheControlEphemeral | None = None
    """Cache the tools up to and including this one."""


class _NamedToolOptions(_ToolOptions):
    allowed_callers: Omittable[Array[AllowedCaller]] = None
    """Who may call the tool: the model itself, or code that a server tool runs."""
    defer_loading: Omittable[bool] = None
    """Keep the tool out of the prompt until a tool search finds it."""
    strict: Omittable[bool] = None
    """Constrain names and inputs to the schema."""


def _object_schema(schema: JsonObject) -> JsonObject:
    if schema.get("type", "object") != "object":
        raise PydanticCustomError("literal_error", "type should be 'object'")
    return schema


InputSchema = Annotated[
    JsonObject,
    AfterValidator(_object_schema),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {
                "type": {"const": "object", "type": "string"},
                "properties": {"anyOf": [{"type": "object", "additionalProperties": True}, {"type": "null"}]},
                "required": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
            },
            "required": ["type"],
            "additionalProperties": True,
        }
    ),
]
"""A JSON schema (draft 2020-12) of an object, kept key by key as the client wrote it."""


class Tool(_NamedToolOptions):
    """A tool of the client's own."""

    type: Literal["custom"] | None = None
    name: Annotated[str, Field(min_length=1, max_length=128, pattern="^[a-zA-Z0-9_-]{1,128}$")]
    description: Omittable[str] = None
    input_schema: InputSchema
    eager_input_streaming: bool | None = None
    """Stream the input as it is generated, not buffered."""
    input_examples: Omittable[Array[JsonObject]] = None


class ClientToolParam(_NamedToolOptions):
    """A tool whose schema Anthropic's models know and that the client executes."""

    type: str
    name: str
    input_examples: Omittable[Array[JsonObject]] = None


class ToolBash(ClientToolParam):
    type: Literal["bash_20241022", "bash_20250124"]
    name: Literal["bash"]


class ToolStrReplaceEditor(ClientToolParam):
    """The text editor of older models."""

    type: Literal["text_editor_20241022", "text_editor_20250124"]
    name: Literal["str_replace_editor"]


class ToolTextEditor(ClientToolParam):
    type: Literal["text_editor_20250429", "text_editor_20250728"]
    name: Literal["str_replace_based_edit_tool"]
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """How much of a viewed file is shown."""


class MemoryTool(ClientToolParam):
    type: Literal["memory_20250818"]
    name: Literal["memory"]


class ToolComputerUse(ClientToolParam):
    type: Literal["computer_20241022", "computer_20250124", "computer_20251124"]
    name: Literal["computer"]
    display_width_px: Annotated[int, Field(ge=1)]
    display_height_px: Annotated[int, Field(ge=1)]
    display_number: Annotated[int, Field(ge=0)] | None = None
    """The X11 display."""
    enable_zoom: Omittable[bool] = None


class ToolsetMemberConfig(WireModel):
    enabled: bool | None = None
    defer_loading: bool | None = None


class ToolsetParam(_ToolOptions):
    """A family of client tools declared by one entry; its calls carry `toolset_name`."""

    type: Literal["browser_toolset_20260801", "computer_toolset_20260801"]
    configs: Named[ToolsetMemberConfig | None] | None = None
    """Overrides, keyed by member name."""


class ServerToolParam(_NamedToolOptions):
    """A tool that Anthropic's servers execute."""

    type: str
    name: str


class CodeExecutionTool(ServerToolParam):
    type: Literal[
        "code_execution_20250522", "code_execution_20250825", "code_execution_20260120", "code_execution_20260521"
    ]
    name: Literal["code_execution"]


class UserLocation(WireModel):
    type: Annotated[str, published(const="approximate")]
    city: Annotated[str, published(minLength=1, maxLength=255)] | None = None
    country: Annotated[str, published(minLength=2, maxLength=2)] | None = None
    """ISO 3166-1 alpha-2."""
    region: Annotated[str, published(minLength=1, maxLength=255)] | None = None
    timezone: Annotated[str, published(minLength=1, maxLength=255)] | None = None
    """IANA name."""


class _WebTool(ServerToolParam):
    allowed_domains: Array[str] | None = None
    """Nothing but these; not together with `blocked_domains`."""
    blocked_domains: Array[str] | None = None
    max_uses: Positive | None = None
    """Per request."""
    response_inclusion: Omittable[Annotated[str, known("full", "excluded")]] = None


class WebSearchTool(_WebTool):
    type: Literal["web_search_20250305", "web_search_20260209", "web_search_20260318"]
    name: Literal["web_search"]
    user_location: UserLocation | None = None


class WebFetchURLSourceTool(WireModel):
    type: Annotated[str, published(const="tool_reference")]
    name: str


class WebFetchURLSource(WireModel):
    type: Annotated[str, known("all", "none", "only", "except")]
    """Which of them count."""
    tools: Omittable[Array[WebFetchURLSourceTool]] = None
    """The tools that `only` and `except` mean."""


class WebFetchURLSources(WireModel):
    """Where the URLs that may be fetched come from."""

    client_tool_results: Omittable[WebFetchURLSource] = None
    """Results of which of the client's tools."""
    server_tool_results: Omittable[WebFetchURLSource] = None
    """Results of which of the server tools."""
    user_input: Omittable[WebFetchURLSource] = None
    """Messages of the user: all or none."""


class WebFetchTool(_WebTool):
    type: Literal["web_fetch_20250910", "web_fetch_20260209", "web_fetch_20260309", "web_fetch_20260318"]
    name: Literal["web_fetch"]
    citations: CitationsConfigParam | None = None
    max_content_tokens: Positive | None = None
    """How much of a page enters the context, in tokens, roughly."""
    url_sources: WebFetchURLSources | None = None
    use_cache: Omittable[bool] = None


class ToolSearchToolBm25(ServerToolParam):
    type: Literal["tool_search_tool_bm25_20251119", "tool_search_tool_bm25"]
    name: Literal["tool_search_tool_bm25"]


class ToolSearchToolRegex(ServerToolParam):
    type: Literal["tool_search_tool_regex_20251119", "tool_search_tool_regex"]
    name: Literal["tool_search_tool_regex"]


class AdvisorTool20260301(ServerToolParam):
    type: Literal["advisor_20260301"]
    name: Literal["advisor"]
    model: str
    caching: CacheControlEphemeral | None = None
    max_tokens: Positive | None = None
    max_uses: Positive | None = None


class MCPToolConfig(WireModel):
    enabled: Omittable[bool] = None
    defer_loading: Omittable[bool] = None


class MCPToolset(_ToolOptions):
    """All tools of one of the request's `mcp_servers`."""

    type: Literal["mcp_toolset"]
    mcp_server_name: str
    configs: Named[MCPToolConfig] | None = None
    default_config: Omittable[MCPToolConfig] = None
    tools: Array[JsonObject] | None = None


class UnknownTool(UnknownType):
    """A tool of a type that this version does not know."""


ToolUnionParam = Annotated[
    Tool
    | ToolBash
    | ToolStrReplaceEditor
    | ToolTextEditor
    | MemoryTool
    | ToolComputerUse
    | ToolsetParam
    | CodeExecutionTool
    | WebSearchTool
    | WebFetchTool
    | ToolSearchToolBm25
    | ToolSearchToolRegex
    | AdvisorTool20260301
    | MCPToolset
    | UnknownTool,
    ByField(absent="custom"),
]
"""Every tool that a request may offer; one without a type is the client's own."""


class ToolChoiceAuto(WireModel):
    """The model decides."""

    type: Literal["auto"]
    disable_parallel_tool_use: Omittable[bool] = None
    """At most one call."""


class ToolChoiceAny(WireModel):
    """The model must call a tool."""

    type: Literal["any"]
    disable_parallel_tool_use: Omittable[bool] = None
    """Exactly one call."""


class ToolChoiceTool(WireModel):
    """The model must call this tool."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: Omittable[bool] = None
    """Exactly one call."""


class ToolChoiceNone(WireModel):
    """The model may not call a tool."""

    type: Literal["none"]


ToolChoice = Annotated[ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone, ByField()]
"""Closed: a choice that is not understood cannot be honoured, and a guess would change what happens."""
