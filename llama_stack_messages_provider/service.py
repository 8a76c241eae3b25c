"""Messages and counts of tokens: a plan, a route, and the other route where the first turns out not to be there."""

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from dataclasses import replace
from functools import partial
from traceback import format_exception
from typing import Any

from llama_stack_messages_provider.adaptation.loop import TranslateInsteadError
from llama_stack_messages_provider.budgets.budgets import Budgets
from llama_stack_messages_provider.cache_diagnostics.diagnostics import CacheDiagnostics
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import ApiError, MessagesError
from llama_stack_messages_provider.fallbacks.run import Fallbacks
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.http.exchange import Exchange
from llama_stack_messages_provider.http.forwarded import forwarded_headers, wants_strict
from llama_stack_messages_provider.metrics import InferenceMetrics
from llama_stack_messages_provider.model_calls import ModelCalls
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.routing.diagnosed import compared_request, diagnosed
from llama_stack_messages_provider.routing.native_route import NativeRoute
from llama_stack_messages_provider.routing.opened_stream import OpenedStream, opened, pieces_of
from llama_stack_messages_provider.routing.plan import NativePlan, Planner, is_first_party
from llama_stack_messages_provider.routing.prepare import Preparer
from llama_stack_messages_provider.routing.session import session_of
from llama_stack_messages_provider.routing.spill_over import on_replicas
from llama_stack_messages_provider.routing.state import RouteState, client_name, planned, report_dropped
from llama_stack_messages_provider.routing.told import counting
from llama_stack_messages_provider.routing.translated_route import TranslatedRoute
from llama_stack_messages_provider.safeguards.judge import Classifier, Judge, Safeguards
from llama_stack_messages_provider.status.noted import note
from llama_stack_messages_provider.telemetry.observed import UNOBSERVED, Observed, Observer
from llama_stack_messages_provider.upstream.failures import NamedFailures
from llama_stack_messages_provider.upstream.messages import NativeMissingError
from llama_stack_messages_provider.upstream.token_counts import Count
from llama_stack_messages_provider.wire.base import WireModel
from llama_stack_messages_provider.wire.names import without_fields
from llama_stack_messages_provider.wire.request import CountTokensRequest, CreateMessageRequest
from llama_stack_messages_provider.wire.sse import encode

__all__ = [
    "MessageService",
    "new_message_id",
    "report_dropped",
]

logger = get_logger(name=__name__, category="providers")
_level = logging.getLogger(__name__)

_ANSWERED_HERE = ("diagnostics", "fallbacks", "safeguards")


