"""Bodies of the two POSTs that create messages and count their tokens.

Source: https://platform.claude.com/docs/en/api/messages and the `anthropic` SDK's `message_create_params`.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from llama_stack_messages_provider.wire.base import (
    Array,
    ByField,
    ByShape,
    Expected,
    JsonObject,
    Omittable,
    UnknownType,
    WireModel,
    known,
)
from llama_stack_messages_provider.wire.beta_blocks import (
    AdvisorToolResultBlockParam,
    CompactionBlockParam,
    FallbackBlockParam,
    MCPToolListingBlockParam,
    MCPToolResultBlockParam,
    MCPToolUseBlockParam,
    ToolAdditionBlockParam,
    ToolRemovalBlockParam,
)
from llama_stack_messages_provider.wire.blocks import (
    CacheControlEphemeral,
    DocumentBlockParam,
    ImageBlockParam,
    RedactedThinkingBlockParam,
    SearchResultBlockParam,
    TextBlockParam,
    ThinkingBlockParam,
    ToolResultBlockParam,
    ToolUseBlockParam,
    UnknownBlock,
)
from llama_stack_messages_provider.wire.request_config import (
    ContainerParams,
    ContextManagement,
    Diagnostics,
    Fallback,
    MCPServerURLDefinition,
    MessageOutputConfig,
    Metadata,
    OutputConfig,
    Speed,
    ThinkingConfigParam,
)
from llama_stack_messages_provider.wire.server_blocks import (
    BashCodeExecutionToolResultBlockParam,
    CodeExecutionToolResultBlockParam,
    ContainerUploadBlockParam,
    ServerToolUseBlockParam,
    TextEditorCodeExecutionToolResultBlockParam,
    ToolSearchToolResultBlockParam,
    WebFetchToolResultBlockParam,
    WebSearchToolResultBlockParam,
)
from llama_stack_messages_provider.wire.tools import ToolChoice, ToolUnionParam

__all__ = [
    "MAX_MESSAGES",
    "Content",
    "ContentBlockParam",
    "CountTokensRequest",
    "CreateMessageRequest",
    "MessageParam",
    "Model",
    "System",
    "SystemBlockParam",
]

MAX_MESSAGES: int = 100_000

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

Model = Annotated[str, Field(min_length=1)]
Content = Annotated[str | Array[ContentBlockParam], ByShape()]
System = Annotated[str | Array[SystemBlockParam], ByShape()]


def _said(content: Any, info: ValidationInfo) -> Any:
    if content is None and info.data.get("role") in ("user", "assistant"):
        raise PydanticCustomError("missing", "Field required")
    return content


class MessageParam(WireModel):
    """A turn of the conversation. One of the system's that only changes settings has no content."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[Expected[Content], Field(validate_default=True), AfterValidator(_said)] = None
    output_config: MessageOutputConfig | None = None
    clear_at: Annotated[str, known("next_user_message", "never")] | None = None
    """When the instructions of a system turn stop to hold."""


class _Prompt(WireModel):
    """What creating a message and counting its tokens have in common."""

    model: Model
    messages: Annotated[Array[MessageParam], Field(min_length=1, max_length=MAX_MESSAGES)]
    """The conversation so far; consecutive turns of one role count as one."""
    system: Omittable[System] = None
    """Instructions before the conversation."""
    tools: Omittable[Array[ToolUnionParam]] = None
    """Tools that the model may call."""
    tool_choice: Omittable[ToolChoice] = None
    thinking: Omittable[ThinkingConfigParam] = None
    output_config: Omittable[OutputConfig] = None
    cache_control: CacheControlEphemeral | None = None
    """Cache the prompt up to its last block that can be cached."""
    speed: Speed | None = None
    context_management: ContextManagement | None = None
    mcp_servers: Omittable[Array[Annotated[MCPServerURLDefinition | UnknownType, ByField()]]] = None
    compaction: JsonObject | None = None
    billing_policy: JsonObject | None = None
    betas: Omittable[Array[str]] = None
    """What other clients put in the `anthropic-beta` header."""


class CountTokensRequest(_Prompt):
    """Body of `POST /v1/messages/count_tokens`."""


class CreateMessageRequest(_Prompt):
    """Body of `POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=0)]
    """The most tokens to generate; 0 only warms the prompt cache."""
    stream: Omittable[bool] = None
    """Answer with server-sent events."""
    stop_sequences: Omittable[Array[str]] = None
    """Texts that end the answer."""
    temperature: Omittable[Annotated[float, Field(ge=0, le=1)]] = None
    """How random the choice of tokens is."""
    top_p: Omittable[Annotated[float, Field(ge=0, le=1)]] = None
    """Choose among the likeliest tokens that have this probability together."""
    top_k: Omittable[Annotated[int, Field(ge=0)]] = None
    """Choose among this many of the likeliest tokens."""
    metadata: Omittable[Metadata] = None
    service_tier: Omittable[Annotated[str, known("auto", "standard_only")]] = None
    container: Annotated[str | ContainerParams, ByShape()] | None = None
    """The container to run code in, by id or with its skills."""
    diagnostics: Diagnostics | None = None
    inference_geo: str | None = None
    fallbacks: Annotated[str | Array[Fallback], ByShape()] | None = None
    """Models to try when the first one refuses, or `default`."""
    fallback_credit_token: Annotated[str | JsonObject, ByShape()] | None = None
    thread: JsonObject | None = None
    output_format: JsonObject | None = None
    """The older spelling of `output_config.format`."""
