"""Requests that no client sent: those of batches, and those that the work for another request takes."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import orjson

from llama_stack_messages_provider.batches.identity import Identity
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.http.exchange import Exchange
from llama_stack_messages_provider.http.forwarded import forwarded_headers
from llama_stack_messages_provider.http.request_ids import new_request_id
from llama_stack_messages_provider.routing.plan import Planner, is_first_party
from llama_stack_messages_provider.routing.state import RouteState, client_name
from llama_stack_messages_provider.safeguards.judge import Classifier
from llama_stack_messages_provider.service import MessageService, new_message_id, report_dropped
from llama_stack_messages_provider.status.noted import note
from llama_stack_messages_provider.telemetry.observed import Observed, Observer
from llama_stack_messages_provider.wire.validation import check_top_level

__all__ = ["OwnRequests"]


class OwnRequests:
    """Asks models, each time with the access of the current user.

    Args:
        service: Answers requests.
        planner: Decides on the route.
        observer: Observes the requests.
        summary_model: The model that summarises conversations, where each does not do it itself.
    """

    def __init__(
        self, service: MessageService, planner: Planner, observer: Observer, summary_model: str | None
    ) -> None:
        self._service = service
        self._planner = planner
        self._observer = observer
        self._summary_model = summary_model

    async def run_for_batch(
        self, params: dict[str, Any], identity: Identity | None, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """The message of a batch's request, run with its creator's access; raises as `MessageService.complete` does."""
        check_top_level(params)
        exchange = Exchange(new_request_id(), orjson.dumps(params), params, headers, client="message batches")
        # A batch is spread over all replicas.
        return await self._answer(exchange, await self._service.plan(exchange, in_session=False))

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The message that answers a request; raises as `MessageService.complete` does."""
        exchange = Exchange(new_request_id(), orjson.dumps(request), request)
        return await self._answer(exchange, await self._service.plan(exchange, inner=True))

    async def summarise(self, request: dict[str, Any]) -> dict[str, Any]:
        """The same by the model that summarises."""
        return await self.ask({**request, "model": self._summary_model})

    async def model_for(self, observed: Observed | None, work: str, template: dict[str, Any]) -> Classifier:
        """The model that requests like this one go to; raises as `MessageService.plan` does.

        It may ask no other model, and fails where part of what it is told does not reach it.

        Args:
            observed: What tells of the message for which it is asked.
            work: What it does, such as `judge`.
            template: A request like those that it gets.
        """
        plan = await self._planner.plan(template, DroppedFields())
        # Models of Anthropic's have none; others are asked without one where they refuse it.
        fields = {} if is_first_party(plan) else {"temperature": 0}

        async def ask(request: dict[str, Any]) -> dict[str, Any]:
            asked = {**request, **fields}
            exchange = Exchange(new_request_id(), orjson.dumps(asked), asked)
            state = RouteState(plan, forwarded_headers({}), strict=False, size=len(exchange.body))
            state.asks_others, state.noted = False, note("chat", exchange.request_id, asked, inner=True)
            with nullcontext() if observed is None else observed.work(work):
                state.watch(self._observer.begin("chat", asked, exchange.headers, client_name, inner=True))
                message = await self._service.complete(exchange, state, new_message_id())
            if lost := [path for path in state.dropped if path.startswith("messages")]:
                raise InvalidRequestError(f"{lost[0]}: it does not reach {plan.target.identifier}")
            return message

        return Classifier(plan.target.identifier, ask, plan.window)

    async def _answer(self, exchange: Exchange, state: RouteState) -> dict[str, Any]:
        message = await self._service.complete(exchange, state, new_message_id())
        report_dropped(state)
        return message
