"""Bodies of the two POSTs that create messages and count their tokens.

Source: https://platform.claude.com/docs/en/api/messages and the `anthropic` SDK's `message_create_params`.
"""

from typing import Annotated, Literal

from pydantic import Field

from llama_stack_messages_provider.wire.base import (
    ByField,
    ByShape,
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
    "AssistantMessage",
    "Content",
    "ContentBlockParam",
    "CountTokensRequest",
    "CreateMessageRequest",
    "MessageParam",
    "Model",
    "System",
    "SystemBlockParam",
    "SystemMessage",
    "UserMessage",
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
Content = Annotated[str | list[ContentBlockParam], ByShape()]
System = Annotated[str | list[SystemBlockParam], ByShape()]


class UserMessage(WireModel):
    role: Literal["user"]
    content: Content


class AssistantMessage(WireModel):
    role: Literal["assistant"]
    content: Content


class SystemMessage(WireModel):
    """Instructions in mid-conversation; one that only changes settings has no content."""

    role: Literal["system"]
    content: Omittable[Content] = None
    output_config: MessageOutputConfig | None = None
    clear_at: Annotated[str, known("next_user_message", "never")] | None = None
    """When the instructions stop to hold."""


MessageParam = Annotated[UserMessage | AssistantMessage | SystemMessage, ByField("role")]


class _Prompt(WireModel):
    """What creating a message and counting its tokens have in common."""

    model: Model
    messages: Annotated[list[MessageParam], Field(min_length=1, max_length=MAX_MESSAGES)]
    """The conversation so far; consecutive turns of one role count as one."""
    system: Omittable[System] = None
    """Instructions before the conversation."""
    tools: Omittable[list[ToolUnionParam]] = None
    """Tools that the model may call."""
    tool_choice: Omittable[ToolChoice] = None
    thinking: Omittable[ThinkingConfigParam] = None
    output_config: Omittable[OutputConfig] = None
    cache_control: CacheControlEphemeral | None = None
    """Cache the prompt up to its last block that can be cached."""
    speed: Speed | None = None
    context_management: ContextManagement | None = None
    mcp_servers: Omittable[list[Annotated[MCPServerURLDefinition | UnknownType, ByField()]]] = None
    compaction: JsonObject | None = None
    billing_policy: JsonObject | None = None
    betas: Omittable[list[str]] = None
    """What other clients put in the `anthropic-beta` header."""


class CountTokensRequest(_Prompt):
    """Body of `POST /v1/messages/count_tokens`."""


class CreateMessageRequest(_Prompt):
    """Body of `POST /v1/messages`."""

    max_tokens: Annotated[int, Field(ge=0)]
    """The most tokens to generate; 0 only warms the prompt cache."""
    stream: Omittable[bool] = None
    """Answer with server-sent events."""
    stop_sequences: Omittable[list[str]] = None
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
    fallbacks: Annotated[str | list[Fallback], ByShape()] | None = None
    """Models to try when the first one refuses, or `default`."""
    fallback_credit_token: Annotated[str | JsonObject, ByShape()] | None = None
    thread: JsonObject | None = None
    output_format: JsonObject | None = None
    """The older spelling of `output_config.format`."""
