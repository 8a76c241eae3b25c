"""Server tools at work: started as their calls come, answered in the order of the calls."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from llama_stack_messages_provider.server_tools.tool import Block, ServerTool
from llama_stack_messages_provider.telemetry.observed import Observed

__all__ = ["PendingCall", "ToolRuns"]

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call of a server tool.

    Args:
        tool: The tool.
        block: The call.
        refusal: Its result, if it is not to be made.
    """

    tool: ServerTool
    block: Block
    refusal: dict[str, Any] | None = None


@runtime_checkable
class _Closable(Protocol):
    """A tool that holds something open for its message, such as a session."""

    async def close(self) -> None:
        """Let go of it."""
        ...


class ToolRuns:
    """The tools of one message, a bounded number of them at once; none outlives `aclose`.

    Args:
        tools: The tools; those that hold something open have a method `close`.
        observed: What tells of the message; None where nobody listens.
    """

    def __init__(self, tools: Iterable[ServerTool], observed: Observed | None = None) -> None:
        self._tools = tools
        self._observed = observed
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._tasks: deque[asyncio.Task[dict[str, Any]]] = deque()

    def start(self, calls: Iterable[PendingCall], request: Mapping[str, Any]) -> None:
        """Begin with calls in the answer to a request."""
        self._tasks.extend(asyncio.create_task(self._run(call, request)) for call in calls)

    async def results(self) -> AsyncIterator[dict[str, Any]]:
        """The result blocks of all calls so far, each as soon as it and those before it are there."""
        while self._tasks:
            result = await self._tasks[0]
            self._tasks.popleft()
            yield result

    async def aclose(self) -> None:
        """End what still runs, and what is open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for tool in self._tools:
            if isinstance(tool, _Closable):
                await tool.close()

    async def _run(self, call: PendingCall, request: Mapping[str, Any]) -> dict[str, Any]:
        if call.refusal is not None:
            return call.refusal
        async with self._turn:
            if self._observed is None:
                return await call.tool.run(call.block, request)
            with self._observed.tool(call.block) as told:
                result = await call.tool.run(call.block, request)
                told.answered(result)
                return result
