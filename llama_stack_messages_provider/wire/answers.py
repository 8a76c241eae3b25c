"""What the server answers, for callers in the same process and for the published schema.

The types say no more than a caller in the process needs; all else is kept as it came. What is published of them is made
from the `anthropic` SDK's types by `scripts/generate_response_schema.py` and stands in `answers.json`.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, GetJsonSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from llama_stack_messages_provider.wire.base import JsonObject, UnknownType, WireModel
from llama_stack_messages_provider.wire.beta_blocks import FallbackInfo, MCPTool, ToolChangeToolDefinition
from llama_stack_messages_provider.wire.blocks import (
    Base64PDFSource,
    CacheControlEphemeral,
    DirectCaller,
    PlainTextSource,
    ServerToolCaller,
    ServerToolCaller20260120,
)

__all__ = [
    "SCHEMAS",
    "Answer",
    "DeletedMessageBatch",
    "ErrorResponse",
    "Message",
    "MessageBatch",
    "MessageBatchIndividualResponse",
    "MessageBatchPage",
    "MessageTokensCount",
    "answer_schemas",
]

SCHEMAS: Path = Path(__file__).with_name("answers.json")


SHARED: Mapping[str, type[WireModel]] = {
    each.__name__: each
    for each in (
        Base64PDFSource,
        CacheControlEphemeral,
        DirectCaller,
        FallbackInfo,
        MCPTool,
        PlainTextSource,
        ServerToolCaller,
        ServerToolCaller20260120,
        ToolChangeToolDefinition,
        UnknownType,
    )
}
"""What requests can hold too."""


@cache
def answer_schemas() -> dict[str, JsonObject]:
    """JSON schema of each answer and of its parts, by name; `$ref` holds a name."""
    schemas: dict[str, JsonObject] = json.loads(SCHEMAS.read_text(encoding="utf-8"))
    return schemas


class Answer(WireModel):
    """An object that is published as the data file has it."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        published: JsonObject = _resolved(answer_schemas()[cls.__name__], handler)
        return published


def _resolved(value: Any, handler: GetJsonSchemaHandler) -> Any:
    """The schema with its references made to the document's."""
    if isinstance(value, list):
        return [_resolved(each, handler) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(name := value.get("$ref"), str):
        # Inside another schema, or it would be laid out here and not referred to.
        part = core_schema.list_schema(_part(name).__pydantic_core_schema__)
        beside = {key: each for key, each in value.items() if key != "$ref"}
        return handler(part)["items"] | beside
    return {key: _resolved(each, handler) for key, each in value.items()}


@cache
def _part(name: str) -> type[BaseModel]:
    """A part of an answer. What a request can hold too is published once, as requests have it."""
    known = SHARED.get(name) or globals().get(name)
    return known if isinstance(known, type) else create_model(name, __base__=Answer)


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
