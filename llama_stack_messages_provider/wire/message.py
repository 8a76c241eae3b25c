"""What the server answers: messages, usage, token counts, errors.

Source: https://platform.claude.com/docs/en/api/messages and the SDK's `message` and `usage` types.
"""

from typing import Annotated, Literal

from pydantic import Field

from llama_stack_messages_provider.wire.base import Array, ByField, Rare, ResponseModel, UnknownType, known, published
from llama_stack_messages_provider.wire.response_blocks import ContentBlock, RefusalCategory

__all__ = [
    "APIErrorObject",
    "AppliedEdit",
    "AppliedEdits",
    "AuthenticationErrorObject",
    "BillingErrorObject",
    "CacheCreation",
    "CacheMissReason",
    "Container",
    "ContainerSkill",
    "CountTokensContextManagement",
    "ErrorObject",
    "ErrorResponse",
    "FallbackCreditStatus",
    "FallbackCreditUsage",
    "GatewayTimeoutErrorObject",
    "InputTransformation",
    "InvalidRequestErrorObject",
    "IterationUsage",
    "Message",
    "MessageDiagnostics",
    "MessageTokensCount",
    "NotFoundErrorObject",
    "OtherErrorObject",
    "OutputTokensDetails",
    "OverloadedErrorObject",
    "PermissionErrorObject",
    "RateLimitErrorObject",
    "RefusalStopDetails",
    "RequestTooLargeErrorObject",
    "ServerToolUsage",
    "StopReason",
    "Usage",
]

StopReason = Annotated[
    str,
    known(
        "end_turn",
        "max_tokens",
        "stop_sequence",
        "tool_use",
        "pause_turn",
        "refusal",
        "model_context_window_exceeded",
        "compaction",
    ),
]
Count = Annotated[int, Field(ge=0)]


class CacheCreation(ResponseModel):
    ephemeral_1h_input_tokens: Count = 0
    ephemeral_5m_input_tokens: Count = 0


class ServerToolUsage(ResponseModel):
    web_fetch_requests: Count = 0
    web_search_requests: Count = 0


class OutputTokensDetails(ResponseModel):
    thinking_tokens: Count


class FallbackCreditStatus(ResponseModel):
    type: Annotated[str, known("redeemed", "not_applied")]
    reason: Rare[str] = None
    """Why the token was not taken."""
    remove_to_redeem: Rare[Array[str]] = None
    """Fields of the request that stand in the way."""


class FallbackCreditUsage(ResponseModel):
    status: FallbackCreditStatus


class IterationUsage(ResponseModel):
    """Tokens of one model call behind an answer."""

    type: Annotated[str, known("message", "compaction", "advisor_message", "fallback_message")]
    input_tokens: Count
    output_tokens: Count
    cache_creation: CacheCreation | None = None
    cache_creation_input_tokens: Count
    cache_read_input_tokens: Count
    model: Rare[str] = None


class Usage(ResponseModel):
    """Tokens of one request. All input is `input_tokens` plus the two cache counts."""

    input_tokens: Count
    output_tokens: Count
    cache_creation: CacheCreation | None = None
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    inference_geo: str | None = None
    output_tokens_details: Rare[OutputTokensDetails] = None
    server_tool_use: ServerToolUsage | None = None
    service_tier: Annotated[str, known("standard", "priority", "batch")] | None = None
    speed: Rare[Annotated[str, known("standard", "fast")]] = None
    iterations: Rare[Array[IterationUsage]] = None
    fallback_credit: Rare[FallbackCreditUsage] = None


class RefusalStopDetails(ResponseModel):
    """Why the model refused."""

    type: Literal["refusal"] = "refusal"
    category: RefusalCategory | None = None
    explanation: str | None = None
    fallback_credit_token: Rare[str] = None
    fallback_has_prefill_claim: Rare[bool] = None
    recommended_model: Rare[str] = None


class ContainerSkill(ResponseModel):
    type: Annotated[str, known("anthropic", "custom")]
    skill_id: str
    version: str


class Container(ResponseModel):
    """The container that code ran in."""

    id: str
    expires_at: Annotated[str, published(format="date-time")]
    skills: Rare[Array[ContainerSkill]] = None


