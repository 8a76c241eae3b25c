"""A process's lease in the database: what it has claimed is its own until the lease runs out."""

import asyncio
import os
import time

from llama_stack_messages_provider.batches.job_queue import JobQueue
from llama_stack_messages_provider.host.log import get_logger

__all__ = ["WorkerLease"]

logger = get_logger(name=__name__, category="providers")


class WorkerLease:
    """The row of one worker. It changes its id where it is registered anew.

    Args:
        queue: Where it is registered.
        seconds: How long it holds.
    """

    def __init__(self, queue: JobQueue, seconds: float) -> None:
        self._queue = queue
        self._seconds = seconds
        self._until = 0.0
        self.id = ""
        """The worker's id in the database, as of now; empty before it is registered."""

    async def register(self) -> None:
        """A new row."""
        begun = time.monotonic()
        self.id = await self._queue.register(self._seconds, os.getpid())
        self._until = begun + self._seconds

    def holds(self) -> bool:
        """Whether it holds. Our clock started before the database's did: it runs out first."""
        return time.monotonic() < self._until

    async def renew(self) -> bool:
        """Let it hold for its whole length from now; False if that failed, or it had run out."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._until - begun):
                renewed = await self._queue.renew(self.id, self._seconds)
        except Exception as error:
            logger.warning("The lease of the batch worker was not renewed", worker=self.id, error=repr(error))
            return False
        self._until = begun + self._seconds if renewed else 0.0
        return renewed
