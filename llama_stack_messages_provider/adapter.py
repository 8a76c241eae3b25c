"""The adapter: the `Messages` protocol over a stack's inference API. It maps nothing itself.

A request is passed through where the probe of its upstream found a Messages endpoint that has all it uses, and
translated elsewhere: `MessageService` plans, runs and falls back. Here are its answers' headers, the calls of the
in-process client, and the way to the batches.
"""

import ctypes
import gc
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.batches.identity import current_identity
from llama_stack_messages_provider.batches.service import BatchService
from llama_stack_messages_provider.budgets.budgets import Budgets
from llama_stack_messages_provider.config import MessagesConfig
from llama_stack_messages_provider.diagnosis import Diagnostics
from llama_stack_messages_provider.errors import NotFoundError
from llama_stack_messages_provider.health import Health
from llama_stack_messages_provider.host.app import list_health
from llama_stack_messages_provider.host.providers import provider_id
from llama_stack_messages_provider.host.telemetry import flush_traces, set_up_traces, trace_of
from llama_stack_messages_provider.host.uvicorn import worker_count
from llama_stack_messages_provider.http.exchange import Exchange
from llama_stack_messages_provider.http.forwarded import STRICT_HEADER, forwarded_headers, wants_strict
from llama_stack_messages_provider.http.middleware import install_middleware
from llama_stack_messages_provider.http.request_ids import new_request_id
from llama_stack_messages_provider.http.streaming import EventStream, JSONBody
from llama_stack_messages_provider.metrics import count_unknown_fields
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.native.message import PassedMessage
from llama_stack_messages_provider.routing.catalogue import ModelCatalogue
from llama_stack_messages_provider.routing.state import RouteState
from llama_stack_messages_provider.service import (
    MessageService,
    new_message_id,
    report_dropped,
)
from llama_stack_messages_provider.shields.runs import Shields
from llama_stack_messages_provider.status.report import StatusReport
from llama_stack_messages_provider.upstream.sessions import Sessions
from llama_stack_messages_provider.upstream.token_counts import Count
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
from llama_stack_messages_provider.wire.schemas import schemas
from llama_stack_messages_provider.wire.validation import check_top_level

__all__ = ["MessagesAdapter"]

