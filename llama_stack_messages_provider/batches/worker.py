"""A process's share of the work: it claims requests, runs them, and records what became of them.

```
claiming    rows ──> waiting (at most `concurrency`) ──> running (at most `slots`) ──> done
recording   done ──> rows, as many as there are in one transaction
renewing    the lease, at a third of its length; without it everything that runs is dropped in time
sweeping    what dead workers left, what expired, what is to be removed; wakes claiming while there is any batch
```

Whatever a process is killed in the middle of, another one, or the next, begins with the same four loops.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.job_queue import JobQueue, Lease, Outcome
from llama_stack_messages_provider.batches.lifecycle import RequestState
from llama_stack_messages_provider.batches.runner import Runner, run_lease
from llama_stack_messages_provider.batches.sweep import Sweep
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tasks import create_detached_background_task

__all__ = ["Worker", "wait_for"]

logger = get_logger(name=__name__, category="providers")

LINGER = 0.01
"""Seconds for which results gather before they are written together."""

RECORD_AT_MOST = 256
"""Results written by one transaction."""

CONTENDED = 0.02
"""Seconds until the next claim, when another process was at the same batches."""

THOROUGH = 32
"""One in so many sweeps looks for rows to remove, unless somebody asked for it."""

TROUBLE = 0.5
"""Seconds until a loop goes on after the database failed it."""


class Worker:
    """Runs requests while it is started.

    Args:
        queue: The requests of all batches.
        sweep: The care of all batches.
        runner: Runs one request.
        config: Concurrency, leases, retries.
        interactive: How many interactive requests are in flight in this process.
    """

    def __init__(
        self,
        queue: JobQueue,
        sweep: Sweep,
        runner: Runner,
        config: BatchesConfig,
        interactive: Callable[[], int] = lambda: 0,
    ) -> None:
        self._queue = queue
        self._sweep = sweep
        self._runner = runner
        self._config = config
        self._interactive = interactive
        self._id = ""
        self._holds_until = 0.0
        self._waiting: deque[Lease] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._done: list[Outcome] = []
        self._recording_now = 0
        # Claiming skips batches that are held: without turns, it would skip those of our own recording.
        self._turn = asyncio.Lock()
        self._drained_at: float | None = None
        self._stopping = asyncio.Event()
        self._work = asyncio.Event()
        self._results = asyncio.Event()
        self._maintenance = asyncio.Event()
        self._sweeps = 0
        self._loops: list[asyncio.Task[None]] = []

    @property
    def _draining(self) -> bool:
        return self._drained_at is not None

    @property
    def id(self) -> str:
        """The worker's id in the database, as of now; it changes if a lease is lost."""
        return self._id

    async def start(self, *, work: bool = True) -> None:
        """Register, and work until `stop`.

        Args:
            work: Without it batches are accepted here and run by others.
        """
        if not work:
            return
        await self._register()
        loops = [self._claiming, self._recording, self._renewing, self._sweeping]
        self._loops = [create_detached_background_task(self._forever(loop)) for loop in loops]

    def drain(self) -> None:
        """Begin nothing more and give back what has not begun; what runs goes on, until `stop`."""
        if self._drained_at is None:
            self._drained_at = time.monotonic()
        self._give_back_waiting()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Begin nothing more; record what is done, drop what runs any longer, and give back what has no result.

        Args:
            grace_seconds: How long what runs may go on, since `drain` where that was before.
        """
        self.drain()
        left = (self._drained_at or 0.0) + grace_seconds - time.monotonic()
        if self._running and left > 0:
            await asyncio.wait(set(self._running), timeout=left)
        for event in (self._stopping, self._work, self._results, self._maintenance):
            event.set()
        dropped = await self._drop_running()
        # The loops end by themselves: a transaction cut short would cost its connection.
        await asyncio.gather(*self._loops, return_exceptions=True)
        try:
            while self._done:
                await self._record_some()
            if dropped and self._id:
                await self._queue.release_all(self._id)
        except Exception:
            logger.exception("The worker could not give back its leases; they run out", worker=self._id)

    def wake(self) -> None:
        """There may be work, or a slot for it."""
        self._work.set()

    def slot_freed(self) -> None:
        """An interactive request is over. What is at hand may start; the database is not asked for each request."""
        if self._waiting:
            self._begin_waiting()

    def wake_sweep(self) -> None:
        """A batch was canceled or deleted."""
        self._maintenance.set()

    # --- loops ---

    async def _forever(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while not self._stopping.is_set():
            try:
                await step()
            except Exception:
                logger.exception("A batch worker's loop failed and goes on", step=step.__name__)
                await asyncio.sleep(TROUBLE)

    async def _claiming(self) -> None:
        self._work.clear()
        self._begin_waiting()
        pause = None  # the sweep wakes us while there is any batch to work on
        room = self._room()
        # A few rows at a time would cost a transaction each.
        if room > self._config.concurrency // 2 and self._holds() and not self._draining:
            worker = self._id
            async with self._turn:
                claim = await self._queue.claim(worker, room, self._config.concurrency_per_batch)
            if worker == self._id:
                self._waiting.extend(claim.leases)
            if self._draining:
                self._give_back_waiting()
            if claim.leases:
                return
            pause = CONTENDED if claim.contended else pause
        await wait_for(self._work, pause)

    def _begin_waiting(self) -> None:
        slots = self._slots()
        while self._waiting and len(self._running) < slots and self._holds() and not self._draining:
            task = create_detached_background_task(self._run(self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._finished)

    async def _run(self, lease: Lease) -> None:
        outcome = await run_lease(self._runner, lease, self._config)
        self._done.append(outcome)
        self._results.set()
        if outcome.state is RequestState.PENDING:
            # It may well be us who try again, and an idle process looks for work only now and then.
            asyncio.get_running_loop().call_later(outcome.delay + 2 * LINGER, self._work.set)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin_waiting()

    def _slots(self) -> int:
        """Requests that may run at once; an interactive one takes the place of one of the batches'."""
        concurrency = self._config.concurrency
        return max(min(1, concurrency), concurrency - self._interactive())

    def _room(self) -> int:
        """Requests that may be claimed: what runs next is at hand, and no more."""
        held = len(self._waiting) + len(self._running) + len(self._done) + self._recording_now
        return self._slots() + self._config.concurrency - held

    async def _recording(self) -> None:
        await self._results.wait()
        if not self._stopping.is_set():
            await asyncio.sleep(LINGER)
        self._results.clear()
        while self._done:
            await self._record_some()

    async def _record_some(self) -> None:
        some = self._done[:RECORD_AT_MOST]
        del self._done[:RECORD_AT_MOST]
        self._recording_now = len(some)
        try:
            async with self._turn:
                taken = await self._queue.record(some)
        except Exception:
            self._done[:0] = some
            self._results.set()
            raise
        finally:
            self._recording_now = 0
        if taken < len(some):
            logger.warning("Results of lost leases were dropped", dropped=len(some) - taken, worker=self._id)
        self._work.set()

    async def _renewing(self) -> None:
        await wait_for(self._stopping, self._config.lease_seconds / 3)
        while not self._stopping.is_set() and not await self._renewed():
            if not self._holds():
                await self._lose_everything()
                return
            await asyncio.sleep(TROUBLE)

    async def _renewed(self) -> bool:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._holds_until - begun):
                renewed = await self._queue.renew(self._id, self._config.lease_seconds)
        except Exception as error:
            logger.warning("The lease of the batch worker was not renewed", worker=self._id, error=repr(error))
            return False
        self._holds_until = begun + self._config.lease_seconds if renewed else 0.0
        return renewed

    async def _sweeping(self) -> None:
        thorough = self._maintenance.is_set() or self._sweeps % THOROUGH == 0
        self._sweeps += 1
        self._maintenance.clear()
        if await self._sweep.needed():
            while await self._sweep.run() and not self._stopping.is_set():
                self._work.set()
            self._work.set()
        if thorough:
            while await self._sweep.vacuum() and not self._stopping.is_set():
                pass
        await wait_for(self._maintenance, min(self._config.poll_seconds, self._config.lease_seconds / 3))

    # --- the lease ---

    async def _register(self) -> None:
        begun = time.monotonic()
        self._id = await self._queue.register(self._config.lease_seconds, os.getpid())
        self._holds_until = begun + self._config.lease_seconds

    def _holds(self) -> bool:
        """Our clock started before the database's did: it runs out first."""
        return time.monotonic() < self._holds_until

    async def _lose_everything(self) -> None:
        """The others may take our requests now: none of them may go on here."""
        logger.warning("The lease of the batch worker is lost; its requests are dropped", worker=self._id)
        self._waiting.clear()
        await self._drop_running()
        self._done.clear()
        await self._register()
        self._work.set()

    def _give_back_waiting(self) -> None:
        """Let others begin what we have not begun."""
        self._done += [Outcome(lease, RequestState.PENDING) for lease in self._waiting]
        self._waiting.clear()
        self._results.set()

    async def _drop_running(self) -> bool:
        """Cancel what runs; False if something does not end, and so must keep its lease until it runs out."""
        self._waiting.clear()
        running = set(self._running)
        for task in running:
            task.cancel()
        if not running:
            return True
        _, stuck = await asyncio.wait(running, timeout=self._config.lease_seconds)
        if stuck:
            logger.warning("Requests of a batch do not end although they are canceled", count=len(stuck))
        return not stuck


async def wait_for(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether the event happened within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
