"""The adapter: for each call it makes a plan and wires the parts. It maps nothing itself."""

import gc
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from llama_stack.log import get_logger
from llama_stack_api import Api
from pydantic import ValidationError
from starlette.datastructures import Headers

from llama_stack_messages_provider.adaptation.refusals import translation_helps
from llama_stack_messages_provider.batches.database import BackendError, find_backend
from llama_stack_messages_provider.batches.identity import Identity, current_identity
from llama_stack_messages_provider.batches.service import BatchService
from llama_stack_messages_provider.config import MessagesConfig, TranslationConfig
from llama_stack_messages_provider.documents.fetch import DocumentFetcher, FetchLimits, allowing
from llama_stack_messages_provider.errors import ApiError, InvalidRequestError, MessagesError, NotFoundError
from llama_stack_messages_provider.http.exchange import Exchange
from llama_stack_messages_provider.http.middleware import install_middleware
from llama_stack_messages_provider.http.request_ids import new_request_id
from llama_stack_messages_provider.http.streaming import EventStream, JSONBody
from llama_stack_messages_provider.metrics import InferenceMetrics, count_dropped
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.native.request import native_body
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.routing.models import ModelResolver
from llama_stack_messages_provider.routing.plan import Plan, Planner
from llama_stack_messages_provider.routing.probe import Prober
from llama_stack_messages_provider.server_tools.search_runtime import WebSearch
from llama_stack_messages_provider.translated import TranslatedRoute
from llama_stack_messages_provider.translation.request import Translation, TranslationOptions
from llama_stack_messages_provider.upstream.chat_completions import ChatCompletions
from llama_stack_messages_provider.upstream.messages import NativeMessages, NativeMissingError, renamed
from llama_stack_messages_provider.upstream.sessions import Limits, Sessions
from llama_stack_messages_provider.upstream.token_counts import Count, TokenCounter
from llama_stack_messages_provider.wire.base import describe
from llama_stack_messages_provider.wire.models import (
    CountTokensRequest,
    CreateBatchRequest,
    CreateMessageRequest,
    DeletedMessageBatch,
    Message,
    MessageBatch,
    MessageBatchPage,
    MessageTokensCount,
)
from llama_stack_messages_provider.wire.sse import encode

__all__ = ["MessagesAdapter"]

logger = get_logger(name=__name__, category="providers")

_FORWARDED = ("anthropic-version", "anthropic-beta")
_VERSION = "2023-06-01"
_STRICT_HEADER = "x-messages-strict"
_DROPPED_SHOWN = 40
_HEADER_SHOWN = 2000


class Way:
    """The way that a request goes, which may change under way.

    Attributes:
        plan: The plan.
        translation: What was sent, on the translated route.
        told: How many of its losses have been told.
    """

    __slots__ = ("plan", "told", "translation")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.translation: Translation | None = None
        self.told = 0


