"""Content blocks of responses.

Source: https://platform.claude.com/docs/en/api/messages and the `anthropic` SDK's `*_block` types.
"""

from typing import Annotated, Literal

from pydantic import Field

from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    ByShape,
    JsonObject,
    Omittable,
    Rare,
    ResponseModel,
    UnknownType,
    known,
    published,
)
from llama_stack_messages_provider.wire.beta_blocks import (
    AdvisorRedactedResultBlockParam,
    AdvisorResultBlockParam,
    AdvisorToolResultErrorParam,
    FallbackInfo,
    MCPTool,
    SummarizedToolChange,
)
from llama_stack_messages_provider.wire.blocks import (
    Base64PDFSource,
    Caller,
    DirectCaller,
    PlainTextSource,
    UnknownBlock,
    UnknownSource,
)
from llama_stack_messages_provider.wire.citations import CitationsConfig, TextCitation
from llama_stack_messages_provider.wire.server_blocks import (
    BashCodeExecutionToolResultErrorParam,
    CodeExecutionToolResultErrorParam,
    ServerToolId,
    ServerToolName,
    TextEditorCodeExecutionCreateResultBlockParam,
    TextEditorCodeExecutionStrReplaceResultBlockParam,
    TextEditorCodeExecutionToolResultErrorParam,
    TextEditorCodeExecutionViewResultBlockParam,
    ToolSearchToolResultErrorParam,
    WebFetchToolResultErrorBlockParam,
    WebSearchResultBlockParam,
    WebSearchToolRequestError,
)

__all__ = [
    "AdvisorToolResultBlock",
    "BashCodeExecutionOutputBlock",
    "BashCodeExecutionResultBlock",
    "BashCodeExecutionToolResultBlock",
    "BashCodeExecutionToolResultError",
    "CodeExecutionOutputBlock",
    "CodeExecutionResultBlock",
    "CodeExecutionToolResultBlock",
    "CodeExecutionToolResultError",
    "CompactionBlock",
    "ContainerUploadBlock",
    "ContentBlock",
    "DocumentBlock",
    "EncryptedCodeExecutionResultBlock",
    "FallbackBlock",
    "FallbackTrigger",
    "MCPToolListingBlock",
    "MCPToolResultBlock",
    "MCPToolUseBlock",
    "RedactedThinkingBlock",
    "RefusalCategory",
    "ServerToolUseBlock",
    "TextBlock",
    "TextEditorCodeExecutionCreateResultBlock",
    "TextEditorCodeExecutionStrReplaceResultBlock",
    "TextEditorCodeExecutionToolResultBlock",
    "TextEditorCodeExecutionToolResultError",
    "TextEditorCodeExecutionViewResultBlock",
    "ThinkingBlock",
    "ToolReferenceBlock",
    "ToolSearchToolResultBlock",
    "ToolSearchToolResultError",
    "ToolSearchToolSearchResultBlock",
    "ToolUseBlock",
    "WebFetchBlock",
    "WebFetchToolResultBlock",
    "WebFetchToolResultErrorBlock",
    "WebSearchResultBlock",
    "WebSearchToolResultBlock",
    "WebSearchToolResultError",
]


RefusalCategory = Annotated[str, known("cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms")]


def _direct() -> Caller:
    return DirectCaller(type="direct")


_BY_THE_MODEL: Caller = Field(default_factory=_direct, json_schema_extra={"default": {"type": "direct"}})


class TextBlock(ResponseModel):
    type: Literal["text"] = "text"
    text: Annotated[str, published(minLength=0, maxLength=5_000_000)]
    citations: Array[TextCitation] | None = None


class ThinkingBlock(ResponseModel):
    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: str
    """Opaque; to be sent back unchanged with the block."""


class RedactedThinkingBlock(ResponseModel):
    type: Literal["redacted_thinking"] = "redacted_thinking"
    data: str


