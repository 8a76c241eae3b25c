"""Bodies of the POSTs that create messages, count their tokens, and create batches.

Source: https://platform.claude.com/docs/en/api/messages and the `anthropic` SDK's types; see `schemas.json`.
"""

from typing import TYPE_CHECKING

from llama_stack_messages_provider.wire.base import WireModel
from llama_stack_messages_provider.wire.types import wire_type

__all__ = ["MAX_MESSAGES", "CountTokensRequest", "CreateBatchRequest", "CreateMessageRequest", "MessageParam"]

MAX_MESSAGES: int = 100_000

if TYPE_CHECKING:  # which fields they have is known when the schemas have been read

    class CreateMessageRequest(WireModel):
        """Body of `POST /v1/messages`."""

    class CountTokensRequest(WireModel):
        """Body of `POST /v1/messages/count_tokens`."""

    class CreateBatchRequest(WireModel):
        """Body of `POST /v1/messages/batches`."""

    class MessageParam(WireModel):
        """A turn of the conversation."""
else:
    CreateMessageRequest = wire_type("CreateMessageRequest")
    CountTokensRequest = wire_type("CountTokensRequest")
    CreateBatchRequest = wire_type("CreateBatchRequest")
    MessageParam = wire_type("MessageParam")
    # Their validators still wait for the first request. But FastAPI goes by this, and would make its own of a body
    # later than where it silences pydantic's warning.
    for body in (CreateMessageRequest, CountTokensRequest, CreateBatchRequest):
        body.model_config["defer_build"] = False
