"""Whether the upstreams of a stack answer, for the host's list of providers."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.models import known_providers
from llama_stack_messages_provider.host.providers import is_openai_style
from llama_stack_messages_provider.upstream.body import Timeouts
from llama_stack_messages_provider.upstream.endpoint import Endpoint, Endpoints
from llama_stack_messages_provider.upstream.sessions import Sessions

__all__ = ["Health"]

# The host gives up after three seconds, and would tell that instead of what was found.
_SECONDS = 2.0
_KEPT_SECONDS = 5.0
_AT_ONCE = 16
_MOST_NAMED = 20
# Not those of a key: a server that refuses one is there, and requests may bring their own.
_ILL = 500


class Health:
    """Looks after the upstreams of all inference providers.

    Args:
        sessions: Where requests go out; what they met lately is not asked again.
        routing_table: The models' routing table.
        clock: Seconds, monotonic.
    """

    def __init__(self, sessions: Sessions, routing_table: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._sessions = sessions
        self._table = routing_table
        self._clock = clock
        self._endpoints = Endpoints()
        self._timeouts = Timeouts(_SECONDS, _SECONDS, _SECONDS)
        self._told: tuple[float, dict[str, str | None]] | None = None
        self._asking: asyncio.Task[dict[str, str | None]] | None = None

    async def check(self) -> dict[str, str]:
        """The host's `HealthResponse`: `status` is `OK` where every upstream answers, else `Error`; `message` says
        which ones do not, and why, without addresses and credentials.
        """
        return _told(await self.upstreams())

    async def upstreams(self) -> dict[str, str | None]:
        """What is wrong with the upstream of each provider; None where nothing is. It takes two seconds at most, and is
        kept for five.
        """
        if self._told is not None and self._clock() < self._told[0] + _KEPT_SECONDS:
            return self._told[1]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        # Whoever goes away must not end it for the others.
        return await asyncio.shield(self._asking)

    async def _ask_all(self) -> dict[str, str | None]:
        turn = asyncio.Semaphore(_AT_ONCE)
        providers = {name: impl for name, impl in known_providers(self._table).items() if is_openai_style(impl)}
        waiting = {asyncio.create_task(self._complaint(impl, turn)): name for name, impl in providers.items()}
        done, silent = await asyncio.wait(waiting, timeout=_SECONDS) if waiting else (set(), set())
        for task in silent:
            task.cancel()
        found = {waiting[task]: task.result() for task in done}
        found |= {waiting[task]: f"no answer within {_SECONDS:g} s" for task in silent}
        self._told = self._clock(), found
        return found

    async def _complaint(self, provider: Any, turn: asyncio.Semaphore) -> str | None:
        """What is wrong with an upstream; None where it answers, or only its provider can ask it."""
        try:
            endpoint = self._endpoints.of(provider)
            if endpoint is None or self._sessions.answered_within(endpoint, _KEPT_SECONDS):
                return None
            async with turn:
                return await self._asked(endpoint)
        except MessagesError as exc:
            return exc.message

    async def _asked(self, endpoint: Endpoint) -> str | None:
        answer = await self._sessions.fetch("GET", f"{endpoint.api_base}/models", endpoint, self._timeouts)
        return f"it answered with {answer.status}" if answer.status >= _ILL else None


def _told(upstreams: dict[str, str | None]) -> dict[str, str]:
    complaints = {name: complaint for name, complaint in upstreams.items() if complaint is not None}
    answering = f"{len(upstreams) - len(complaints)} of {len(upstreams)} upstreams answer"
    if not complaints:
        return {"status": "OK", "message": answering}
    named = [f"{name}: {complaint[:300]}" for name, complaint in sorted(complaints.items())[:_MOST_NAMED]]
    return {"status": "Error", "message": "; ".join([answering, *named])}