class MessageService:
    """Plans requests, runs them, and falls back.

    Args:
        planner: Decides on the route.
        calls: Calls models.
        native: The native route, for counts.
        translated: The translated route, for counts.
        preparer: Makes what goes down a route.
        safeguards: Judges calls for clients that want it.
        fallbacks: Asks other models where one gives no answer.
        budgets: Limits what users may ask; None where nobody has a budget.
        caches: Compares requests for clients that want to know why a cache was missed.
        observer: Observes the requests.
        strict: Refuse what would be dropped, whatever the client says.

    Attributes:
        find: Finds the model that judges; set once there is who does that.
    """

    find: Callable[[Observed | None, str, dict[str, Any]], Awaitable[Classifier]]

    def __init__(
        self,
        planner: Planner,
        calls: ModelCalls,
        native: NativeRoute,
        translated: TranslatedRoute,
        preparer: Preparer,
        safeguards: Safeguards,
        fallbacks: Fallbacks,
        budgets: Budgets | None,
        caches: CacheDiagnostics,
        observer: Observer,
        *,
        strict: bool,
    ) -> None:
        self._planner = planner
        self._calls = calls
        self._native, self._translated = native, translated
        self._preparer = preparer
        self._safeguards = safeguards
        self._fallbacks, self._budgets, self._caches = fallbacks, budgets, caches
        self._observer = observer
        self._strict = strict

    async def plan(
        self, exchange: Exchange, operation: str = "chat", *, inner: bool = False, in_session: bool = True
    ) -> RouteState:
        """Decide how a request goes; nothing but a probe is sent.

        Args:
            exchange: The request.
            operation: What OpenTelemetry calls it: `chat` or `count_tokens`.
            inner: Whether it is a request of our own, for another.
            in_session: Whether it goes where the others of its session go.

        Raises:
            MessagesError: It cannot be answered, by whatever route, or its user's budget is used up.
        """
        observed = self._observer.begin(operation, exchange.request, exchange.headers, client_name, inner=inner)
        noted = note(operation, exchange.request_id, exchange.request, inner=inner)
        session = session_of(exchange.headers, exchange.request) if in_session else None
        is_counted = operation == "chat" and not inner
        state = await planned(observed, noted, self._planned(exchange, session, is_counted=is_counted))
        state.unjudged = [] if operation == "chat" and self._calls.judges else None
        return state

    async def _planned(self, exchange: Exchange, session: str | None, *, is_counted: bool) -> RouteState:
        strict = self._strict or wants_strict(exchange.headers)
        dropped = DroppedFields(strict=strict)
        plan = await self._planner.plan(exchange.request, dropped, session)
        if _level.isEnabledFor(logging.DEBUG):  # the host's logger is slow to say no
            logger.debug("Messages request", model=plan.target.identifier, route=plan.route, reason=plan.reason)
        state = RouteState(plan, forwarded_headers(exchange.headers), strict=strict, size=len(exchange.body))
        state.session = session
        state.drop(dropped.names)
        await self._fallbacks.prepare(exchange, state)
        state.is_counted = is_counted
        if is_counted and self._budgets is not None:
            state.budget_headers = await self._budgets.admit(client_name(), plan.target.budget_name)
        return state

    async def complete(self, exchange: Exchange, state: RouteState, message_id: str) -> dict[str, Any]:
        """A whole message; a `PassedMessage` where it is the upstream's own.

        Raises:
            MessagesError: The upstream's refusal or failure.
        """
        with state.noted or UNOBSERVED as noted, state.observed or UNOBSERVED as told:
            message = await self._completed(exchange, state, message_id)
            noted.answered(message)
            told.answered(message)
            return message

    async def _completed(self, exchange: Exchange, state: RouteState, message_id: str) -> dict[str, Any]:
        async def once(exchange: Exchange) -> dict[str, Any]:
            async def send(request: dict[str, Any], raw: bytes | None) -> dict[str, Any]:
                judge = await self._judge(exchange, state)
                message = await self._calls.complete(request, raw, state, message_id)
                return await judge.message(message) if judge else message

            with NamedFailures(state.plan.target.provider_id):
                return await self._routed(exchange, state, send)

        compared = await compared_request(self._caches, self._preparer.offload, exchange.request, state)
        message = await (once(exchange) if state.chain is None else self._fallbacks.complete(exchange, state, once))
        return compared.message(message) if compared else message

    async def stream(
        self,
        exchange: Exchange,
        state: RouteState,
        start: LateMessageStart,
        during: AbstractContextManager[None],
    ) -> AsyncGenerator[bytes]:
        """The events of a message, and a failure among them as an `error` event: an end is never invented.

        Args:
            exchange: The request.
            state: The way that it goes.
            start: Whether its `message_start` was sent.
            during: Entered while the stream lasts.

        Raises:
            MessagesError: The failure, if nothing has been sent: it can still be an answer with a status.
        """
        begun = False
        metrics = InferenceMetrics(state.plan.target, stream=True)
        try:
            with during, state.noted or UNOBSERVED as noted, metrics, NamedFailures(state.plan.target.provider_id):
                compared = await compared_request(self._caches, self._preparer.offload, exchange.request, state)
                stream = await diagnosed(compared, self._opened(exchange, state, start), start)
                piece, rest = stream.first, stream.rest
                del exchange, stream  # a stream may last for an hour, and a prompt be of megabytes
                async with aclosing(rest):
                    begun = True
                    metrics.first()
                    noted.see(piece)
                    yield piece
                    async for piece in rest:
                        noted.see(piece)
                        yield piece
                report_dropped(state)
        except Exception as exc:
            if not (begun or start.sent):
                raise
            trace = "" if isinstance(exc, MessagesError) else "".join(format_exception(exc))  # a bug of ours
            model = state.plan.target.identifier
            logger.warning("Stream failed", request_id=start.request_id, model=model, error=repr(exc), trace=trace)
            error = exc if isinstance(exc, MessagesError) else ApiError()
            yield encode(error.body(start.request_id))

    async def _opened(self, exchange: Exchange, state: RouteState, start: LateMessageStart) -> OpenedStream:
        """The events, by the first model of a chain that gives an answer."""
        if state.chain is None:
            return await self._judged(exchange, state, start)

        async def once(exchange: Exchange) -> OpenedStream:
            with NamedFailures(state.plan.target.provider_id):
                return await self._judged(exchange, state, start)

        return await opened(self._fallbacks.events(exchange, state, start, once))

    async def _judged(self, exchange: Exchange, state: RouteState, start: LateMessageStart) -> OpenedStream:
        """The events, with verdicts on calls where the client wants them."""

        async def send(request: dict[str, Any], raw: bytes | None) -> OpenedStream:
            judge = await self._judge(exchange, state)
            stream = await self._calls.open(request, raw, state, start)
            return await opened(judge.events(pieces_of(stream))) if judge else stream

        return await self._routed(exchange, state, send)

    async def count(self, exchange: Exchange, state: RouteState) -> Count:
        """The number of input tokens.

        Raises:
            MessagesError: The upstream's refusal or failure.
        """
        with state.noted or UNOBSERVED, state.observed or UNOBSERVED, NamedFailures(state.plan.target.provider_id):
            count, edits = await on_replicas(self._planner, exchange, state, self._count)
        if edits is None:
            return count
        return replace(count, original=count.tokens + sum(edit["cleared_input_tokens"] for edit in edits))

    async def _count(self, exchange: Exchange, state: RouteState) -> tuple[Count, list[dict[str, Any]] | None]:
        """The count, and the edits of the context that were made before."""
        plan, request = state.plan, exchange.request
        if isinstance(plan, NativePlan) and plan.capability.count_tokens:
            try:
                prompt = await _prepared(self._preparer, exchange, state, CountTokensRequest)
                with counting(state.observed) as told:
                    return told(await self._native.count(_raw(exchange, prompt), prompt, state)), state.applied_edits
            except (NativeMissingError, TranslateInsteadError) as exc:
                logger.warning("No native count of tokens", model=plan.target.identifier, reason=exc.message)
        if isinstance(plan, NativePlan):
            # The message itself goes natively and loses nothing, however its tokens are counted.
            plan = await self._planner.plan_for(plan.target, request, refused="it does not count")
            observed, state = state.observed, RouteState(plan, state.headers, strict=False, size=state.size)
            state.observed = observed
        request = await _prepared(self._preparer, exchange, state, CountTokensRequest)
        prompt = {name: request[name] for name in CountTokensRequest.model_fields if name in request}
        with counting(state.observed) as told:
            return told(await self._translated.count(prompt, state)), state.applied_edits

    async def _routed[T](
        self, exchange: Exchange, state: RouteState, send: Callable[[dict[str, Any], bytes | None], Awaitable[T]]
    ) -> T:
        """What comes of a request; of equal replicas another is asked where the first is down or full."""
        return await on_replicas(self._planner, exchange, state, self._by_route, send)

    async def _by_route[T](
        self, exchange: Exchange, state: RouteState, send: Callable[[dict[str, Any], bytes | None], Awaitable[T]]
    ) -> T:
        """What comes of a request by its planned route; or by the other one, where its native endpoint turns out to be
        missing, or refuses what only a translation can change.
        """
        request = await _prepared(self._preparer, exchange, state)
        try:
            return await send(request, _raw(exchange, request))
        except (NativeMissingError, TranslateInsteadError) as exc:
            await _leave_native(self._planner, exchange, state, exc)
        request = await _prepared(self._preparer, exchange, state)
        return await send(request, _raw(exchange, request))

    async def _judge(self, exchange: Exchange, state: RouteState) -> Judge | None:
        """What judges the calls of the answer, if its client asks for that; Anthropic's own endpoint does it itself."""
        if "safeguards" not in exchange.request or is_first_party(state.plan):
            return None
        return await self._safeguards.open(exchange.request, partial(self.find, state.observed, "judge"))

    async def close(self) -> None:
        """End the reading of documents, and close what is open."""
        self._preparer.close()
        await self._caches.close()


