"""What the server answers, for callers in the same process.

The types say no more than a caller in the process needs; all else is kept as it came. What is published of them stands
in `schemas.json`.
"""

from typing import Any, Literal

from llama_stack_messages_provider.wire.base import JsonObject, WireModel, register

__all__ = [
    "DeletedMessageBatch",
    "ErrorResponse",
    "Message",
    "MessageBatch",
    "MessageBatchIndividualResponse",
    "MessageBatchPage",
    "MessageTokensCount",
]


class Answer(WireModel):
    """An answer."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        register(cls)


class Message(Answer):
    """An answer of the model."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[JsonObject]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: JsonObject


class MessageTokensCount(Answer):
    """Answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int


class MessageBatch(Answer):
    """A batch and how far it is."""

    id: str
    type: Literal["message_batch"] = "message_batch"
    processing_status: Literal["in_progress", "canceling", "ended"]
    request_counts: dict[str, int]
    created_at: str
    expires_at: str
    ended_at: str | None = None
    cancel_initiated_at: str | None = None
    archived_at: str | None = None
    results_url: str | None = None


class MessageBatchPage(Answer):
    """Answer of `GET /v1/messages/batches`, newest first."""

    data: list[MessageBatch]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


class MessageBatchIndividualResponse(Answer):
    """One line of a batch's results."""

    custom_id: str
    result: JsonObject


class DeletedMessageBatch(Answer):
    """Answer of `DELETE /v1/messages/batches/{message_batch_id}`."""

    id: str
    type: Literal["message_batch_deleted"] = "message_batch_deleted"


class ErrorResponse(Answer):
    """Answer of every request that failed."""

    type: Literal["error"] = "error"
    error: JsonObject
    request_id: str | None = None