class MessagesAdapter:
    """The Messages API over a stack's inference API.

    Args:
        config: The provider's settings.
        deps: The stack's APIs; `inference` is used, and `tool_runtime` where there is one.
        policy: The host's access policy.
    """

    def __init__(self, config: MessagesConfig, deps: Mapping[Api, Any], policy: list[Any]) -> None:
        self._config = config
        limits = Limits(config.limits.connect_seconds, config.limits.first_byte_seconds, config.limits.idle_seconds)
        self._sessions = Sessions()
        probe = config.probe
        prober = Prober(
            self._sessions,
            timeout=probe.timeout_seconds,
            yes_seconds=probe.yes_seconds,
            no_seconds=probe.no_seconds,
        )
        inference = deps[Api.inference]
        self.resolver = ModelResolver(inference.routing_table, config.model_aliases)
        search = WebSearch(deps.get(Api.tool_runtime), config.web_search)
        self.planner = Planner(config, self.resolver, prober, search)
        self._key = config.key()
        self._native = NativeMessages(self._sessions, limits)
        completions = ChatCompletions(inference, self._sessions, limits, store=config.store_completions)
        options = TranslationOptions(tool_error_marker=config.translation.tool_error_marker)
        self._translated = TranslatedRoute(completions, self._key, options, config.translation.system_messages, search)
        self._counter = TokenCounter(self._sessions, limits)
        self._documents = _fetcher(config.translation)
        self._batches = self._batch_service(policy)

    def _batch_service(self, policy: list[Any]) -> BatchService | None:
        if not self._config.batches.enabled:
            return None
        try:
            backend = find_backend(self._config.batches.backend)
        except BackendError as exc:
            if "backend" in self._config.batches.model_fields_set:
                raise
            logger.warning("Message Batches are off", reason=str(exc))
            return None
        return BatchService(self._config.batches, backend, self._run_of_batch, policy)

    # --- life ---

    async def initialize(self) -> None:
        """Nothing: the loop that this runs in is not the one that serves."""

    async def shutdown(self) -> None:
        """Close what belongs to the running loop."""
        await self.stop()

    async def start(self, app: FastAPI | None) -> None:
        """Begin background work in the serving loop, and wrap the app's middlewares for our paths."""
        # All that the host imported lives as long as the process: unless the collector is told, it looks through it
        # again and again, a tenth of what a request costs.
        gc.collect()
        gc.freeze()
        if app is not None:
            install_middleware(
                app,
                max_body_bytes=self._config.limits.body_bytes,
                max_batch_bytes=self._config.batches.max_bytes,
            )
        if self._batches is not None:
            await self._batches.start()

    async def stop(self) -> None:
        """End background work and close connections."""
        if self._batches is not None:
            await self._batches.stop()
        await self._sessions.close()

    # --- over HTTP ---

    async def serve_message(self, exchange: Exchange) -> Response:
        """`POST /v1/messages`: bytes in, bytes out on the native route."""
        request = exchange.request
        _check_head(request)
        if self._batches is None:
            return await self._serve(exchange)
        with self._batches.interactive():
            response = await self._serve(exchange)
        if isinstance(response, EventStream):
            response.during = self._batches.interactive()
        return response

    async def _serve(self, exchange: Exchange) -> Response:
        way = Way(await self.planner.plan(exchange.request))
        if _debugging():
            plan = way.plan
            logger.debug("Messages request", model=plan.target.identifier, route=plan.route, reason=plan.reason)
        if exchange.request.get("stream"):
            return self._streamed(exchange, way)
        if way.plan.route == "native":
            try:
                return await self._native_answer(exchange, way)
            except MessagesError as exc:
                await self._leave_native(way, exc, exchange.request)
        return await self._translated_answer(exchange, way)

    async def _leave_native(self, way: Way, exc: MessagesError, request: Mapping[str, Any]) -> None:
        """The other way, where that is of help.

        Raises:
            MessagesError: What the native endpoint said, where it is not.
        """
        plan = way.plan
        if isinstance(exc, NativeMissingError):
            self.planner.forget(plan, exc.message)
            logger.warning("Native endpoint is gone", model=plan.target.identifier, reason=exc.message)
            way.plan = await self.planner.plan_for(plan.target, request)
        elif self._is_curable(exc, plan, request):
            way.plan = replace(plan, route="translation", reason=exc.message)
        else:
            raise exc

    def _is_curable(self, exc: MessagesError, plan: Plan, request: Mapping[str, Any]) -> bool:
        """Whether a native refusal is one that the translated route knows a remedy for."""
        helps = exc.status == 400 and translation_helps(exc.message, request)
        return helps and self.planner.may_translate(plan.target)

    async def _native_answer(self, exchange: Exchange, way: Way) -> Response:
        plan = way.plan
        assert plan.endpoint is not None
        with InferenceMetrics(plan.target, stream=False):
            answer = await self._native.complete(
                plan.endpoint, self._native_body(exchange, plan), _forwarded(exchange.headers)
            )
        sign = Signer(self._key, plan.target.identifier)
        body = renamed(answer, exchange.request["model"], plan.capability.engine, sign)
        return JSONBody(body, headers=_answer_headers(exchange, way))

    async def _translated_answer(self, exchange: Exchange, way: Way) -> Response:
        exchange = await self._readable(exchange)
        translation = await self._translate(exchange, way)
        metrics = InferenceMetrics(way.plan.target, stream=False)
        with metrics:
            message = await self._translated.complete(way.plan, exchange.request, translation, _message_id())
        metrics.output_tokens(message["usage"]["output_tokens"])
        return JSONBody(message, headers=_answer_headers(exchange, way))

    async def _readable(self, exchange: Exchange, kind: Any = CreateMessageRequest) -> Exchange:
        """The exchange with a request that can be translated: validated, and its documents in it."""
        _validated(kind, exchange.request)
        if self._documents is None:
            return exchange
        return replace(exchange, request=dict(await self._documents.fetched(exchange.request)))

    async def _translate(self, exchange: Exchange, way: Way) -> Translation:
        strict = self._is_strict(exchange)
        way.translation = await self._translated.translated(way.plan, exchange.request, strict=strict)
        return way.translation

    def _is_strict(self, exchange: Exchange) -> bool:
        return self._config.strict or _wants_strict(exchange.headers)

    def _native_body(self, exchange: Exchange, plan: Plan) -> bytes:
        return native_body(
            exchange.body,
            exchange.request,
            model=plan.target.upstream_model,
            engine=plan.capability.engine,
            error_marker=self._config.translation.tool_error_marker,
        )

    def _streamed(self, exchange: Exchange, way: Way) -> EventStream:
        start = LateMessageStart(_message_id(), exchange.request["model"], exchange.request_id)
        return EventStream(
            self._events(exchange, way, start),
            lambda: _answer_headers(exchange, way),
            start.now,
            ping_after=self._config.ping.after_seconds,
        )

    async def _events(self, exchange: Exchange, way: Way, start: LateMessageStart) -> AsyncGenerator[bytes]:
        """The events of a message, and a failure among them as an `error` event: an end is never invented.

        Raises:
            MessagesError: The failure, if nothing has been sent: it can still be an answer with a status.
        """
        begun = False
        metrics = InferenceMetrics(way.plan.target, stream=True)
        try:
            with metrics:
                while True:
                    try:
                        async with aclosing(await self._source(exchange, way, start)) as source:
                            async for piece in source:
                                if not begun:
                                    begun = True
                                    metrics.first()
                                yield piece
                        _tell_losses(way)
                        return
                    except MessagesError as exc:
                        if begun or way.plan.route != "native":
                            raise
                        await self._leave_native(way, exc, exchange.request)
        except Exception as exc:
            if not (begun or start.sent):
                raise
            logger.warning("Stream failed", request_id=start.request_id, error=repr(exc))
            error = exc if isinstance(exc, MessagesError) else ApiError()
            yield encode(error.body(start.request_id))

    async def _source(self, exchange: Exchange, way: Way, start: LateMessageStart) -> AsyncGenerator[bytes]:
        """The events by the planned route."""
        if way.plan.route == "native":
            return self._native_events(exchange, way.plan, start)
        exchange = await self._readable(exchange)
        translation = await self._translate(exchange, way)
        return self._translated.stream(way.plan, exchange.request, translation, start.message_id, start)

    def _native_events(self, exchange: Exchange, plan: Plan, start: LateMessageStart) -> AsyncGenerator[bytes]:
        assert plan.endpoint is not None
        return self._native.stream(
            plan.endpoint,
            self._native_body(exchange, plan),
            _forwarded(exchange.headers),
            engine=plan.capability.engine,
            client_model=exchange.request["model"],
            sign=Signer(self._key, plan.target.identifier),
            start=start,
        )

    async def serve_count(self, exchange: Exchange) -> Response:
        """`POST /v1/messages/count_tokens`."""
        way, count = await self._count(exchange)
        headers = {**_answer_headers(exchange, way), "x-messages-count-source": count.source}
        return JSONBody({"input_tokens": count.tokens}, headers=headers)

    async def _count(self, exchange: Exchange) -> tuple[Way, Count]:
        request = exchange.request
        _check_head(request, count=True)
        way = Way(await self.planner.plan(request))
        plan = way.plan
        if plan.route == "native" and plan.capability.count_tokens:
            try:
                return way, await self._native_count(exchange, plan)
            except MessagesError as exc:
                if not (isinstance(exc, NativeMissingError) or self._is_curable(exc, plan, request)):
                    raise
                logger.warning("No native count of tokens", model=plan.target.identifier, reason=exc.message)
        request = (await self._readable(exchange, CountTokensRequest)).request
        prompt = {name: request[name] for name in CountTokensRequest.model_fields if name in request}
        # A message that goes natively loses nothing, however its tokens are counted.
        strict = plan.route == "translation" and self._is_strict(exchange)
        translation, count = await self._translated_count(plan, prompt, strict=strict)
        if plan.route == "translation":
            way.translation = translation
        return way, count

    async def _translated_count(
        self, plan: Plan, prompt: Mapping[str, Any], *, strict: bool
    ) -> tuple[Translation, Count]:
        translation = await self._translated.translated(plan, prompt, strict=strict)
        engine, infer = plan.engine, partial(self._translated.infer, plan)
        try:
            return translation, await self._counter.count(translation.params, plan.endpoint, engine, infer)
        except InvalidRequestError as exc:
            self._translated.learn(exc, plan, translation.params, strict=strict)
        translation = await self._translated.translated(plan, prompt, strict=strict)
        return translation, await self._counter.count(translation.params, plan.endpoint, engine, infer)

    async def _native_count(self, exchange: Exchange, plan: Plan) -> Count:
        assert plan.endpoint is not None
        answer = await self._native.complete(
            plan.endpoint,
            self._native_body(exchange, plan),
            _forwarded(exchange.headers),
            path="/v1/messages/count_tokens",
        )
        body = answer.json()
        if not isinstance(body, dict) or type(body.get("input_tokens")) is not int:
            raise NativeMissingError("The upstream's count is not understood")
        return Count(body["input_tokens"], "native")

    async def serve_batch(self, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> Response:
        """`POST /v1/messages/batches`: the body is read as it comes."""
        kept = _forwarded(headers) | ({_STRICT_HEADER: "true"} if _wants_strict(headers) else {})
        return JSONBody(await self._need_batches().create(body, current_identity(), kept))

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
        return MessageTokensCount(input_tokens=count.tokens)

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

    async def _run_of_batch(
        self, params: dict[str, Any], identity: Identity | None, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """A request of a batch, run with its creator's access."""
        _validated(CreateMessageRequest, params)
        exchange = Exchange(new_request_id(), orjson.dumps(params), params, headers)
        response = await self._serve(exchange)
        message = orjson.loads(response.body)
        assert isinstance(message, dict)
        return message


def _fetcher(config: TranslationConfig) -> DocumentFetcher | None:
    if not config.fetch_urls:
        return None
    limits = FetchLimits(config.fetch_seconds, config.fetch_bytes)
    return DocumentFetcher(limits, allowed=allowing(config.fetch_allow))


def _debugging() -> bool:
    # The host's logger spends more on a line that is not written than the rest of the plan.
    return logging.getLogger(__name__).isEnabledFor(logging.DEBUG)


def _exchange(params: Any) -> Exchange:
    request = params.wire()
    return Exchange(new_request_id(), orjson.dumps(request), request)


def _message_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def _check_head(request: Mapping[str, Any], *, count: bool = False) -> None:
    """What both routes need to know; the rest of a native request is its upstream's to judge."""
    if not isinstance(request.get("model"), str) or not isinstance(request.get("messages"), list):
        _validated(CountTokensRequest if count else CreateMessageRequest, request)
    if not isinstance(request.get("stream") or False, bool):
        raise InvalidRequestError("stream: Input should be a valid boolean")


def _validated(kind: Any, request: Mapping[str, Any]) -> None:
    try:
        kind.model_validate(request)
    except ValidationError as exc:
        raise InvalidRequestError(describe(exc)) from exc


def _wants_strict(headers: Mapping[str, str]) -> bool:
    return headers.get(_STRICT_HEADER, "").lower() == "true"


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    # A list header may be repeated, which Starlette's headers know and a plain dict does not.
    values = headers.getlist if isinstance(headers, Headers) else lambda name: list(filter(None, [headers.get(name)]))
    sent = {name: ",".join(found) for name in _FORWARDED if (found := values(name))}
    sent.setdefault("anthropic-version", _VERSION)
    return sent


def _answer_headers(exchange: Exchange, way: Way) -> dict[str, str]:
    plan, translation = way.plan, way.translation
    headers = {
        "request-id": exchange.request_id,
        "x-messages-route": plan.route,
        "x-messages-model": _header_safe(plan.target.identifier),
    }
    if translation is not None and translation.dropped:
        shown = translation.dropped[:_DROPPED_SHOWN]
        headers["x-messages-dropped"] = _header_safe(", ".join(shown))
        _tell_losses(way)
    return headers


def _tell_losses(way: Way) -> None:
    """Log and count what was lost since they were told last: a remedy in a later round is too late for the header."""
    lost = way.translation.dropped[way.told :] if way.translation else []
    if lost:
        target = way.plan.target
        logger.info("Parts of a request were dropped", model=target.identifier, dropped=lost[:_DROPPED_SHOWN])
        count_dropped(target, lost)
        way.told += len(lost)


def _header_safe(text: str) -> str:
    # Clients choose some of it: names of fields, and models that only their upstream knows.
    return text.encode("unicode_escape").decode()[:_HEADER_SHOWN]
