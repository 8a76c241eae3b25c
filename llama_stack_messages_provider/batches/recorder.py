"""Results on their way to the database: written together, as many as there are in one transaction."""

import asyncio
from collections.abc import Callable, Iterable

from llama_stack_messages_provider.batches.job_queue import JobQueue, Outcome
from llama_stack_messages_provider.host.log import get_logger

__all__ = ["GATHER_SECONDS", "Recorder"]

logger = get_logger(name=__name__, category="providers")

GATHER_SECONDS = 0.01
"""For which results gather before they are written together."""

AT_MOST = 256
"""Results written by one transaction."""


class Recorder:
    """Holds outcomes until they are written.

    Args:
        queue: Where they are written.
        turn: Held while they are: claiming skips batches that are locked, those of our own recording too.
        on_written: Called after each transaction.
    """

    def __init__(self, queue: JobQueue, turn: asyncio.Lock, on_written: Callable[[], None]) -> None:
        self._queue = queue
        self._turn = turn
        self._on_written = on_written
        self._outcomes: list[Outcome] = []
        self._writing = 0
        self.pending = asyncio.Event()
        """Set while there may be something to write."""

    def __len__(self) -> int:
        return len(self._outcomes) + self._writing

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """To be written soon."""
        self._outcomes += outcomes
        self.pending.set()

    def clear(self) -> None:
        """They are nobody's any more: the lease is lost."""
        self._outcomes.clear()

    async def write_all(self) -> None:
        """Write what there is, and what comes meanwhile."""
        self.pending.clear()
        while self._outcomes:
            await self._write_some()

    async def _write_some(self) -> None:
        some = self._outcomes[:AT_MOST]
        del self._outcomes[:AT_MOST]
        self._writing = len(some)
        try:
            async with self._turn:
                taken = await self._queue.record(some)
        except Exception:
            self._outcomes[:0] = some
            self.pending.set()
            raise
        finally:
            self._writing = 0
        if taken < len(some):
            logger.warning("Results of lost leases were dropped", dropped=len(some) - taken)
        self._on_written()