async def _leave_native(planner: Planner, exchange: Exchange, state: RouteState, refused: MessagesError) -> None:
    """Plan anew for a request that its native endpoint did not take."""
    dropped = DroppedFields(strict=state.strict)
    if isinstance(refused, NativeMissingError):
        logger.warning("Native endpoint is gone", model=state.plan.target.identifier, reason=refused.message)
    state.plan = await planner.plan_instead(state.plan, exchange.request, refused, dropped)
    state.drop(dropped.names)
    state.watch(state.observed)


async def _prepared(
    preparer: Preparer, exchange: Exchange, state: RouteState, kind: type[WireModel] = CreateMessageRequest
) -> dict[str, Any]:
    request = await preparer.prepare(exchange.request, exchange.body, state, kind, exchange.client)
    if is_first_party(state.plan):
        return without_fields(request, "fallbacks") if state.chain else request
    if isinstance(state.plan, NativePlan) and "mcp_servers" in request:
        # Of servers that are called here nothing is left by now; tokens of others are no upstream's business.
        request = _without_servers(request, state)
    return without_fields(request, *_ANSWERED_HERE)


def _without_servers(request: dict[str, Any], state: RouteState) -> dict[str, Any]:
    dropped = DroppedFields(strict=state.strict)
    if request["mcp_servers"]:
        dropped.drop("mcp_servers", "none of them is one that may be used here")
    state.drop(dropped.names)
    return without_fields(request, "mcp_servers")


def _raw(exchange: Exchange, request: dict[str, Any]) -> bytes | None:
    """A request's bytes, unless it was rewritten."""
    return exchange.body if request is exchange.request else None


def new_message_id() -> str:
    """An id of a message."""
    return f"msg_{secrets.token_hex(12)}"