class CacheMissReason(ResponseModel):
    type: Annotated[
        str,
        known(
            "model_changed",
            "system_changed",
            "tools_changed",
            "messages_changed",
            "previous_message_not_found",
            "unavailable",
        ),
    ]
    cache_missed_input_tokens: Rare[Count] = None
    """Input tokens that were not read from the cache."""


class MessageDiagnostics(ResponseModel):
    cache_miss_reason: CacheMissReason | None = None
    """Why the prompt cache was missed."""


class AppliedEdit(ResponseModel):
    type: Annotated[str, known("clear_tool_uses_20250919", "clear_thinking_20251015")]
    cleared_input_tokens: Count
    """Input tokens that were removed."""
    cleared_tool_uses: Rare[Count] = None
    """Calls that were removed."""
    cleared_thinking_turns: Rare[Count] = None
    """Turns whose thinking was removed."""


class AppliedEdits(ResponseModel):
    applied_edits: Array[AppliedEdit]


class InputTransformation(ResponseModel):
    type: Annotated[str, known("thinking_dropped", "thinking_mismatch_allowed")]
    path: str
    """Where in the request."""
    reason: Annotated[
        str,
        known(
            "model_binding_mismatch",
            "prefix_binding_mismatch",
            "organization_binding_mismatch",
            "end_user_binding_mismatch",
        ),
    ]
    """Why."""


class Message(ResponseModel):
    """An answer of the model."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    """The name that the client asked for."""
    content: Array[ContentBlock]
    stop_reason: StopReason | None = None
    """Null only in `message_start`."""
    stop_sequence: str | None = None
    """The one of `stop_sequences` that ended the answer."""
    stop_details: Annotated[RefusalStopDetails | UnknownType, ByField()] | None = None
    usage: Usage
    container: Container | None = None
    diagnostics: Rare[MessageDiagnostics] = None
    context_management: Rare[AppliedEdits] = None
    input_transformations: Rare[Array[InputTransformation]] = None


class CountTokensContextManagement(ResponseModel):
    original_input_tokens: Count


class MessageTokensCount(ResponseModel):
    """Answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int
    """Tokens of the whole prompt: messages, system and tools."""
    context_management: Rare[CountTokensContextManagement] = None


class InvalidRequestErrorObject(ResponseModel):
    type: Literal["invalid_request_error"] = "invalid_request_error"
    message: str = "Invalid request"


class AuthenticationErrorObject(ResponseModel):
    type: Literal["authentication_error"] = "authentication_error"
    message: str = "Authentication error"


class BillingErrorObject(ResponseModel):
    type: Literal["billing_error"] = "billing_error"
    message: str = "Billing error"


class PermissionErrorObject(ResponseModel):
    type: Literal["permission_error"] = "permission_error"
    message: str = "Permission denied"


class NotFoundErrorObject(ResponseModel):
    type: Literal["not_found_error"] = "not_found_error"
    message: str = "Not found"


class RequestTooLargeErrorObject(ResponseModel):
    type: Literal["request_too_large"] = "request_too_large"
    message: str = "Request too large"


class RateLimitErrorObject(ResponseModel):
    type: Literal["rate_limit_error"] = "rate_limit_error"
    message: str = "Rate limited"


class GatewayTimeoutErrorObject(ResponseModel):
    type: Literal["timeout_error"] = "timeout_error"
    message: str = "Request timeout"


class APIErrorObject(ResponseModel):
    type: Literal["api_error"] = "api_error"
    message: str = "Internal server error"


class OverloadedErrorObject(ResponseModel):
    type: Literal["overloaded_error"] = "overloaded_error"
    message: str = "Overloaded"


class OtherErrorObject(ResponseModel):
    """An error of another API of Anthropic's, or one that this version does not know."""

    type: Annotated[str, known("conflict_error", "memory_precondition_failed_error", "memory_path_conflict_error")]
    message: str


ErrorObject = Annotated[
    InvalidRequestErrorObject
    | AuthenticationErrorObject
    | BillingErrorObject
    | PermissionErrorObject
    | NotFoundErrorObject
    | RequestTooLargeErrorObject
    | RateLimitErrorObject
    | GatewayTimeoutErrorObject
    | APIErrorObject
    | OverloadedErrorObject
    | OtherErrorObject,
    ByField(),
]


class ErrorResponse(ResponseModel):
    """Answer of every request that failed, and the last event of a stream that did."""

    type: Literal["error"] = "error"
    error: ErrorObject
    request_id: str | None = None
