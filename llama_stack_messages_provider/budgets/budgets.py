"""Requests that are admitted, and what their answers cost."""

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from llama_stack_messages_provider.batches.database import SqlBackend, StorageError
from llama_stack_messages_provider.batches.lazy import LazyStore
from llama_stack_messages_provider.budgets.config import Budget, BudgetsConfig
from llama_stack_messages_provider.budgets.store import BudgetStore, Count, Limits
from llama_stack_messages_provider.errors import RateLimitError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tasks import create_detached_background_task
from llama_stack_messages_provider.telemetry.answers import AnswerReader
from llama_stack_messages_provider.telemetry.watched import WatchedEvents

__all__ = ["Budgets"]

logger = get_logger(name=__name__, category="providers")


class Budgets:
    """The budgets of a stack.

    Args:
        config: The settings.
        backend: Where they are counted.
    """

    def __init__(self, config: BudgetsConfig, backend: SqlBackend) -> None:
        self._rules = config.rules
        self._store = LazyStore(backend, BudgetStore)

    async def admit(self, principal: str, model: str) -> Mapping[str, str]:
        """Count a request; the headers that its client is told of the budget, none where no rule is about it.

        Args:
            principal: Whose it is; empty where nobody is known.
            model: The name that it is counted by.

        Raises:
            RateLimitError: There is no budget left for it.
            StorageError: Nobody can tell.
        """
        if not (limits := self._limits(principal, model)):
            return {}
        try:
            counts, admitted = await (await self._store.opened()).admit(principal, model, limits)
        except StorageError as exc:
            raise StorageError("Budgets cannot be told: their database is not available") from exc
        headers = _headers(counts)
        if not admitted:
            raise _refusal(counts, model, headers)
        return headers

    async def charge(self, principal: str, model: str, message: Mapping[str, Any]) -> None:
        """Count what a call of a model cost, from its whole message."""
        if self._limits(principal, model):
            reader = AnswerReader()
            reader.take(message)
            await self._charge(principal, model, reader)

    def charged(self, principal: str, model: str, first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The rest of the events of a call; what it cost is counted when they end, however they do."""
        if not self._limits(principal, model):
            return rest
        reader = AnswerReader()
        has_ended = False

        def end(error: str | None) -> None:
            nonlocal has_ended
            if not has_ended:
                has_ended = True
                # A client that leaves cancels what is awaited here.
                create_detached_background_task(self._charge(principal, model, reader))

        watched = WatchedEvents(rest, reader, _unheeded, end)
        watched.saw(first)
        return watched

    async def _charge(self, principal: str, model: str, reader: AnswerReader) -> None:
        """Count tokens; where that cannot be done, the log says so: their answer is out."""
        tokens = reader.input_tokens - reader.cached().get("read", 0) + reader.output_tokens
        if tokens <= 0:
            return
        try:
            await (await self._store.opened()).charge(principal, model, self._limits(principal, model), tokens)
        except StorageError:
            logger.error("Tokens are not counted", principal=principal, model=model, tokens=tokens)

    def _limits(self, principal: str, model: str) -> dict[str, Limits]:
        """The limits of the rule that holds, by period."""
        rule = next((rule for rule in self._rules if rule.is_for(principal, model)), None)
        return {} if rule is None else _limits_of(rule)

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()


def _limits_of(rule: Budget) -> dict[str, Limits]:
    given = {
        "minute": Limits(rule.requests_per_minute, rule.tokens_per_minute),
        "day": Limits(rule.requests_per_day, rule.tokens_per_day),
    }
    return {period: limits for period, limits in given.items() if limits.requests or limits.tokens}


def _unheeded(*, first: bool, content: bool) -> None:
    """Events that are no end."""


def _refusal(counts: list[Count], model: str, headers: Mapping[str, str]) -> RateLimitError:
    full = [count for count in counts if _is_full(count)]
    # Full by now, or another request was faster: what ends last has to end.
    wait = math.ceil(max((count.left for count in full), default=1.0))
    return RateLimitError(
        f"The budget of requests or tokens for {model} is used up; it is renewed in {max(1, wait)} s",
        headers={**headers, "retry-after": str(max(1, wait))},
    )


def _is_full(count: Count) -> bool:
    limits = count.limits
    requests, tokens = limits.requests, limits.tokens
    return (requests is not None and count.requests >= requests) or (tokens is not None and count.tokens >= tokens)


def _headers(counts: list[Count]) -> dict[str, str]:
    """What Anthropic tells of limits: of requests and of tokens, the limit that is nearest.

    Source: https://platform.claude.com/docs/en/api/rate-limits#response-headers
    """
    return _told("requests", counts, _requests_left) | _told("tokens", counts, _tokens_left)


def _requests_left(count: Count) -> tuple[int | None, int]:
    return count.limits.requests, count.requests


def _tokens_left(count: Count) -> tuple[int | None, int]:
    return count.limits.tokens, count.tokens


def _told(name: str, counts: list[Count], of: Callable[[Count], tuple[int | None, int]]) -> dict[str, str]:
    limited = [(limit, max(0, limit - used), c.ends) for c in counts for limit, used in [of(c)] if limit is not None]
    if not limited:
        return {}
    limit, left, ends = min(limited, key=lambda each: (each[1], -each[2]))
    prefix = f"anthropic-ratelimit-{name}"
    reset = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {f"{prefix}-limit": str(limit), f"{prefix}-remaining": str(left), f"{prefix}-reset": reset}
