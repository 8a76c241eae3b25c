"""The objects that steer a request: thinking, output, metadata, context management and other beta settings.

Source: https://platform.claude.com/docs/en/api/messages and the `anthropic` SDK's `*_config_param` types.
"""

from typing import Annotated, Literal

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
    published,
)

__all__ = [
    "ClearThinking20251015Edit",
    "ClearToolUses20250919Edit",
    "Compact20260112Edit",
    "ContainerParams",
    "ContextManagement",
    "Diagnostics",
    "Effort",
    "Fallback",
    "JSONOutputFormat",
    "MCPServerToolConfiguration",
    "MCPServerURLDefinition",
    "MessageOutputConfig",
    "Metadata",
    "OutputConfig",
    "SkillParams",
    "Speed",
    "ThinkingBlockBinding",
    "ThinkingConfigAdaptive",
    "ThinkingConfigBetweenTools",
    "ThinkingConfigDisabled",
    "ThinkingConfigEnabled",
    "ThinkingConfigParam",
    "ThinkingDisplay",
    "ThinkingTurns",
    "Threshold",
    "TokenTaskBudget",
]

Effort = Annotated[str, known("low", "medium", "high", "xhigh", "max")]
ThinkingDisplay = Annotated[str, known("summarized", "omitted", "updates")]
Speed = Annotated[str, known("standard", "fast")]


class Metadata(WireModel):
    user_id: Annotated[str, published(maxLength=512)] | None = None
    """An opaque id of the client's user."""


class ThinkingBlockBinding(WireModel):
    prefix_mismatch_behavior: str | None = None


class ThinkingConfigEnabled(WireModel):
    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=0), published(minimum=1024)]
    """Tokens for thinking. Anthropic asks for 1024 at least; clients send less, so less is accepted here."""
    display: ThinkingDisplay | None = None
    block_binding: ThinkingBlockBinding | None = None


class ThinkingConfigDisabled(WireModel):
    type: Literal["disabled"]


class ThinkingConfigAdaptive(WireModel):
    """The model decides when and how much to think."""

    type: Literal["adaptive"]
    display: ThinkingDisplay | None = None
    block_binding: ThinkingBlockBinding | None = None


class ThinkingConfigBetweenTools(WireModel):
    type: Literal["between_tools"]


ThinkingConfigParam = Annotated[
    ThinkingConfigEnabled | ThinkingConfigDisabled | ThinkingConfigAdaptive | ThinkingConfigBetweenTools,
    ByField(),
]
"""Closed: thinking that is not understood can neither be switched on nor off."""


class JSONOutputFormat(WireModel):
    type: Literal["json_schema"]
    schema_: Annotated[JsonObject, Field(alias="schema")]
    """The JSON schema that the answer's text must follow."""


class TokenTaskBudget(WireModel):
    type: Literal["tokens"]
    total: int
    remaining: int | None = None


class OutputConfig(WireModel):
    effort: Effort | None = None
    """How much work goes into the answer."""
    format: JSONOutputFormat | None = None
    task_budget: Annotated[TokenTaskBudget | UnknownType, ByField()] | None = None


class MessageOutputConfig(WireModel):
    """Settings that hold from one message on."""

    effort: Effort | None = None


class Diagnostics(WireModel):
    previous_message_id: str | None = None
    """The answer before, to learn why the prompt cache was missed."""


class SkillParams(WireModel):
    type: Annotated[str, known("anthropic", "custom")]
    skill_id: str
    version: Omittable[str] = None


class ContainerParams(WireModel):
    id: str | None = None
    skills: Array[SkillParams] | None = None


class Threshold(WireModel):
    type: Annotated[str, known("input_tokens", "tool_uses")]
    """What is counted."""
    value: int
    """How many."""


class ThinkingTurns(WireModel):
    type: Annotated[str, known("thinking_turns", "all")]
    value: Omittable[int] = None
    """How many turns."""


class ClearToolUses20250919Edit(WireModel):
    """Drop old tool results when the prompt grows past the trigger."""

    type: Literal["clear_tool_uses_20250919"]
    trigger: Omittable[Threshold] = None
    keep: Omittable[Threshold] = None
    clear_at_least: Threshold | None = None
    clear_tool_inputs: bool | Array[str] | None = None
    exclude_tools: Array[str] | None = None


class ClearThinking20251015Edit(WireModel):
    """Drop thinking of all turns but the last ones."""

    type: Literal["clear_thinking_20251015"]
    keep: Omittable[Annotated[str | ThinkingTurns, ByShape()]] = None
    """`all`, or how many turns."""


class Compact20260112Edit(WireModel):
    """Replace the conversation by a summary when the prompt grows past the trigger."""

    type: Literal["compact_20260112"]
    trigger: Threshold | None = None
    instructions: str | None = None
    pause_after_compaction: Omittable[bool] = None


class ContextManagement(WireModel):
    edits: Omittable[
        Array[
            Annotated[
                ClearToolUses20250919Edit | ClearThinking20251015Edit | Compact20260112Edit | UnknownType,
                ByField(),
            ]
        ]
    ] = None


class MCPServerToolConfiguration(WireModel):
    allowed_tools: Array[str] | None = None
    enabled: bool | None = None


class MCPServerURLDefinition(WireModel):
    """An MCP server that Anthropic's servers would call."""

    type: Literal["url"]
    name: str
    url: str
    authorization_token: str | None = None
    tool_configuration: MCPServerToolConfiguration | None = None


class Fallback(WireModel):
    """A model to try when the first one refuses."""

    model: str
    max_tokens: int | None = None
    output_config: OutputConfig | None = None
    speed: Speed | None = None
    thinking: ThinkingConfigParam | None = None