class ToolUseBlock(ResponseModel):
    """A call that the client is to execute."""

    type: Literal["tool_use"] = "tool_use"
    id: Annotated[str, published(pattern="^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, published(minLength=1)]
    input: JsonObject
    caller: Omittable[Caller] = _BY_THE_MODEL
    toolset_name: Rare[str] = None
    """The toolset that a member tool belongs to, such as `browser`."""


class ServerToolUseBlock(ResponseModel):
    """A call that the server executed."""

    type: Literal["server_tool_use"] = "server_tool_use"
    id: ServerToolId
    name: ServerToolName
    input: JsonObject
    caller: Omittable[Caller] = _BY_THE_MODEL


class WebSearchResultBlock(WebSearchResultBlockParam, ResponseModel):
    type: Literal["web_search_result"] = "web_search_result"


class WebSearchToolResultError(WebSearchToolRequestError, ResponseModel):
    type: Literal["web_search_tool_result_error"] = "web_search_tool_result_error"


class WebSearchToolResultBlock(ResponseModel):
    type: Literal["web_search_tool_result"] = "web_search_tool_result"
    tool_use_id: ServerToolId
    content: Annotated[WebSearchToolResultError | Array[WebSearchResultBlock], ByShape()]
    caller: Omittable[Caller] = _BY_THE_MODEL


class DocumentBlock(ResponseModel):
    type: Literal["document"] = "document"
    source: Annotated[Base64PDFSource | PlainTextSource | UnknownSource, ByField()]
    title: str | None = None
    citations: CitationsConfig | None = None


class WebFetchBlock(ResponseModel):
    type: Literal["web_fetch_result"] = "web_fetch_result"
    url: str
    content: DocumentBlock
    retrieved_at: str | None = None
    """ISO 8601."""


class WebFetchToolResultErrorBlock(WebFetchToolResultErrorBlockParam, ResponseModel):
    type: Literal["web_fetch_tool_result_error"] = "web_fetch_tool_result_error"


class WebFetchToolResultBlock(ResponseModel):
    type: Literal["web_fetch_tool_result"] = "web_fetch_tool_result"
    tool_use_id: ServerToolId
    content: Annotated[WebFetchToolResultErrorBlock | WebFetchBlock | UnknownType, ByField()]
    caller: Omittable[Caller] = _BY_THE_MODEL


class CodeExecutionOutputBlock(ResponseModel):
    type: Literal["code_execution_output"] = "code_execution_output"
    file_id: str


class CodeExecutionResultBlock(ResponseModel):
    type: Literal["code_execution_result"] = "code_execution_result"
    stdout: str
    stderr: str
    return_code: int
    content: Array[CodeExecutionOutputBlock]


class EncryptedCodeExecutionResultBlock(ResponseModel):
    type: Literal["encrypted_code_execution_result"] = "encrypted_code_execution_result"
    encrypted_stdout: str
    stderr: str
    return_code: int
    content: Array[CodeExecutionOutputBlock]


class CodeExecutionToolResultError(CodeExecutionToolResultErrorParam, ResponseModel):
    type: Literal["code_execution_tool_result_error"] = "code_execution_tool_result_error"


class CodeExecutionToolResultBlock(ResponseModel):
    type: Literal["code_execution_tool_result"] = "code_execution_tool_result"
    tool_use_id: ServerToolId
    content: Annotated[
        CodeExecutionToolResultError | CodeExecutionResultBlock | EncryptedCodeExecutionResultBlock | UnknownType,
        ByField(),
    ]


class BashCodeExecutionOutputBlock(ResponseModel):
    type: Literal["bash_code_execution_output"] = "bash_code_execution_output"
    file_id: str


class BashCodeExecutionResultBlock(ResponseModel):
    type: Literal["bash_code_execution_result"] = "bash_code_execution_result"
    stdout: str
    stderr: str
    return_code: int
    content: Array[BashCodeExecutionOutputBlock]


class BashCodeExecutionToolResultError(BashCodeExecutionToolResultErrorParam, ResponseModel):
    type: Literal["bash_code_execution_tool_result_error"] = "bash_code_execution_tool_result_error"


class BashCodeExecutionToolResultBlock(ResponseModel):
    type: Literal["bash_code_execution_tool_result"] = "bash_code_execution_tool_result"
    tool_use_id: ServerToolId
    content: Annotated[BashCodeExecutionToolResultError | BashCodeExecutionResultBlock | UnknownType, ByField()]


class TextEditorCodeExecutionViewResultBlock(TextEditorCodeExecutionViewResultBlockParam, ResponseModel):
    type: Literal["text_editor_code_execution_view_result"] = "text_editor_code_execution_view_result"


class TextEditorCodeExecutionCreateResultBlock(TextEditorCodeExecutionCreateResultBlockParam, ResponseModel):
    type: Literal["text_editor_code_execution_create_result"] = "text_editor_code_execution_create_result"


class TextEditorCodeExecutionStrReplaceResultBlock(TextEditorCodeExecutionStrReplaceResultBlockParam, ResponseModel):
    type: Literal["text_editor_code_execution_str_replace_result"] = "text_editor_code_execution_str_replace_result"


class TextEditorCodeExecutionToolResultError(TextEditorCodeExecutionToolResultErrorParam, ResponseModel):
    type: Literal["text_editor_code_execution_tool_result_error"] = "text_editor_code_execution_tool_result_error"


class TextEditorCodeExecutionToolResultBlock(ResponseModel):
    type: Literal["text_editor_code_execution_tool_result"] = "text_editor_code_execution_tool_result"
    tool_use_id: ServerToolId
    content: Annotated[
        TextEditorCodeExecutionToolResultError
        | TextEditorCodeExecutionViewResultBlock
        | TextEditorCodeExecutionCreateResultBlock
        | TextEditorCodeExecutionStrReplaceResultBlock
        | UnknownType,
        ByField(),
    ]


class ToolReferenceBlock(ResponseModel):
    type: Literal["tool_reference"] = "tool_reference"
    tool_name: Annotated[str, published(minLength=1, maxLength=256, pattern="^[a-zA-Z0-9_-]{1,256}$")]


class ToolSearchToolSearchResultBlock(ResponseModel):
    type: Literal["tool_search_tool_search_result"] = "tool_search_tool_search_result"
    tool_references: Array[ToolReferenceBlock]


class ToolSearchToolResultError(ToolSearchToolResultErrorParam, ResponseModel):
    type: Literal["tool_search_tool_result_error"] = "tool_search_tool_result_error"


class ToolSearchToolResultBlock(ResponseModel):
    type: Literal["tool_search_tool_result"] = "tool_search_tool_result"
    tool_use_id: ServerToolId
    content: Annotated[ToolSearchToolResultError | ToolSearchToolSearchResultBlock | UnknownType, ByField()]


class ContainerUploadBlock(ResponseModel):
    type: Literal["container_upload"] = "container_upload"
    file_id: str


# Beta blocks.


class AdvisorToolResultBlock(ResponseModel):
    type: Literal["advisor_tool_result"] = "advisor_tool_result"
    tool_use_id: ServerToolId
    content: Annotated[
        AdvisorToolResultErrorParam | AdvisorResultBlockParam | AdvisorRedactedResultBlockParam | UnknownType,
        ByField(),
    ]


class MCPToolUseBlock(ResponseModel):
    type: Literal["mcp_tool_use"] = "mcp_tool_use"
    id: str
    name: str
    server_name: str
    input: JsonObject


class MCPToolResultBlock(ResponseModel):
    type: Literal["mcp_tool_result"] = "mcp_tool_result"
    tool_use_id: str
    content: Annotated[str | Array[TextBlock], ByShape()]
    is_error: bool


class MCPToolListingBlock(ResponseModel):
    type: Literal["mcp_tool_listing"] = "mcp_tool_listing"
    mcp_server_name: str
    tools: Array[MCPTool]


class CompactionBlock(ResponseModel):
    """A summary that stands for the conversation before it."""

    type: Literal["compaction"] = "compaction"
    content: str | None = None
    encrypted_content: Rare[str] = None
    signature: Rare[str] = None
    tool_changes: Rare[Array[SummarizedToolChange]] = None


class FallbackTrigger(ResponseModel):
    type: Annotated[str, known("refusal")]
    category: RefusalCategory | None = None


class FallbackBlock(ResponseModel):
    """Marks where another model took over."""

    type: Literal["fallback"] = "fallback"
    from_: Annotated[FallbackInfo, Field(alias="from")]
    to: FallbackInfo
    trigger: FallbackTrigger


ContentBlock = Annotated[
    TextBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ServerToolUseBlock
    | WebSearchToolResultBlock
    | WebFetchToolResultBlock
    | CodeExecutionToolResultBlock
    | BashCodeExecutionToolResultBlock
    | TextEditorCodeExecutionToolResultBlock
    | ToolSearchToolResultBlock
    | ContainerUploadBlock
    | AdvisorToolResultBlock
    | MCPToolUseBlock
    | MCPToolResultBlock
    | MCPToolListingBlock
    | CompactionBlock
    | FallbackBlock
    | UnknownBlock,
    ByField(),
]
"""Every block that a response may hold."""
