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
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.job_queue import JobQueue, Lease, Outcome
from llama_stack_messages_provider.batches.lifecycle import RequestState
from llama_stack_messages_provider.batches.recorder import GATHER_SECONDS, Recorder
from llama_stack_messages_provider.batches.runner import Runner, run_lease
from llama_stack_messages_provider.batches.sweep import Sweep
from llama_stack_messages_provider.batches.worker_lease import WorkerLease
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tasks import create_detached_background_task

__all__ = ["Worker", "wait_for"]

logger = get_logger(name=__name__, category="providers")

CONTENDED_SECONDS = 0.02
"""Until the next claim, when another process was at the same batches."""

SWEEPS_PER_VACUUM = 32
"""One in so many sweeps looks for rows to remove, unless somebody asked for it."""

FAILED_SECONDS = 0.5
"""Until a loop goes on after the database failed it."""


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
        # Claiming skips batches that are locked: without turns, it would skip those of our own recording.
        self._turn = asyncio.Lock()
        self._lease = WorkerLease(queue, config.lease_seconds)
        self._waiting: deque[Lease] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._drained_at: float | None = None
        self._stopping = asyncio.Event()
        self._work = asyncio.Event()
        self._maintenance = asyncio.Event()
        self._recorder = Recorder(queue, self._turn, self._work.set)
        self._sweeps = 0
        self._loops: list[asyncio.Task[None]] = []

    @property
    def _draining(self) -> bool:
        return self._drained_at is not None

    async def start(self, *, work: bool = True) -> None:
        """Register, and work until `stop`.

        Args:
            work: Without it batches are accepted here and run by others.
        """
        if not work:
            return
        await self._lease.register()
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
        for event in (self._stopping, self._work, self._recorder.pending, self._maintenance):
            event.set()
        dropped = await self._drop_running()
        # The loops end by themselves: a transaction cut short would cost its connection.
        await asyncio.gather(*self._loops, return_exceptions=True)
        try:
            await self._recorder.write_all()
            if dropped and self._lease.id:
                await self._queue.release_all(self._lease.id)
        except Exception:
            logger.exception("The worker could not give back its leases; they run out", worker=self._lease.id)

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
                await asyncio.sleep(FAILED_SECONDS)

    async def _claiming(self) -> None:
        self._work.clear()
        self._begin_waiting()
        pause = None  # the sweep wakes us while there is any batch to work on
        room = self._room()
        # A few rows at a time would cost a transaction each.
        if room > self._config.concurrency // 2 and self._lease.holds() and not self._draining:
            worker = self._lease.id
            async with self._turn:
                claim = await self._queue.claim(worker, room, self._config.concurrency_per_batch)
            if worker == self._lease.id:
                self._waiting.extend(claim.leases)
            if self._draining:
                self._give_back_waiting()
            if claim.leases:
                return
            pause = CONTENDED_SECONDS if claim.contended else pause
        await wait_for(self._work, pause)

    def _begin_waiting(self) -> None:
        slots = self._slots()
        while self._waiting and len(self._running) < slots and self._lease.holds() and not self._draining:
            task = create_detached_background_task(self._run(self._waiting.popleft()))
            self._running.add(task)
            task.add_done_callback(self._finished)

    async def _run(self, lease: Lease) -> None:
        outcome = await run_lease(self._runner, lease, self._config)
        self._recorder.add([outcome])
        if outcome.state is RequestState.PENDING:
            # It may well be us who try again, and an idle process looks for work only now and then.
            asyncio.get_running_loop().call_later(outcome.delay + 2 * GATHER_SECONDS, self._work.set)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin_waiting()

    def _slots(self) -> int:
        """Requests that may run at once; an interactive one takes the place of one of the batches'."""
        concurrency = self._config.concurrency
        return max(min(1, concurrency), concurrency - self._interactive())

    def _room(self) -> int:
        """Requests that may be claimed: what runs next is at hand, and no more."""
        held = len(self._waiting) + len(self._running) + len(self._recorder)
        return self._slots() + self._config.concurrency - held

    async def _recording(self) -> None:
        await self._recorder.pending.wait()
        if not self._stopping.is_set():
            await asyncio.sleep(GATHER_SECONDS)
        await self._recorder.write_all()

    async def _renewing(self) -> None:
        await wait_for(self._stopping, self._config.lease_seconds / 3)
        while not self._stopping.is_set() and not await self._lease.renew():
            if not self._lease.holds():
                await self._lose_everything()
                return
            await asyncio.sleep(FAILED_SECONDS)

    async def _sweeping(self) -> None:
        vacuum = self._maintenance.is_set() or self._sweeps % SWEEPS_PER_VACUUM == 0
        self._sweeps += 1
        self._maintenance.clear()
        if await self._sweep.needed():
            while await self._sweep.run() and not self._stopping.is_set():
                self._work.set()
            self._work.set()
        if vacuum:
            while await self._sweep.vacuum() and not self._stopping.is_set():
                pass
        await wait_for(self._maintenance, min(self._config.poll_seconds, self._config.lease_seconds / 3))

    # --- what is given up ---

    async def _lose_everything(self) -> None:
        """The others may take our requests now: none of them may go on here."""
        logger.warning("The lease of the batch worker is lost; its requests are dropped", worker=self._lease.id)
        self._waiting.clear()
        await self._drop_running()
        self._recorder.clear()
        await self._lease.register()
        self._work.set()

    def _give_back_waiting(self) -> None:
        """Let others begin what we have not begun."""
        self._recorder.add(Outcome(lease, RequestState.PENDING) for lease in self._waiting)
        self._waiting.clear()

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
