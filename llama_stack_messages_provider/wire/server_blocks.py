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
    "BashCodeExecutionToolResultBlockParam",
    "CodeExecutionOutputBlockParam",
    "CodeExecutionResultBlockParam",
    "CodeExecutionToolResultBlockParam",
    "ContainerUploadBlockParam",
    "EncryptedCodeExecutionResultBlockParam",
    "ServerToolErrorCode",
    "ServerToolErrorParam",
    "ServerToolId",
    "ServerToolName",
    "ServerToolResultParam",
    "ServerToolUseBlockParam",
    "TextEditorCodeExecutionCreateResultBlockParam",
    "TextEditorCodeExecutionStrReplaceResultBlockParam",
    "TextEditorCodeExecutionToolResultBlockParam",
    "TextEditorCodeExecutionViewResultBlockParam",
    "ToolSearchToolResultBlockParam",
    "ToolSearchToolSearchResultBlockParam",
    "WebFetchBlockParam",
    "WebFetchToolResultBlockParam",
    "WebSearchResultBlockParam",
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

ServerToolErrorCode = Annotated[
    str,
    known(
        "invalid_tool_input",
        "unavailable",
        "too_many_requests",
        "execution_time_exceeded",
        "output_file_too_large",
        "file_not_found",
        "max_uses_exceeded",
        "query_too_long",
        "request_too_large",
        "url_too_long",
        "url_not_allowed",
        "url_not_in_prior_context",
        "url_not_accessible",
        "unsupported_content_type",
        "content_too_large",
        "prompt_too_long",
        "overloaded",
        "model_not_found",
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


class ServerToolErrorParam(WireModel):
    """A server tool's failure; which codes there are depends on the tool."""

    type: Literal[
        "web_search_tool_result_error",
        "web_fetch_tool_result_error",
        "code_execution_tool_result_error",
        "bash_code_execution_tool_result_error",
        "text_editor_code_execution_tool_result_error",
        "tool_search_tool_result_error",
        "advisor_tool_result_error",
    ]
    error_code: ServerToolErrorCode
    error_message: str | None = None


class WebSearchResultBlockParam(WireModel):
    type: Literal["web_search_result"]
    title: str
    url: str
    encrypted_content: str
    page_age: str | None = None


class WebSearchToolResultBlockParam(ServerToolResultParam):
    type: Literal["web_search_tool_result"]
    content: Annotated[Array[WebSearchResultBlockParam] | ServerToolErrorParam, ByShape()]
    caller: Omittable[Caller] = None


class WebFetchBlockParam(WireModel):
    type: Literal["web_fetch_result"]
    url: str
    content: DocumentBlockParam
    retrieved_at: str | None = None
    """ISO 8601."""


class WebFetchToolResultBlockParam(ServerToolResultParam):
    type: Literal["web_fetch_tool_result"]
    content: Annotated[ServerToolErrorParam | WebFetchBlockParam | UnknownType, ByField()]
    caller: Omittable[Caller] = None


class CodeExecutionOutputBlockParam(WireModel):
    type: Literal["code_execution_output", "bash_code_execution_output"]
    file_id: str


class CodeExecutionResultBlockParam(WireModel):
    type: Literal["code_execution_result", "bash_code_execution_result"]
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


class CodeExecutionToolResultBlockParam(ServerToolResultParam):
    type: Literal["code_execution_tool_result"]
    content: Annotated[
        ServerToolErrorParam | CodeExecutionResultBlockParam | EncryptedCodeExecutionResultBlockParam | UnknownType,
        ByField(),
    ]


class BashCodeExecutionToolResultBlockParam(ServerToolResultParam):
    type: Literal["bash_code_execution_tool_result"]
    content: Annotated[ServerToolErrorParam | CodeExecutionResultBlockParam | UnknownType, ByField()]


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


class TextEditorCodeExecutionToolResultBlockParam(ServerToolResultParam):
    type: Literal["text_editor_code_execution_tool_result"]
    content: Annotated[
        ServerToolErrorParam
        | TextEditorCodeExecutionViewResultBlockParam
        | TextEditorCodeExecutionCreateResultBlockParam
        | TextEditorCodeExecutionStrReplaceResultBlockParam
        | UnknownType,
        ByField(),
    ]


class ToolSearchToolSearchResultBlockParam(WireModel):
    type: Literal["tool_search_tool_search_result"]
    tool_references: Array[ToolReferenceBlockParam]


class ToolSearchToolResultBlockParam(ServerToolResultParam):
    type: Literal["tool_search_tool_result"]
    content: Annotated[ServerToolErrorParam | ToolSearchToolSearchResultBlockParam | UnknownType, ByField()]


class ContainerUploadBlockParam(CachedBlock):
    """A file for the container that code execution runs in."""

    type: Literal["container_upload"]
    file_id: str
