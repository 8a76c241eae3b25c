"""The wire types of the Messages API: this module has them all by name.

In the table, fields after the bar may be absent and then read as None.

```
CreateMessageRequest    model, max_tokens, messages | system, stream, stop_sequences, temperature, top_p,
                        top_k, tools, tool_choice, thinking, output_config, metadata, service_tier,
                        cache_control, container, context_management, mcp_servers, speed, fallbacks, ...
CountTokensRequest      model, messages | system, tools, tool_choice, thinking, output_config, ...
MessageParam            by role: UserMessage, AssistantMessage   content: str | list[block]
                        SystemMessage                            | content, output_config, clear_at

TextBlockParam          text | citations, cache_control
ImageBlockParam         source: Base64ImageSource(media_type, data) | URLImageSource(url)
                        | FileImageSource(file_id)
DocumentBlockParam      source: Base64PDFSource(data) | PlainTextSource(data) | ContentBlockSource(content)
                        | URLPDFSource(url) | FileDocumentSource(file_id); title, context, citations
SearchResultBlockParam  source, title, content: list[TextBlockParam] | citations
ThinkingBlockParam      thinking, signature         RedactedThinkingBlockParam    data
ToolUseBlockParam       id, name, input | caller, toolset_name
ToolResultBlockParam    tool_use_id | content: str | list[text, image, search_result, document,
                        tool_reference, browser_state], is_error, toolset_name
ToolReferenceBlockParam tool_name
in server_blocks        server_tool_use, the *_tool_result families, container_upload, mcp_*, tool_addition,
                        tool_removal, compaction, fallback

Tool                    name, input_schema: dict | description, strict, defer_loading, type (custom or null)
ClientToolParam         base of bash, text_editor, memory and computer tools: type, name | the options of Tool
ServerToolParam         base of web_search, web_fetch, code_execution, tool_search, advisor: type, name
ToolsetParam            base of BrowserToolset20260801 and ComputerToolset20260801: type | configs
ToolChoice              ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool(name) | ToolChoiceNone;
                        all but the last may have disable_parallel_tool_use
ThinkingConfigParam     ThinkingConfigEnabled(budget_tokens, display) | ThinkingConfigDisabled
                        | ThinkingConfigAdaptive(display) | ThinkingConfigBetweenTools | UnknownThinkingConfig
OutputConfig            effort, format: JSONOutputFormat(schema_), task_budget

Message                 id, type, role, model, content, stop_reason, stop_sequence, stop_details, usage,
                        container
MessageTokensCount      input_tokens
```

Unions of blocks, sources, tools and thinking may hold their Unknown* member: it has `type`, and the rest is
in `model_extra`. `x.wire()` gives the JSON object back as it came. Blocks of responses are in
`response_blocks`, events of streams in `events`, batches in `batch_models`.
"""

from typing import Annotated, Literal

from pydantic import Field

from .base import *  # noqa: F403
from .base import (
    ByField,
    ByShape,
    JsonObject,
    Omittable,
    UnknownType,
    WireModel,
    known,
)
from .batch_models import *  # noqa: F403
from .blocks import *  # noqa: F403
from .blocks import CacheControlEphemeral
from .citations import *  # noqa: F403
from .config import *  # noqa: F403
from .config import (
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
from .events import *  # noqa: F403
from .message import *  # noqa: F403
from .response_blocks import *  # noqa: F403
from .server_blocks import *  # noqa: F403
from .server_blocks import ContentBlockParam, SystemBlockParam
from .tools import *  # noqa: F403
from .tools import ToolChoice, ToolUnionParam

MAX_MESSAGES: int = 100_000

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
