"""Asks another of equal replicas where the one that has the conversation is down or full."""

from collections.abc import Awaitable, Callable
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.metrics import count_spill_over
from llama_stack_messages_provider.routing.plan import Planner
from llama_stack_messages_provider.routing.state import RouteState, report_dropped
from llama_stack_messages_provider.upstream.failures import (
    ConnectionFailedError,
    ConnectTimeoutError,
    NamedFailures,
)

__all__ = ["MAX_FAILED", "on_replicas"]

logger = get_logger(name=__name__, category="providers")

MAX_FAILED: int = 3
"""Replicas that may fail at one request, which is then not brought to the others."""

_FULL = frozenset({503, 529})


async def on_replicas[T](
    planner: Planner, exchange: Any, state: RouteState, attempt: Callable[..., Awaitable[T]], *more: Any
) -> T:
    """What an attempt gives; of equal replicas by the first that is neither down nor full.

    Args:
        planner: Knows them.
        exchange: The client's request.
        state: The way to the first, and after it to whoever is asked.
        attempt: Asks the one that the state names, with the exchange, the state and `more`. Once a call of the model
            was answered, as where it runs tools, it is not made again.
        more: What the attempt gets.

    Raises:
        MessagesError: The failure of the last one that was asked.
    """
    if state.plan.target.replica_of is None:
        return await attempt(exchange, state, *more)
    failed = 0
    while True:
        try:
            with NamedFailures(state.plan.target.provider_id):
                result = await attempt(exchange, state, *more)
        except MessagesError as exc:
            dropped = DroppedFields(strict=state.strict)
            failed += _may_be_its_fault(exc)
            gives_up = state.answered or failed >= MAX_FAILED
            plan = None if gives_up else await planner.plan_replica(state.plan, exchange.request, exc, dropped)
            if plan is None:
                raise
            before, after = state.plan.target, plan.target
            logger.warning(
                "Another replica is asked", model=before.identifier, replica=after.identifier, reason=exc.message
            )
            count_spill_over(before, after)
            report_dropped(state)
            state.go_to(plan, [*(state.chain.dropped if state.chain else ()), *dropped.names])
        else:
            planner.answered(state.plan)
            return result


def _may_be_its_fault(exc: MessagesError) -> bool:
    """Whether a request may have broken the engine itself: it was read, and the engine is not just full."""
    is_unread = isinstance(exc, (ConnectionFailedError, ConnectTimeoutError))
    return exc.status >= 500 and exc.status not in _FULL and not is_unread
