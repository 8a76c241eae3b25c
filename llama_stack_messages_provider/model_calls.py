"""Calls of a model by the planned route: one for a message, or as many as the tools take that are run here."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any

from llama_stack_messages_provider.budgets.budgets import Budgets
from llama_stack_messages_provider.metrics import InferenceMetrics
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.rewriting.compaction import has_turns
from llama_stack_messages_provider.rewriting.context_edits import FIELD, compaction_of
from llama_stack_messages_provider.routing.applied_edits import edited_events, edited_message
from llama_stack_messages_provider.routing.compactor import Call, Compacted, compact_conversation, is_due
from llama_stack_messages_provider.routing.native_route import NativeRoute
from llama_stack_messages_provider.routing.offload import Offload
from llama_stack_messages_provider.routing.opened_stream import OpenedStream, opened, pieces_of
from llama_stack_messages_provider.routing.plan import NativePlan, is_first_party
from llama_stack_messages_provider.routing.state import RouteState, client_name
from llama_stack_messages_provider.routing.translated_route import TranslatedRoute
from llama_stack_messages_provider.routing.warming import one_token, warmed_events, warmed_message, warms_up
from llama_stack_messages_provider.server_tools.loop import Loop, complete_message, stream_message
from llama_stack_messages_provider.server_tools.mcp.connector import openings, tells_listings
from llama_stack_messages_provider.shields.guard import Guard, refused_events, refused_message
from llama_stack_messages_provider.shields.runs import Shields

__all__ = ["ModelCalls"]


class ModelCalls:
    """Calls models.

    Args:
        native: The native route.
        translated: The translated route.
        max_calls: Calls of the model in one message with server tools, after which it is paused.
        offload: Works on large requests.
        budgets: Pay for the tokens; None where nobody has a budget.
        shields: Judge what models are told and say; None where nothing does.

    Attributes:
        summarise: Asks another model for a summary; None where the request's own is asked.
    """

    def __init__(
        self,
        native: NativeRoute,
        translated: TranslatedRoute,
        max_calls: int,
        offload: Offload,
        budgets: Budgets | None = None,
        shields: Shields | None = None,
    ) -> None:
        self._shields = shields
        self._offload = offload
        self.summarise: Call | None = None
        self._budgets = budgets
        self._native = native
        self._translated = translated
        self._max_calls = max_calls

    async def complete(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, message_id: str
    ) -> dict[str, Any]:
        """The message, in a loop where tools are run here.

        Args:
            request: The request for the route, prepared.
            raw: Its bytes; None if it was rewritten.
            state: The way that it goes.
            message_id: Id of the message.

        Raises:
            MessagesError: The upstream's refusal or failure.
        """
        if warms_up(request, state.plan):
            one = await self._call(one_token(request), None, state, message_id)
            return edited_message(warmed_message(one), state.applied_edits)
        compacted = await self._compacted(request, state, message_id)
        if compacted is None:
            message = await self._complete(request, raw, state, message_id)
        elif compacted.pauses:
            message = compacted.alone(message_id, request["model"])
        else:
            message = compacted.joined(await self._complete(compacted.request, None, state, message_id))
        return edited_message(message, state.applied_edits)

    async def _complete(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, message_id: str
    ) -> dict[str, Any]:
        if not state.plan.server_tools:
            return await self._call(request, raw, state, message_id)

        async def call(request: dict[str, Any], message_id: str) -> dict[str, Any]:
            return await self._call(request, None, state, message_id)

        return await complete_message(self._loop(request, state, message_id), call, state.observed)

    async def _compacted(self, request: dict[str, Any], state: RouteState, message_id: str) -> Compacted | None:
        """The summary of a conversation, where its client wants one and it is due."""
        plan = state.plan
        if FIELD not in request and "compaction" not in request:
            return None
        if is_first_party(plan):
            return None
        if (compact := compaction_of(request)) is None or not has_turns(request):
            return None
        density = self._native.density(state)
        if not await self._offload.run(state.size, is_due, compact, request, plan.window, density):
            return None

        async def call(request: dict[str, Any]) -> dict[str, Any]:
            return await self._call(request, None, state, message_id)

        with nullcontext() if state.observed is None else state.observed.compaction():
            return await compact_conversation(
                compact, request, state, self.summarise or call, self._native.sign_summary(plan)
            )

    @property
    def judges(self) -> bool:
        """Whether shields judge what any model is told or says."""
        return self._shields is not None

    def _guard(self, state: RouteState) -> Guard | None:
        """What judges a call of the model, if anything does."""
        if self._shields is None or state.unjudged is None:
            return None
        rule = self._shields.config.rule_for(state.plan.target.identifier)
        if rule is None:
            return None
        offload = partial(self._offload.run, state.size)
        return Guard(self._shields, rule, state.unjudged, state.observed, state.end_chain, offload)

    async def _call(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, message_id: str
    ) -> dict[str, Any]:
        """The message of one call of the model."""
        if (guard := self._guard(state)) is None:
            return await self._paid(request, raw, state, message_id)
        if flagged := await guard.request(request):
            return refused_message(flagged, message_id, request["model"])
        # Not its bytes: where a field is there twice, an upstream may read the one that was not judged.
        return await guard.message(await self._paid(request, None, state, message_id))

    async def _paid(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, message_id: str
    ) -> dict[str, Any]:
        if state.observed is None:
            message = await self._answered(request, raw, state, message_id)
        else:
            with state.observed.call(stream=False) as told:
                message = await self._answered(request, raw, state, message_id)
                told.answered(message)
        state.answered = True
        if self._budgets is not None:
            await self._budgets.charge(client_name(), state.plan.target.budget_name, message)
        return message

    async def _answered(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, message_id: str
    ) -> dict[str, Any]:
        metrics = InferenceMetrics(state.plan.target, stream=False)
        if isinstance(state.plan, NativePlan):
            with metrics:
                return await self._native.complete(raw, request, state)
        with metrics:
            message = await self._translated.complete(request, state, message_id)
        metrics.output_tokens(message["usage"]["output_tokens"])
        return message

    def _loop(self, request: dict[str, Any], state: RouteState, message_id: str) -> Loop:
        tools = [tool for tool in state.plan.server_tools.values() if tool is not None]
        opening = openings(tools) if tells_listings(state.headers, request) else []
        return Loop(request, tools, message_id, max_calls=self._max_calls, opening=opening)

    async def open(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, start: LateMessageStart
    ) -> OpenedStream:
        """The events, in a loop where tools are run here; otherwise as `complete`."""
        if warms_up(request, state.plan):
            one = await self._call_opened(one_token(request), None, state, start)
            stream = await opened(warmed_events(pieces_of(one)))
        elif (compacted := await self._compacted(request, state, start.message_id)) is None:
            stream = await self._opened(request, raw, state, start)
        elif compacted.pauses:
            stream = await opened(compacted.events_alone(start.message_id, request["model"], lambda: start.sent))
        else:
            going_on = await self._opened(compacted.request, None, state, start)
            stream = await opened(compacted.events(pieces_of(going_on)))
        if state.applied_edits is None:
            return stream
        return await opened(edited_events(pieces_of(stream), state))

    async def _opened(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, start: LateMessageStart
    ) -> OpenedStream:
        if not state.plan.server_tools:
            return await self._call_opened(request, raw, state, start)

        async def call(request: dict[str, Any], message_id: str) -> AsyncGenerator[bytes]:
            another = LateMessageStart(message_id, request["model"], start.request_id)
            first = start if message_id == start.message_id else another
            async with aclosing(pieces_of(await self._call_opened(request, None, state, first))) as pieces:
                async for piece in pieces:
                    yield piece

        return await opened(stream_message(self._loop(request, state, start.message_id), call, state.observed))

    async def _call_opened(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, start: LateMessageStart
    ) -> OpenedStream:
        """The events of one call of the model."""
        if (guard := self._guard(state)) is None:
            return await self._paid_stream(request, raw, state, start)
        if flagged := await guard.request(request):
            return await opened(refused_events(flagged, start.message_id, request["model"], started=start.sent))
        stream = await self._paid_stream(request, None, state, start)  # as in `_call`
        return await opened(guard.events(pieces_of(stream))) if guard.reads_answers else stream

    async def _paid_stream(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, start: LateMessageStart
    ) -> OpenedStream:
        stream = await self._told(request, raw, state, start)
        state.answered = True
        if self._budgets is None:
            return stream
        rest = self._budgets.charged(client_name(), state.plan.target.budget_name, stream.first, stream.rest)
        return OpenedStream(stream.first, rest)

    async def _told(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, start: LateMessageStart
    ) -> OpenedStream:
        if state.observed is None:
            return await self._begun(request, raw, state, start)
        told = state.observed.call(stream=True)
        try:
            with told.current():
                stream = await self._begun(request, raw, state, start)
        except BaseException as exc:
            told.failed(exc)
            raise
        return OpenedStream(stream.first, told.events(stream.first, stream.rest))

    async def _begun(
        self, request: dict[str, Any], raw: bytes | None, state: RouteState, start: LateMessageStart
    ) -> OpenedStream:
        if isinstance(state.plan, NativePlan):
            return await self._native.open(raw, request, state, start)
        return await self._translated.open(request, state, start)
