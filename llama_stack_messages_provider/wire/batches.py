"""Message Batches.

Source: https://platform.claude.com/docs/en/api/creating-message-batches and the SDK's `types.messages`.
"""

from typing import Annotated

from pydantic import Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from llama_stack_messages_provider.wire.base import Array, JsonObject, WireModel
from llama_stack_messages_provider.wire.request import CreateMessageRequest

__all__ = ["MAX_BATCH_REQUESTS", "BatchRequestItem", "CreateBatchRequest"]

MAX_BATCH_REQUESTS: int = 100_000


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
