"""Request blocks that server tools, MCP servers and beta features leave in a conversation.

Nothing here executes them; they are known so that a conversation begun elsewhere can go on.
Source: the `anthropic` SDK's `*_tool_result_block_param` types, beta ones included.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from .base import (
    ByField,
    ByShape,
    JsonObject,
    NullTolerated,
    Omittable,
    UnknownType,
    WireModel,
    known,
    published,
)
from .blocks import (
    CacheControlEphemeral,
    CachedBlock,
    Caller,
    DocumentBlockParam,
    ImageBlockParam,
    RedactedThinkingBlockParam,
    SearchResultBlockParam,
    TextBlockParam,
    ThinkingBlockParam,
    ToolReferenceBlockParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
    UnknownBlock,
)
from .tools import ToolUnionParam

__all__ = [
    "SERVER_TOOL_ID",
    "AdvisorErrorCode",
    "AdvisorRedactedResultBlockParam",
    "AdvisorResultBlockParam",
    "AdvisorToolResultBlockParam",
    "AdvisorToolResultErrorParam",
    "BashCodeExecutionOutputBlockParam",
    "BashCodeExecutionResultBlockParam",
    "BashCodeExecutionToolResultBlockParam",
    "BashCodeExecutionToolResultErrorParam",
    "BashErrorCode",
    "CodeExecutionOutputBlockParam",
    "CodeExecutionResultBlockParam",
    "CodeExecutionToolResultBlockParam",
    "CodeExecutionToolResultErrorParam",
    "CompactionBlockParam",
    "ContainerUploadBlockParam",
    "ContentBlockParam",
    "EncryptedCodeExecutionResultBlockParam",
    "ExecutionErrorCode",
    "FallbackBlockParam",
    "FallbackInfo",
    "MCPTool",
    "MCPToolListingBlockParam",
    "MCPToolResultBlockParam",
    "MCPToolUseBlockParam",
    "ServerToolId",
    "ServerToolName",
    "ServerToolUseBlockParam",
    "SummarizedToolChange",
    "SystemBlockParam",
    "TextEditorCodeExecutionCreateResultBlockParam",
    "TextEditorCodeExecutionStrReplaceResultBlockParam",
    "TextEditorCodeExecutionToolResultBlockParam",
    "TextEditorCodeExecutionToolResultErrorParam",
    "TextEditorCodeExecutionViewResultBlockParam",
    "TextEditorErrorCode",
    "ToolAdditionBlockParam",
    "ToolChangeMCPToolReference",
    "ToolChangeMCPToolsetReference",
    "ToolChangeToolDefinition",
    "ToolChangeToolReference",
    "ToolRemovalBlockParam",
    "ToolSearchToolResultBlockParam",
    "ToolSearchToolResultErrorParam",
    "ToolSearchToolSearchResultBlockParam",
    "WebFetchBlockParam",
    "WebFetchErrorCode",
    "WebFetchToolResultBlockParam",
    "WebFetchToolResultErrorBlockParam",
    "WebSearchErrorCode",
    "WebSearchResultBlockParam",
    "WebSearchToolRequestError",
    "WebSearchToolResultBlockParam",
]

SERVER_TOOL_ID = "^srvtoolu_[a-zA-Z0-9_]+$"

ServerToolName = Annotated[
    str,
    known(
        "web_search",
        "web_fetch",
        "code_execution",
        "bash_code_execution",
        "text_editor_code_execution",
        "tool_search_tool_regex",
        "tool_search_tool_bm25",
        "advisor",
    ),
]

ServerToolId = Annotated[str, published(pattern=SERVER_TOOL_ID)]

_UNAVAILABLE = ("invalid_tool_input", "unavailable", "too_many_requests")
ExecutionErrorCode = Annotated[str, known(*_UNAVAILABLE, "execution_time_exceeded")]
BashErrorCode = Annotated[str, known(*_UNAVAILABLE, "execution_time_exceeded", "output_file_too_large")]
TextEditorErrorCode = Annotated[str, known(*_UNAVAILABLE, "execution_time_exceeded", "file_not_found")]
WebSearchErrorCode = Annotated[str, known(*_UNAVAILABLE, "max_uses_exceeded", "query_too_long", "request_too_large")]
WebFetchErrorCode = Annotated[
    str,
    known(
        *_UNAVAILABLE,
        "url_too_long",
        "url_not_allowed",
        "url_not_in_prior_context",
        "url_not_accessible",
        "unsupported_content_type",
        "max_uses_exceeded",
        "content_too_large",
    ),
]
AdvisorErrorCode = Annotated[
    str,
    known(
        "max_uses_exceeded",
        "prompt_too_long",
        "too_many_requests",
        "overloaded",
        "unavailable",
        "execution_time_exceeded",
        "model_not_found",
    ),
]


class ServerToolUseBlockParam(CachedBlock):
    type: Literal["server_tool_use"]
    id: ServerToolId
    name: ServerToolName
    input: JsonObject
    caller: NullTolerated[Caller] = None


class _ServerToolResult(CachedBlock):
    tool_use_id: ServerToolId


class WebSearchResultBlockParam(WireModel):
    type: Literal["web_search_result"]
    title: str
    url: str
    encrypted_content: str
    page_age: str | None = None


class WebSearchToolRequestError(WireModel):
    type: Literal["web_search_tool_result_error"]
    error_code: WebSearchErrorCode


class WebSearchToolResultBlockParam(_ServerToolResult):
    type: Literal["web_search_tool_result"]
    content: Annotated[list[WebSearchResultBlockParam] | WebSearchToolRequestError, ByShape()]
    caller: NullTolerated[Caller] = None


class WebFetchBlockParam(WireModel):
    type: Literal["web_fetch_result"]
    url: str
    content: DocumentBlockParam
    retrieved_at: str | None = None
    """ISO 8601."""


class WebFetchToolResultErrorBlockParam(WireModel):
    type: Literal["web_fetch_tool_result_error"]
    error_code: WebFetchErrorCode


class WebFetchToolResultBlockParam(_ServerToolResult):
    type: Literal["web_fetch_tool_result"]
    content: Annotated[WebFetchToolResultErrorBlockParam | WebFetchBlockParam | UnknownType, ByField()]
    caller: NullTolerated[Caller] = None


class CodeExecutionOutputBlockParam(WireModel):
    type: Literal["code_execution_output"]
    file_id: str


class CodeExecutionResultBlockParam(WireModel):
    type: Literal["code_execution_result"]
    stdout: str
    stderr: str
    return_code: int
    content: list[CodeExecutionOutputBlockParam]


class EncryptedCodeExecutionResultBlockParam(WireModel):
    type: Literal["encrypted_code_execution_result"]
    encrypted_stdout: str
    stderr: str
    return_code: int
    content: list[CodeExecutionOutputBlockParam]


class CodeExecutionToolResultErrorParam(WireModel):
    type: Literal["code_execution_tool_result_error"]
    error_code: ExecutionErrorCode


class CodeExecutionToolResultBlockParam(_ServerToolResult):
    type: Literal["code_execution_tool_result"]
    content: Annotated[
        CodeExecutionToolResultErrorParam
        | CodeExecutionResultBlockParam
        | EncryptedCodeExecutionResultBlockParam
        | UnknownType,
        ByField(),
    ]


class BashCodeExecutionOutputBlockParam(WireModel):
    type: Literal["bash_code_execution_output"]
    file_id: str


class BashCodeExecutionResultBlockParam(WireModel):
    type: Literal["bash_code_execution_result"]
    stdout: str
    stderr: str
    return_code: int
    content: list[BashCodeExecutionOutputBlockParam]


class BashCodeExecutionToolResultErrorParam(WireModel):
    type: Literal["bash_code_execution_tool_result_error"]
    error_code: BashErrorCode


class BashCodeExecutionToolResultBlockParam(_ServerToolResult):
    type: Literal["bash_code_execution_tool_result"]
    content: Annotated[
        BashCodeExecutionToolResultErrorParam | BashCodeExecutionResultBlockParam | UnknownType, ByField()
    ]


class TextEditorCodeExecutionViewResultBlockParam(WireModel):
    type: Literal["text_editor_code_execution_view_result"]
    content: str
    file_type: Annotated[str, known("text", "image", "pdf")]
    num_lines: int | None = None
    start_line: int | None = None
    total_lines: int | None = None


class TextEditorCodeExecutionCreateResultBlockParam(WireModel):
    type: Literal["text_editor_code_execution_create_result"]
    is_file_update: bool


class TextEditorCodeExecutionStrReplaceResultBlockParam(WireModel):
    type: Literal["text_editor_code_execution_str_replace_result"]
    lines: list[str] | None = None
    new_lines: int | None = None
    new_start: int | None = None
    old_lines: int | None = None
    old_start: int | None = None


class TextEditorCodeExecutionToolResultErrorParam(WireModel):
    type: Literal["text_editor_code_execution_tool_result_error"]
    error_code: TextEditorErrorCode
    error_message: str | None = None


class TextEditorCodeExecutionToolResultBlockParam(_ServerToolResult):
    type: Literal["text_editor_code_execution_tool_result"]
    content: Annotated[
        TextEditorCodeExecutionToolResultErrorParam
        | TextEditorCodeExecutionViewResultBlockParam
        | TextEditorCodeExecutionCreateResultBlockParam
        | TextEditorCodeExecutionStrReplaceResultBlockParam
        | UnknownType,
        ByField(),
    ]


class ToolSearchToolSearchResultBlockParam(WireModel):
    type: Literal["tool_search_tool_search_result"]
    tool_references: list[ToolReferenceBlockParam]


class ToolSearchToolResultErrorParam(WireModel):
    type: Literal["tool_search_tool_result_error"]
    error_code: ExecutionErrorCode
    error_message: str | None = None


class ToolSearchToolResultBlockParam(_ServerToolResult):
    type: Literal["tool_search_tool_result"]
    content: Annotated[ToolSearchToolResultErrorParam | ToolSearchToolSearchResultBlockParam | UnknownType, ByField()]


class ContainerUploadBlockParam(CachedBlock):
    """A file for the container that code execution runs in."""

    type: Literal["container_upload"]
    file_id: str


# Beta blocks.


class AdvisorResultBlockParam(WireModel):
    type: Literal["advisor_result"]
    text: str
    stop_reason: str | None = None


class AdvisorRedactedResultBlockParam(WireModel):
    type: Literal["advisor_redacted_result"]
    encrypted_content: str
    stop_reason: str | None = None


class AdvisorToolResultErrorParam(WireModel):
    type: Literal["advisor_tool_result_error"]
    error_code: AdvisorErrorCode


class AdvisorToolResultBlockParam(_ServerToolResult):
    type: Literal["advisor_tool_result"]
    content: Annotated[
        AdvisorToolResultErrorParam | AdvisorResultBlockParam | AdvisorRedactedResultBlockParam | UnknownType,
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
    content: Omittable[Annotated[str | list[Annotated[TextBlockParam | UnknownBlock, ByField()]], ByShape()]] = None
    is_error: Omittable[bool] = None


class MCPTool(WireModel):
    """A tool as an MCP server listed it."""

    name: str
    description: str | None = None
    input_schema: JsonObject


class MCPToolListingBlockParam(WireModel):
    type: Literal["mcp_tool_listing"]
    mcp_server_name: str
    tools: list[MCPTool]


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
    tool_changes: list[SummarizedToolChange] | None = None


class FallbackInfo(WireModel):
    model: str


class FallbackBlockParam(WireModel):
    """Marks where another model took over."""

    type: Literal["fallback"]
    from_: Annotated[FallbackInfo, Field(alias="from")]
    to: FallbackInfo
    trigger: Any = None


ContentBlockParam = Annotated[
    TextBlockParam
    | ImageBlockParam
    | DocumentBlockParam
    | SearchResultBlockParam
    | ThinkingBlockParam
    | RedactedThinkingBlockParam
    | ToolUseBlockParam
    | ToolResultBlockParam
    | ServerToolUseBlockParam
    | WebSearchToolResultBlockParam
    | WebFetchToolResultBlockParam
    | CodeExecutionToolResultBlockParam
    | BashCodeExecutionToolResultBlockParam
    | TextEditorCodeExecutionToolResultBlockParam
    | ToolSearchToolResultBlockParam
    | ContainerUploadBlockParam
    | AdvisorToolResultBlockParam
    | MCPToolUseBlockParam
    | MCPToolResultBlockParam
    | MCPToolListingBlockParam
    | ToolAdditionBlockParam
    | ToolRemovalBlockParam
    | CompactionBlockParam
    | FallbackBlockParam
    | UnknownBlock,
    ByField(),
]
"""Every block that a message of a request may hold."""

SystemBlockParam = Annotated[
    TextBlockParam | UnknownBlock,
    ByField(
        misplaced=(
            "image",
            "document",
            "search_result",
            "thinking",
            "redacted_thinking",
            "tool_use",
            "tool_result",
            "server_tool_use",
        )
    ),
]
"""The blocks of the system prompt: text, or something newer than this version."""
