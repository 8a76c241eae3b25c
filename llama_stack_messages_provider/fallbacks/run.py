"""Asks the models of a chain, one after another, until one answers."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson

from llama_stack_messages_provider.budgets.budgets import Budgets
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError
from llama_stack_messages_provider.fallbacks.joined import JoinedEvents, JoinedMessage
from llama_stack_messages_provider.fallbacks.reasons import reason_of
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.http.exchange import Exchange
from llama_stack_messages_provider.metrics import count_fallback
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.routing.chain import Chain, Chains, request_for
from llama_stack_messages_provider.routing.opened_stream import OpenedStream, pieces_of
from llama_stack_messages_provider.routing.plan import Planner
from llama_stack_messages_provider.routing.state import RouteState, client_name, report_dropped
from llama_stack_messages_provider.wire.sse import SSEDecoder

__all__ = ["Fallbacks"]

logger = get_logger(name=__name__, category="providers")

_NOBODYS = Exchange("", b"", {})


class Fallbacks:
    """Asks other models where one gives no answer.

    Args:
        planner: Decides how a request goes to each.
        chains: Knows who follows whom.
        budgets: Limits what users may ask of each model; None where nobody has a budget.
    """

    def __init__(self, planner: Planner, chains: Chains, budgets: Budgets | None) -> None:
        self._planner = planner
        self._chains = chains
        self._budgets = budgets

    async def prepare(self, exchange: Exchange, state: RouteState) -> None:
        """Find the chain of a request; raises as `Chains.of` does."""
        chain = await self._chains.of(exchange.request, state.plan, strict=state.strict)
        if chain is not None:
            state.chain = chain
            state.drop(chain.dropped)

    async def complete(
        self,
        exchange: Exchange,
        state: RouteState,
        call: Callable[[Exchange], Awaitable[dict[str, Any]]],
    ) -> dict[str, Any]:
        """The whole message; as its upstream wrote it, if the first model answers.

        Args:
            exchange: The request.
            state: The way to the first model, and after it to whoever is asked.
            call: Asks the model that the state names for the message that answers a request.

        Raises:
            MessagesError: The first model's failure, if no other answers.
        """
        turns = _Turns(self._planner, exchange, state, self._budgets)
        joined, failure = JoinedMessage(turns.chain), None
        while await turns.next():
            joined.begin(turns.model)
            try:
                message = await call(turns.exchange)
            except MessagesError as exc:
                if not turns.go_on_after(exc):
                    raise
                failure = failure or exc
                continue
            if turns.is_first and message.get("stop_reason") != "refusal":
                return message
            if joined.add(message):
                break
            turns.reason = "refusal"
        if joined.refused:
            return joined.message()
        assert failure is not None
        raise failure

    async def events(
        self,
        exchange: Exchange,
        state: RouteState,
        start: LateMessageStart,
        call: Callable[[Exchange], Awaitable[OpenedStream]],
    ) -> AsyncGenerator[bytes]:
        """The events of the message, each piece ending at an event's end; otherwise as `complete`.

        Args:
            exchange: The request.
            state: As of `complete`.
            start: Whether `message_start` was sent, which is asked for once.
            call: Opens the stream that answers a request.
        """
        turns = _Turns(self._planner, exchange, state, self._budgets)
        del exchange  # the turns have it, for as long as anybody may still be asked
        joined, failure = JoinedEvents(turns.chain), None
        while await turns.next():
            joined.begin(turns.model)
            decoder = SSEDecoder()
            try:
                async with aclosing(pieces_of(await call(turns.exchange))) as pieces:
                    async for piece in pieces:
                        if sent := joined.take(decoder.decode(piece)):
                            yield sent
                        if joined.declined or joined.failure:
                            break
                        turns.watch(joined)
            except MessagesError as exc:
                if joined.said or not turns.go_on_after(exc):
                    raise
                failure = failure or exc
            else:
                if not joined.declined and not turns.go_on_after(joined.failure):
                    return
                failure = failure or joined.failure
            turns.reason = "refusal" if joined.declined else turns.reason
            start.sent = start.sent or joined.started
        if end := joined.refusal():
            yield end
            return
        assert failure is not None
        raise failure


class _Turns:
    """The models of a chain, each with its plan and its request.

    Attributes:
        exchange: The request for the model whose turn it is.
        model: Its identifier; of the first one the client's name.
        reason: What it did, once it is known.
    """

    def __init__(self, planner: Planner, exchange: Exchange, state: RouteState, budgets: Budgets | None) -> None:
        assert state.chain is not None
        self._budgets = budgets if state.is_counted else None
        self.chain: Chain = state.chain
        self.exchange = exchange
        self.model = self.chain.requested
        self.reason = "unavailable"
        self._planner = planner
        self._first = exchange
        self._state = state
        self._asked: set[str] = set()
        self._left = iter(self.chain.fallbacks)

    @property
    def is_first(self) -> bool:
        """Whether it is the turn of the model that was asked for."""
        return self.exchange is self._first

    async def next(self) -> bool:
        """Go on to the next model that can be asked; whether there is one."""
        if not self._asked:
            self._asked.add(self._state.plan.target.identifier)
            return True
        for fallback in self._left:
            request = request_for(self._first.request, fallback)
            dropped = DroppedFields(strict=self._state.strict)
            try:
                plan = await self._planner.plan(request, dropped, self._state.session)
                if plan.target.identifier in self._asked:
                    raise InvalidRequestError("it was asked before")
                if self._budgets is not None:
                    await self._budgets.admit(client_name(), plan.target.budget_name)
            except MessagesError as exc:
                logger.info("A model cannot be asked instead", model=fallback.model, reason=exc.message)
                continue
            before, after = self._state.plan.target, plan.target
            self._asked.add(after.identifier)
            logger.warning(
                "Another model is asked", model=before.identifier, fallback=after.identifier, reason=self.reason
            )
            count_fallback(before, after, self.reason)
            report_dropped(self._state)
            self._state.go_to(plan, [*self.chain.dropped, *dropped.names])
            request["model"] = self.model = after.identifier
            self.exchange = replace(self._first, request=request, body=orjson.dumps(request))
            return True
        return False

    def watch(self, joined: JoinedEvents) -> None:
        """Let go of the request once nobody else can be asked: a stream may be long, and a prompt be of megabytes."""
        if joined.is_settled:
            self.exchange = self._first = _NOBODYS

    def go_on_after(self, failure: MessagesError | None) -> bool:
        """Whether another model is asked after a failure of this one, if it has failed."""
        if failure is None or self.chain.ended:
            return False
        reason = reason_of(failure)
        self.reason = reason or "unavailable"
        return reason is not None or not self.is_first
