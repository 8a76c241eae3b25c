"""Server-sent events of a streamed message.

```
message := message_start block* message_delta+ message_stop
block   := content_block_start content_block_delta* content_block_stop
```

Blocks count 0, 1, 2, ... and one is open at a time. A `ping` may come anywhere after `message_start`;
`error` ends the stream.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from typing import Annotated, Literal

from llama_stack_messages_provider.wire.base import Array, ByField, Rare, ResponseModel, UnknownType
from llama_stack_messages_provider.wire.citations import TextCitation
from llama_stack_messages_provider.wire.message import (
    AppliedEdits,
    Container,
    Count,
    ErrorObject,
    FallbackCreditUsage,
    InputTransformation,
    IterationUsage,
    Message,
    OutputTokensDetails,
    RefusalStopDetails,
    ServerToolUsage,
    StopReason,
)
from llama_stack_messages_provider.wire.response_blocks import ContentBlock

__all__ = [
    "CitationsDelta",
    "CompactionDelta",
    "ContentBlockDelta",
    "ContentBlockDeltaEvent",
    "ContentBlockStartEvent",
    "ContentBlockStopEvent",
    "ErrorEvent",
    "InputJSONDelta",
    "MessageDelta",
    "MessageDeltaEvent",
    "MessageDeltaUsage",
    "MessageStartEvent",
    "MessageStopEvent",
    "MessageStreamEvent",
    "PingEvent",
    "SignatureDelta",
    "TextDelta",
    "ThinkingDelta",
    "UnknownDelta",
    "UnknownEvent",
]


class TextDelta(ResponseModel):
    type: Literal["text_delta"] = "text_delta"
    text: str


class InputJSONDelta(ResponseModel):
    """A piece of a call's input; the pieces of a block together are one JSON object, or empty."""

    type: Literal["input_json_delta"] = "input_json_delta"
    partial_json: str


class CitationsDelta(ResponseModel):
    type: Literal["citations_delta"] = "citations_delta"
    citation: TextCitation


class ThinkingDelta(ResponseModel):
    type: Literal["thinking_delta"] = "thinking_delta"
    thinking: str
    estimated_tokens: Rare[int] = None
    """Tokens of thinking so far, where the text is left out."""


class SignatureDelta(ResponseModel):
    """Comes once, just before a thinking block stops."""

    type: Literal["signature_delta"] = "signature_delta"
    signature: str


class CompactionDelta(ResponseModel):
    type: Literal["compaction_delta"] = "compaction_delta"
    content: str | None = None
    encrypted_content: Rare[str] = None


class UnknownDelta(UnknownType):
    """A delta of a type that this version does not know."""


ContentBlockDelta = Annotated[
    TextDelta | InputJSONDelta | CitationsDelta | ThinkingDelta | SignatureDelta | CompactionDelta | UnknownDelta,
    ByField(),
]


class MessageDeltaUsage(ResponseModel):
    """Tokens so far, not since the last event."""

    output_tokens: int
    input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    server_tool_use: ServerToolUsage | None = None
    output_tokens_details: Rare[OutputTokensDetails] = None
    iterations: Rare[Array[IterationUsage]] = None
    fallback_credit: Rare[FallbackCreditUsage] = None


class MessageDelta(ResponseModel):
    container: Container | None = None
    stop_details: Annotated[RefusalStopDetails | UnknownType, ByField()] | None = None
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None


class MessageStartEvent(ResponseModel):
    type: Literal["message_start"] = "message_start"
    message: Message


class MessageDeltaEvent(ResponseModel):
    type: Literal["message_delta"] = "message_delta"
    delta: MessageDelta
    usage: MessageDeltaUsage
    context_management: Rare[AppliedEdits] = None
    input_transformations: Rare[Array[InputTransformation]] = None


class MessageStopEvent(ResponseModel):
    type: Literal["message_stop"] = "message_stop"


class ContentBlockStartEvent(ResponseModel):
    type: Literal["content_block_start"] = "content_block_start"
    index: int
    content_block: ContentBlock


class ContentBlockDeltaEvent(ResponseModel):
    type: Literal["content_block_delta"] = "content_block_delta"
    index: int
    delta: ContentBlockDelta


class ContentBlockStopEvent(ResponseModel):
    type: Literal["content_block_stop"] = "content_block_stop"
    index: int


class PingEvent(ResponseModel):
    """Means nothing; keeps the connection open."""

    type: Literal["ping"] = "ping"


class ErrorEvent(ResponseModel):
    """Ends a stream that failed."""

    type: Literal["error"] = "error"
    error: ErrorObject
    request_id: Rare[str] = None


class UnknownEvent(UnknownType):
    """An event of a type that this version does not know."""


MessageStreamEvent = Annotated[
    MessageStartEvent
    | MessageDeltaEvent
    | MessageStopEvent
    | ContentBlockStartEvent
    | ContentBlockDeltaEvent
    | ContentBlockStopEvent
    | PingEvent
    | ErrorEvent
    | UnknownEvent,
    ByField(),
]