_DROPPED_SHOWN = 40
_HEADER_SHOWN = 2000
# New objects after which the collector looks for garbage; 700, the usual, are those of a few requests.
_YOUNG_OBJECTS = 5_000
# More than the 256 KiB that asyncio reads into each time.
_LARGE_BUFFER_BYTES = 320 * 1024
_KEPT_FREE_BYTES = 1024 * 1024
# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class MessagesAdapter:
    """The Messages API.

    Args:
        config: The provider's settings.
        service: Answers requests.
        batches: Message Batches; None where they are off.
        sessions: Pooled connections, which end with the server.
        memory: What was learned of models.
        catalogue: Lists models.
        diagnostics: Examines the stack, for `doctor`.
        health: Looks after the upstreams, for the host's list of providers.
        budgets: Limits what users may ask; None where nobody has a budget.
        shields: Judge what models are told and say; None where nothing does.
        status: Reports what goes on; None where nobody may see it.
    """

    def __init__(
        self,
        config: MessagesConfig,
        service: MessageService,
        batches: BatchService | None,
        sessions: Sessions,
        memory: AdaptationMemory,
        catalogue: ModelCatalogue,
        diagnostics: Diagnostics,
        health: Health,
        budgets: Budgets | None,
        shields: Shields | None,
        status: StatusReport | None,
    ) -> None:
        self._config = config
        self._service = service
        self._batches = batches
        self._sessions = sessions
        self._memory = memory
        self._catalogue = catalogue
        self._diagnostics = diagnostics
        self._health = health
        self._budgets = budgets
        self._shields = shields
        self._status = status

    def adaptations(self) -> list[dict[str, Any]]:
        """What this process has learned of models, for people: see `AdaptationMemory.report`."""
        return self._memory.report()

    def status_report(self) -> StatusReport | None:
        """What the status page shows; None where there is none."""
        return self._status

    async def list_models(
        self, limit: int = 20, after_id: str | None = None, before_id: str | None = None
    ) -> dict[str, Any]:
        """A page of models: see `ModelCatalogue.page`."""
        return await self._catalogue.page(limit, after_id, before_id)

    async def retrieve_model(self, name: str) -> dict[str, Any]:
        """One model: see `ModelCatalogue.entry`."""
        return await self._catalogue.entry(name)

    async def diagnosis(self) -> dict[str, Any]:
        """How the stack's models can be used, for `doctor`: see `Diagnosis`."""
        return (await self._diagnostics.diagnose()).to_json()

    async def health(self) -> dict[str, Any]:
        """For the host's list of providers, by the id of this one: see `Health.check`."""
        # The host looks for the answer of each API under its providers' ids.
        return {provider_id(self): await self._health.check()}

    # --- life ---

    async def initialize(self) -> None:
        """Nothing: the loop that this runs in is not the one that serves."""

    async def shutdown(self) -> None:
        """Close what belongs to the running loop."""
        await self.stop()

    async def start(self, app: FastAPI | None) -> None:
        """Begin background work in the serving loop, and wrap the app's middlewares for our paths."""
        # All that the host imported lives as long as the process: unless the collector is told, it looks through it
        # again and again, a tenth of what a request costs. What requests leave is little, and looked for more rarely.
        if self._config.freeze_gc:
            schemas.cache_clear()  # a megabyte, of which the types are made by now
            gc.collect()
            gc.freeze()
            gc.set_threshold(_YOUNG_OBJECTS)
            _trim_heap()
        if app is not None:
            list_health(app, self)
            if self._status is not None:
                self._status.workers = worker_count()
            install_middleware(
                app,
                self._config.limits,
                max_batch_bytes=self._config.batches.max_bytes,
                on_shutdown=self._begin_shutdown,
            )
        set_up_traces()
        if self._shields is not None:
            await self._shields.check()
        if self._batches is not None:
            await self._batches.runtime.start()

    def _begin_shutdown(self) -> None:
        if self._batches is not None:
            self._batches.runtime.drain()

    async def stop(self) -> None:
        """End background work and close connections; what batches run has what is left of the time of a shutdown."""
        if self._batches is not None:
            await self._batches.runtime.stop(self._config.limits.shutdown_seconds)
        await self._service.close()
        if self._budgets is not None:
            await self._budgets.close()
        await self._sessions.close()
        await flush_traces()

    # --- over HTTP ---

    async def serve_message(self, exchange: Exchange) -> Response:
        """`POST /v1/messages`: bytes in, bytes out on the native route."""
        check_top_level(exchange.request)
        count_unknown_fields(exchange.request)
        state = await self._service.plan(exchange)
        if exchange.request.get("stream"):
            return self._streamed(exchange, state)
        with self._interactive():
            message = await self._service.complete(exchange, state, new_message_id())
        body = message.body if isinstance(message, PassedMessage) else message
        return JSONBody(body, headers=_answer_headers(exchange.request_id, state))

    def _streamed(self, exchange: Exchange, state: RouteState) -> EventStream:
        start = LateMessageStart(new_message_id(), exchange.request["model"], exchange.request_id)
        events = self._service.stream(exchange, state, start, self._interactive())
        return EventStream(
            events if state.observed is None else state.observed.events(events),
            partial(_answer_headers, exchange.request_id, state),
            start.now,
            ping_after=self._config.ping.after_seconds,
        )

    async def serve_count(self, exchange: Exchange) -> Response:
        """`POST /v1/messages/count_tokens`."""
        state, count = await self._count(exchange)
        headers = {**_answer_headers(exchange.request_id, state), "x-messages-count-source": count.source}
        return JSONBody(_counted(count), headers=headers)

    async def _count(self, exchange: Exchange) -> tuple[RouteState, Count]:
        check_top_level(exchange.request, count=True)
        state = await self._service.plan(exchange, "count_tokens")
        return state, await self._service.count(exchange, state)

    async def serve_batch(self, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
        """`POST /v1/messages/batches`: the body is read as it comes."""
        kept = forwarded_headers(headers) | ({STRICT_HEADER: "true"} if wants_strict(headers) else {})
        kept |= trace_of(headers)
        return JSONBody(await self._need_batches().create(body, current_identity(), kept))

    def _interactive(self) -> AbstractContextManager[None]:
        """Entered while somebody waits for an answer: batches leave a slot to it."""
        return nullcontext() if self._batches is None else self._batches.runtime.interactive

    # --- in the same process ---

    async def create_message(self, params: CreateMessageRequest) -> Message | Response:
        """A message, or a streaming response of server-sent events."""
        response = await self.serve_message(_exchange(params))
        if isinstance(response, EventStream):
            return await response.opened()
        return Message.model_validate_json(bytes(response.body))

    async def count_message_tokens(self, params: CountTokensRequest) -> MessageTokensCount:
        """The number of input tokens."""
        _, count = await self._count(_exchange(params))
        return MessageTokensCount(**_counted(count))

    async def create_message_batch(self, params: CreateBatchRequest) -> MessageBatch:
        """Accept many requests."""

        async def body() -> AsyncIterator[bytes]:
            yield orjson.dumps(params.wire())

        return MessageBatch.model_validate(await self._need_batches().create(body(), current_identity()))

    async def retrieve_message_batch(self, message_batch_id: str) -> MessageBatch:
        """The state of a batch."""
        batch = await self._need_batches().retrieve(message_batch_id, current_identity())
        return MessageBatch.model_validate(batch)

    async def message_batch_progress(self, message_batch_id: str) -> tuple[int, int]:
        """How many requests of a batch are done, and of how many; its counts do not tell before its end."""
        return await self._need_batches().progress(message_batch_id, current_identity())

    async def list_message_batches(
        self, limit: int = 20, after_id: str | None = None, before_id: str | None = None
    ) -> MessageBatchPage:
        """One's own batches, newest first."""
        page = await self._need_batches().list(current_identity(), limit=limit, after_id=after_id, before_id=before_id)
        return MessageBatchPage.model_validate(page)

    async def cancel_message_batch(self, message_batch_id: str) -> MessageBatch:
        """Run no further requests of a batch."""
        batch = await self._need_batches().cancel(message_batch_id, current_identity())
        return MessageBatch.model_validate(batch)

    async def delete_message_batch(self, message_batch_id: str) -> DeletedMessageBatch:
        """Remove a batch that has ended."""
        deleted = await self._need_batches().delete(message_batch_id, current_identity())
        return DeletedMessageBatch.model_validate(deleted)

    async def message_batch_results(self, message_batch_id: str) -> Response:
        """The results, one JSON object a line."""
        lines = await self._need_batches().results(message_batch_id, current_identity())
        return StreamingResponse(lines, media_type="application/x-jsonl")

    def _need_batches(self) -> BatchService:
        if self._batches is None:
            raise NotFoundError("Message Batches are off on this server: see batches.enabled and batches.backend")
        return self._batches


def _exchange(params: Any) -> Exchange:
    request = params.wire()
    return Exchange(new_request_id(), orjson.dumps(request), request)


def _counted(count: Count) -> dict[str, Any]:
    """The body of an answer to a count."""
    if count.original is None:
        return {"input_tokens": count.tokens}
    return {"input_tokens": count.tokens, "context_management": {"original_input_tokens": count.original}}


def _answer_headers(request_id: str, state: RouteState) -> dict[str, str]:
    headers = {
        "request-id": request_id,
        "x-messages-route": state.plan.route,
        "x-messages-model": _header_safe(state.plan.target.identifier),
    }
    if state.budget_headers:
        headers |= state.budget_headers
    if state.unjudged:
        headers["x-messages-unjudged"] = _header_safe(", ".join(state.unjudged[:_DROPPED_SHOWN]))
    if state.dropped:
        headers["x-messages-dropped"] = _header_safe(", ".join(state.dropped[:_DROPPED_SHOWN]))
        report_dropped(state)
    return headers


def _header_safe(text: str) -> str:
    # Clients choose some of it: names of fields, and models that only their upstream knows.
    return text.encode("unicode_escape").decode()[:_HEADER_SHOWN]


def _trim_heap() -> None:
    """Give back what the imports left free in the heap, some 6 MB, which glibc would keep.

    And let large buffers stay outside of it, where glibc would soon take each of any size from it, and what lies
    between them would hold it open: 2 to 3 MB. Source: mallopt(3), "dynamic mmap threshold".
    """
    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BUFFER_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
