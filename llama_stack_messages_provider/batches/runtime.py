"""What a process needs for batches: connections to their database, and a worker that runs their requests."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.database import Database, SqlBackend, engine_of
from llama_stack_messages_provider.batches.job_queue import JobQueue
from llama_stack_messages_provider.batches.runner import Runner
from llama_stack_messages_provider.batches.store import BatchStore
from llama_stack_messages_provider.batches.sweep import Sweep
from llama_stack_messages_provider.batches.worker import Worker
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tasks import create_detached_background_task

__all__ = ["BatchRuntime", "Running"]

logger = get_logger(name=__name__, category="providers")

RESTART_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """What belongs to one event loop: the connections, and the worker."""

    loop: asyncio.AbstractEventLoop
    database: Database
    store: BatchStore
    worker: Worker


class _InFlight:
    """Counts who is within it.

    Args:
        left: Called when one leaves it.
    """

    __slots__ = ("_left", "count")

    def __init__(self, left: Callable[[], None]) -> None:
        self._left = left
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *exc: object) -> None:
        self.count -= 1
        self._left()


class BatchRuntime:
    """Starts and ends what batches need.

    Nothing in it belongs to an event loop until `start`, or, where nobody calls that (the library client),
    until its first use.

    Args:
        config: The settings.
        backend: Where batches are kept; see `database.find_backend`.
        runner: Runs one request of a batch.
    """

    def __init__(self, config: BatchesConfig, backend: SqlBackend, runner: Runner) -> None:
        self._config = config
        self._backend = backend
        self._runner = runner
        self._running: Running | None = None
        self._starting: asyncio.Lock | None = None
        self._starter: asyncio.Task[None] | None = None
        self.interactive = _InFlight(self._slot_freed)
        """Entered while an interactive request is in flight: it takes a slot from the batches of this process."""
        self.works = False
        """Whether this process runs requests: `start` says so."""

    async def start(self) -> None:
        """Create the tables, unless they are there, and begin to work, in the event loop that serves.

        A database that is not there yet is waited for: the server starts without it.
        Where nobody calls this, in the library client, batches are accepted but run by servers on the same database:
        that client's loop stands still between its calls, and waits for every task that is left.
        """
        self.works = True
        try:
            await self.running()
        except Exception:
            logger.exception("Message Batches could not be started; they are tried again")
            self._starter = create_detached_background_task(self._start_at_last())

    async def _start_at_last(self) -> None:
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            with suppress(Exception):
                await self.running()
                return

    def drain(self) -> None:
        """Begin nothing more, and give back what has not begun: the server is about to stop."""
        self.works = False
        if self._running is not None:
            self._running.worker.drain()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Begin nothing more, give back what has not begun, then what is not done in time; close the connections.

        Args:
            grace_seconds: How long the requests that run may go on, since `drain` where that was before. Other workers
                run the rest at once.
        """
        if self._starter is not None:
            self._starter.cancel()
        running, self._running = self._running, None
        if running is not None:
            await running.worker.stop(grace_seconds)
            await running.database.close()

    def _slot_freed(self) -> None:
        if self._running is not None:
            self._running.worker.slot_freed()

    async def running(self) -> Running:
        """The connections and the worker of the running event loop, made if there are none yet."""
        loop = asyncio.get_running_loop()
        if self._running is not None and self._running.loop is loop:
            return self._running
        if self._starting is None or self._running is not None:
            self._running, self._starting = None, asyncio.Lock()
        async with self._starting:
            if self._running is None:
                self._running = await self._build(loop)
        return self._running

    async def _build(self, loop: asyncio.AbstractEventLoop) -> Running:
        config = self._config
        database = Database(engine_of(self._backend))
        try:
            await database.create_schema()
            sweep = Sweep(database, max_attempts=config.max_attempts, results_seconds=config.results_days * 86_400)
            worker = Worker(JobQueue(database), sweep, self._runner, config, lambda: self.interactive.count)
            await worker.start(work=self.works)
        except BaseException:
            await database.close()
            raise
        return Running(loop, database, BatchStore(database), worker)
