"""Server tools at work: started as their calls come, answered in the order of the calls."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.server_tools.tool import Block, ServerTool

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


class ToolRuns:
    """The tools of one message, a bounded number of them at once; none outlives `aclose`."""

    def __init__(self) -> None:
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
        """End what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, call: PendingCall, request: Mapping[str, Any]) -> dict[str, Any]:
        if call.refusal is not None:
            return call.refusal
        async with self._turn:
            return await call.tool.run(call.block, request)
