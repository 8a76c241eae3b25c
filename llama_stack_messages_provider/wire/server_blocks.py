"""Request blocks that server tools leave in a conversation.

Nothing here executes them; they are known so that a conversation begun elsewhere can go on.
Source: the `anthropic` SDK's `*_tool_result_block_param` types.
"""

from typing import Annotated, Literal

from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    ByShape,
    JsonObject,
    Omittable,
    UnknownType,
    WireModel,
    known,
    published,
)
from llama_stack_messages_provider.wire.blocks import (
    CachedBlock,
    Caller,
    DocumentBlockParam,
    ToolReferenceBlockParam,
)

__all__ = [
    "SERVER_TOOL_ID",
    "BashCodeExecutionOutputBlockParam",
    "BashCodeExecutionResultBlockParam",
    "BashCodeExecutionToolResultBlockParam",
    "BashCodeExecutionToolResultErrorParam",
    "BashErrorCode",
    "CodeExecutionOutputBlockParam",
    "CodeExecutionResultBlockParam",
    "CodeExecutionToolResultBlockParam",
    "CodeExecutionToolResultErrorParam",
    "ContainerUploadBlockParam",
    "EncryptedCodeExecutionResultBlockParam",
    "ExecutionErrorCode",
    "ServerToolId",
    "ServerToolName",
    "ServerToolResultParam",
    "ServerToolUseBlockParam",
    "TextEditorCodeExecutionCreateResultBlockParam",
    "TextEditorCodeExecutionStrReplaceResultBlockParam",
    "TextEditorCodeExecutionToolResultBlockParam",
    "TextEditorCodeExecutionToolResultErrorParam",
    "TextEditorCodeExecutionViewResultBlockParam",
    "TextEditorErrorCode",
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


class ServerToolUseBlockParam(CachedBlock):
    type: Literal["server_tool_use"]
    id: ServerToolId
    name: ServerToolName
    input: JsonObject
    caller: Omittable[Caller] = None


class ServerToolResultParam(CachedBlock):
    """What a server tool answered."""

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


class WebSearchToolResultBlockParam(ServerToolResultParam):
    type: Literal["web_search_tool_result"]
    content: Annotated[Array[WebSearchResultBlockParam] | WebSearchToolRequestError, ByShape()]
    caller: Omittable[Caller] = None


class WebFetchBlockParam(WireModel):
    type: Literal["web_fetch_result"]
    url: str
    content: DocumentBlockParam
    retrieved_at: str | None = None
    """ISO 8601."""


class WebFetchToolResultErrorBlockParam(WireModel):
    type: Literal["web_fetch_tool_result_error"]
    error_code: WebFetchErrorCode


class WebFetchToolResultBlockParam(ServerToolResultParam):
    type: Literal["web_fetch_tool_result"]
    content: Annotated[WebFetchToolResultErrorBlockParam | WebFetchBlockParam | UnknownType, ByField()]
    caller: Omittable[Caller] = None


class CodeExecutionOutputBlockParam(WireModel):
    type: Literal["code_execution_output"]
    file_id: str


class CodeExecutionResultBlockParam(WireModel):
    type: Literal["code_execution_result"]
    stdout: str
    stderr: str
    return_code: int
    content: Array[CodeExecutionOutputBlockParam]


class EncryptedCodeExecutionResultBlockParam(WireModel):
    type: Literal["encrypted_code_execution_result"]
    encrypted_stdout: str
    stderr: str
    return_code: int
    content: Array[CodeExecutionOutputBlockParam]


class CodeExecutionToolResultErrorParam(WireModel):
    type: Literal["code_execution_tool_result_error"]
    error_code: ExecutionErrorCode


class CodeExecutionToolResultBlockParam(ServerToolResultParam):
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
    content: Array[BashCodeExecutionOutputBlockParam]


class BashCodeExecutionToolResultErrorParam(WireModel):
    type: Literal["bash_code_execution_tool_result_error"]
    error_code: BashErrorCode


class BashCodeExecutionToolResultBlockParam(ServerToolResultParam):
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
    lines: Array[str] | None = None
    new_lines: int | None = None
    new_start: int | None = None
    old_lines: int | None = None
    old_start: int | None = None


class TextEditorCodeExecutionToolResultErrorParam(WireModel):
    type: Literal["text_editor_code_execution_tool_result_error"]
    error_code: TextEditorErrorCode
    error_message: str | None = None


class TextEditorCodeExecutionToolResultBlockParam(ServerToolResultParam):
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
    tool_references: Array[ToolReferenceBlockParam]


class ToolSearchToolResultErrorParam(WireModel):
    type: Literal["tool_search_tool_result_error"]
    error_code: ExecutionErrorCode
    error_message: str | None = None


class ToolSearchToolResultBlockParam(ServerToolResultParam):
    type: Literal["tool_search_tool_result"]
    content: Annotated[ToolSearchToolResultErrorParam | ToolSearchToolSearchResultBlockParam | UnknownType, ByField()]


class ContainerUploadBlockParam(CachedBlock):
    """A file for the container that code execution runs in."""

    type: Literal["container_upload"]
    file_id: str
