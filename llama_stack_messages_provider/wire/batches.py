"""Message Batches.

Source: https://platform.claude.com/docs/en/api/creating-message-batches and the SDK's `types.messages`.
"""

from typing import Annotated, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from llama_stack_messages_provider.wire.base import Array, ByField, JsonObject, ResponseModel, WireModel, published
from llama_stack_messages_provider.wire.message import ErrorResponse, Message
from llama_stack_messages_provider.wire.request import CreateMessageRequest

__all__ = [
    "MAX_BATCH_REQUESTS",
    "BatchId",
    "BatchRequestItem",
    "CreateBatchRequest",
    "DeletedMessageBatch",
    "MessageBatch",
    "MessageBatchCanceledResult",
    "MessageBatchErroredResult",
    "MessageBatchExpiredResult",
    "MessageBatchIndividualResponse",
    "MessageBatchPage",
    "MessageBatchRequestCounts",
    "MessageBatchResult",
    "MessageBatchSucceededResult",
    "Timestamp",
]

MAX_BATCH_REQUESTS: int = 100_000

Timestamp = Annotated[str, published(format="date-time")]
"""RFC 3339, UTC."""
BatchId = Annotated[str, Field(description="Id of the batch, such as `msgbatch_...`.")]


class _PublishedAs:
    """Takes any object, and publishes a model's schema."""

    def __init__(self, model: type[WireModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        return handler(self._model.__pydantic_core_schema__)


class BatchRequestItem(WireModel):
    """One request of a batch."""

    custom_id: Annotated[str, Field(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]{1,64}$")]
    """Names the request in the results; unique within the batch."""
    params: Annotated[JsonObject, _PublishedAs(CreateMessageRequest)]
    """A body of `POST /v1/messages` without `stream`; checked when the request is processed."""


class CreateBatchRequest(WireModel):
    """Body of `POST /v1/messages/batches`."""

    requests: Annotated[Array[BatchRequestItem], Field(min_length=1, max_length=MAX_BATCH_REQUESTS)]


class MessageBatchRequestCounts(ResponseModel):
    """How many requests are in which state; the sum is always the number of requests."""

    processing: int = 0
    succeeded: int = 0
    """Zero until the batch ends, as the next three."""
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class MessageBatch(ResponseModel):
    id: BatchId
    type: Literal["message_batch"] = "message_batch"
    processing_status: Literal["in_progress", "canceling", "ended"]
    request_counts: MessageBatchRequestCounts
    created_at: Timestamp
    expires_at: Timestamp
    """24 hours after creation; what has not run by then is expired."""
    ended_at: Timestamp | None = None
    cancel_initiated_at: Timestamp | None = None
    archived_at: Timestamp | None = None
    """When the results were removed."""
    results_url: str | None = None
    """Where the results are, in JSON lines, once the batch has ended."""


class MessageBatchSucceededResult(ResponseModel):
    type: Literal["succeeded"] = "succeeded"
    message: Message


class MessageBatchErroredResult(ResponseModel):
    type: Literal["errored"] = "errored"
    error: ErrorResponse


class MessageBatchCanceledResult(ResponseModel):
    type: Literal["canceled"] = "canceled"


class MessageBatchExpiredResult(ResponseModel):
    type: Literal["expired"] = "expired"


MessageBatchResult = Annotated[
    MessageBatchSucceededResult | MessageBatchErroredResult | MessageBatchCanceledResult | MessageBatchExpiredResult,
    ByField(),
]


class MessageBatchIndividualResponse(ResponseModel):
    """One line of a batch's results."""

    custom_id: str
    result: MessageBatchResult


class MessageBatchPage(ResponseModel):
    """Answer of `GET /v1/messages/batches`, newest first."""

    data: Array[MessageBatch]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


class DeletedMessageBatch(ResponseModel):
    id: BatchId
    type: Literal["message_batch_deleted"] = "message_batch_deleted"
