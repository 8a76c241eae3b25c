"""The API spec that Llama Stack loads: the `Messages` protocol, its router and its providers."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol, runtime_checkable

from fastapi import FastAPI, Response
from llama_stack_api import ProviderSpec

from llama_stack_messages_provider.http.exchange import Exchange
from llama_stack_messages_provider.http.routes import create_router
from llama_stack_messages_provider.provider import messages_provider_spec
from llama_stack_messages_provider.status.report import StatusReport
from llama_stack_messages_provider.wire.answers import (
    DeletedMessageBatch,
    Message,
    MessageBatch,
    MessageBatchPage,
    MessageTokensCount,
)
from llama_stack_messages_provider.wire.request import (
    CountTokensRequest,
    CreateBatchRequest,
    CreateMessageRequest,
)

__all__ = ["Messages", "available_providers", "create_router"]


def available_providers() -> list[ProviderSpec]:
    """The providers of this API."""
    return [messages_provider_spec()]


@runtime_checkable
class Messages(Protocol):
    """The Anthropic Messages API.

    The first group is called in the same process, the second by the routes. Errors are `MessagesError`s in both.

    Source: https://platform.claude.com/docs/en/api/messages
    """

    async def create_message(self, params: CreateMessageRequest) -> Message | Response:
        """A message; a streaming response of server-sent events if `params.stream`."""
        ...

    async def count_message_tokens(self, params: CountTokensRequest) -> MessageTokensCount:
        """The number of input tokens of a request, without running it."""
        ...

    async def create_message_batch(self, params: CreateBatchRequest) -> MessageBatch:
        """Accept many requests, to be run in the background."""
        ...

    async def retrieve_message_batch(self, message_batch_id: str) -> MessageBatch:
        """The state of a batch."""
        ...

    async def message_batch_progress(self, message_batch_id: str) -> tuple[int, int]:
        """How many requests of a batch are done, and of how many."""
        ...

    async def list_message_batches(
        self, limit: int = 20, after_id: str | None = None, before_id: str | None = None
    ) -> MessageBatchPage:
        """One's own batches, newest first."""
        ...

    async def cancel_message_batch(self, message_batch_id: str) -> MessageBatch:
        """Run no further requests of a batch."""
        ...

    async def delete_message_batch(self, message_batch_id: str) -> DeletedMessageBatch:
        """Remove a batch that has ended, and its results."""
        ...

    async def message_batch_results(self, message_batch_id: str) -> Response:
        """The results of a batch that has ended, one JSON object a line."""
        ...

    async def list_models(
        self, limit: int = 20, after_id: str | None = None, before_id: str | None = None
    ) -> dict[str, Any]:
        """A page of the models that the current user may use, as Anthropic lists them."""
        ...

    async def retrieve_model(self, name: str) -> dict[str, Any]:
        """One of these models, by any name that requests may use."""
        ...

    async def start(self, app: FastAPI | None) -> None:
        """Begin background work, in the loop that serves."""
        ...

    async def stop(self) -> None:
        """End background work and close connections."""
        ...

    def adaptations(self) -> list[dict[str, Any]]:
        """What was learned of models from their upstreams' refusals."""
        ...

    def status_report(self) -> StatusReport | None:
        """What the status page shows; None where there is none."""
        ...

    async def diagnosis(self) -> dict[str, Any]:
        """How the stack's models can be used, and what is wrong."""
        ...

    async def serve_message(self, exchange: Exchange) -> Response:
        """`POST /v1/messages`."""
        ...

    async def serve_count(self, exchange: Exchange) -> Response:
        """`POST /v1/messages/count_tokens`."""
        ...

    async def serve_batch(self, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
        """`POST /v1/messages/batches`; the body is read as it comes."""
        ...
