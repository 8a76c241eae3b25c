"""Message Batches as the routes call them."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.database import Database, SqlBackend, StorageError, engine_of
from llama_stack_messages_provider.batches.identity import (
    AccessRule,
    Action,
    Identity,
    allowed,
    refuse_credentials,
)
from llama_stack_messages_provider.batches.ids import is_batch_id, is_cursor, new_batch_id
from llama_stack_messages_provider.batches.intake import Intake, read_requests
from llama_stack_messages_provider.batches.job_queue import JobQueue
from llama_stack_messages_provider.batches.lifecycle import BatchStatus
from llama_stack_messages_provider.batches.rows import Batch
from llama_stack_messages_provider.batches.runner import Runner
from llama_stack_messages_provider.batches.store import BatchStore, NewRequest
from llama_stack_messages_provider.batches.sweep import Sweep
from llama_stack_messages_provider.batches.wire import message_batch, message_batch_page, result_line
from llama_stack_messages_provider.batches.worker import Worker, wait_for
from llama_stack_messages_provider.errors import (
    ApiError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tasks import create_detached_background_task

__all__ = ["BatchService"]

logger = get_logger(name=__name__, category="providers")

INSERT_ROWS = 1000
INSERT_CHARACTERS = 4_000_000
"""A batch is written in transactions of about this much."""

PAGE_CHARACTERS = 1_000_000
PAGE_ROWS = 1000
"""Results are read in pages of about this much: memory does not grow with the batch."""

MAX_LIMIT = 1000

RESTART_SECONDS = 5.0


@dataclass
class _Running:
    """What belongs to one event loop: the connections, and the worker."""

    loop: asyncio.AbstractEventLoop
    database: Database
    store: BatchStore
    worker: Worker


class BatchService:
    """Accepts batches, answers for them, and runs them.

    Nothing in it belongs to an event loop until `start`, or, where nobody calls that (the library client),
    until its first use.

    Args:
        config: The settings.
        backend: Where batches are kept; see `database.find_backend`.
        runner: Runs one request of a batch.
        policy: The host's access policy.
    """

    def __init__(
        self, config: BatchesConfig, backend: SqlBackend, runner: Runner, policy: Sequence[AccessRule] = ()
    ) -> None:
        self._config = config
        self._backend = backend
        self._runner = runner
        self._policy = policy
        self._running: _Running | None = None
        self._starting: asyncio.Lock | None = None
        self._starter: asyncio.Task[None] | None = None
        self._interactive = 0
        self.works = False
        """Whether this process runs requests: `start` says so."""

    # --- life ---

    async def start(self) -> None:
        """Create the tables, unless they are there, and begin to work, in the event loop that serves.

        A database that is not there yet is waited for: the server starts without it.
        Where nobody calls this, in the library client, batches are accepted but run by servers on the same database:
        that client's loop stands still between its calls, and waits for every task that is left.
        """
        self.works = True
        try:
            await self._started()
        except Exception:
            logger.exception("Message Batches could not be started; they are tried again")
            self._starter = create_detached_background_task(self._start_at_last())

    async def _start_at_last(self) -> None:
        while True:
            await asyncio.sleep(RESTART_SECONDS)
            with suppress(Exception):
                await self._started()
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

    @contextmanager
    def interactive(self) -> Iterator[None]:
        """Within it an interactive request is in flight: it takes a slot from the batches of this process."""
        self._interactive += 1
        try:
            yield
        finally:
            self._interactive -= 1
            if self._running is not None:
                self._running.worker.slot_freed()

    async def _started(self) -> _Running:
        loop = asyncio.get_running_loop()
        if self._running is not None and self._running.loop is loop:
            return self._running
        if self._starting is None or self._running is not None:
            self._running, self._starting = None, asyncio.Lock()
        async with self._starting:
            if self._running is None:
                self._running = await self._build(loop)
        return self._running

    async def _build(self, loop: asyncio.AbstractEventLoop) -> _Running:
        config = self._config
        database = Database(engine_of(self._backend))
        try:
            await database.create_schema()
            sweep = Sweep(database, max_attempts=config.max_attempts, results_seconds=config.results_days * 86_400)
            worker = Worker(JobQueue(database), sweep, self._runner, config, lambda: self._interactive)
            await worker.start(work=self.works)
        except BaseException:
            await database.close()
            raise
        return _Running(loop, database, BatchStore(database), worker)

    # --- what clients ask for ---

    async def create(
        self, body: AsyncIterator[bytes], identity: Identity | None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """A batch of the requests in the body, which is read as it arrives.

        Args:
            body: The bytes of `{"requests": [{"custom_id": ..., "params": {...}}, ...]}`.
            identity: Whose batch it is, and with whose access its requests run.
            headers: Headers that go with each of its requests.

        Raises:
            InvalidRequestError: The body breaks a rule, or the request carries provider credentials.
            RequestTooLargeError: It is too large.
            PermissionDeniedError: The host's access policy.
        """
        refuse_credentials()
        batch_id = new_batch_id()
        if not allowed(self._policy, Action.CREATE, batch_id, identity, identity):
            raise PermissionDeniedError("The access policy does not let you create message batches")
        running = await self._started()
        await running.store.begin(
            batch_id,
            identity,
            lease_seconds=self._config.lease_seconds,
            expires_after=self._config.expires_after_hours * 3600,
            headers=headers,
        )
        try:
            async with _upload_lease(running.store, batch_id, self._config.lease_seconds):
                batch = await self._receive(running.store, batch_id, body)
        except BaseException:
            # Even if it is the client that left: nothing may remain. What cannot be removed now is when its lease ends.
            with suppress(StorageError):
                await asyncio.shield(running.store.discard(batch_id))
            running.worker.wake_sweep()
            raise
        running.worker.wake()
        return self._wire(batch)

    async def _receive(self, store: BatchStore, batch_id: str, body: AsyncIterator[bytes]) -> Batch:
        intake = Intake(self._config)
        rows: list[NewRequest] = []
        characters = 0
        async with aclosing(read_requests(intake, body)) as found:
            async for piece in found:
                rows += piece
                characters += sum(len(row.params) for row in piece)
                if len(rows) >= INSERT_ROWS or characters >= INSERT_CHARACTERS:
                    await _write(store, batch_id, rows)
                    rows, characters = [], 0
        await _write(store, batch_id, rows)
        batch = await store.get(batch_id) if await store.publish(batch_id, intake.total) else None
        if batch is None:
            raise ApiError("The batch was lost while it was created")
        return batch

    async def retrieve(self, batch_id: str, identity: Identity | None) -> dict[str, Any]:
        """The batch.

        Raises:
            NotFoundError: There is none of that id that is one's own.
        """
        return self._wire(await self._own(batch_id, identity))

    async def progress(self, batch_id: str, identity: Identity | None) -> tuple[int, int]:
        """How many requests of the batch are done, and of how many; its counts do not tell before its end."""
        batch = await self._own(batch_id, identity)
        if batch.status is BatchStatus.ENDED:
            return batch.total, batch.total
        running = await self._started()
        return batch.total - await running.store.unfinished(batch_id), batch.total

    async def list(
        self,
        identity: Identity | None,
        *,
        limit: int = 20,
        after_id: str | None = None,
        before_id: str | None = None,
    ) -> dict[str, Any]:
        """A page of one's own batches, newest first.

        Args:
            identity: Who asks.
            limit: 1 to 1000.
            after_id: The page that follows this batch.
            before_id: The page that comes just before this batch; with `after_id`, no further than that.

        Raises:
            InvalidRequestError: `limit` is out of range, or a cursor is no id.
        """
        for name, cursor in (("after_id", after_id), ("before_id", before_id)):
            if cursor is not None and not is_cursor(cursor):
                raise InvalidRequestError(f"{name}: Input should be the id of a message batch")
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequestError(f"limit: Input should be between 1 and {MAX_LIMIT}")
        running = await self._started()
        found: list[Batch] = []
        while len(found) <= limit:
            page = await running.store.page(identity, limit + 1, after_id=after_id, before_id=before_id)
            mine = [batch for batch in page if self._may(Action.READ, batch, identity)]
            found = found + mine if before_id is None else mine + found
            if len(page) <= limit:
                break
            after_id, before_id = (page[-1].id, None) if before_id is None else (after_id, page[0].id)
        has_more = len(found) > limit
        kept = found[:limit] if before_id is None else found[-limit:]
        return message_batch_page([self._wire(batch) for batch in kept], has_more=has_more)

    async def cancel(self, batch_id: str, identity: Identity | None) -> dict[str, Any]:
        """The batch, which runs no more requests from now on. Without effect if it has ended.

        Raises:
            NotFoundError: There is none of that id that is one's own.
            PermissionDeniedError: The host's access policy.
        """
        await self._own(batch_id, identity, Action.UPDATE)
        running = await self._started()
        batch = await running.store.cancel(batch_id)
        if batch is None:
            raise _not_found(batch_id)
        running.worker.wake_sweep()
        return self._wire(batch)

    async def delete(self, batch_id: str, identity: Identity | None) -> dict[str, Any]:
        """Remove a batch that has ended, with its results.

        Raises:
            NotFoundError: There is none of that id that is one's own.
            PermissionDeniedError: The host's access policy.
            InvalidRequestError: It has not ended.
        """
        await self._own(batch_id, identity, Action.DELETE)
        running = await self._started()
        if not await running.store.discard(batch_id):
            raise InvalidRequestError(f"Message batch {batch_id} has not ended yet: cancel it before deleting it")
        running.worker.wake_sweep()
        return {"id": batch_id, "type": "message_batch_deleted"}

    async def results(self, batch_id: str, identity: Identity | None) -> AsyncIterator[bytes]:
        """The results as JSON lines, in the order of the requests. Raises before the first line, if at all.

        Raises:
            NotFoundError: There is none of that id that is one's own, or its results have been removed.
            InvalidRequestError: It has not ended.
        """
        batch = await self._own(batch_id, identity)
        if batch.status is not BatchStatus.ENDED:
            raise InvalidRequestError(f"Message batch {batch_id} has not ended yet: it has no results")
        if batch.archived_at is not None:
            raise NotFoundError(f"The results of message batch {batch_id} are no longer available")
        return self._lines(batch)

    async def _lines(self, batch: Batch) -> AsyncIterator[bytes]:
        store = (await self._started()).store
        position, rows = -1, 32
        while position + 1 < batch.total:
            page = await store.results(batch.id, after=position, limit=rows)
            if not page:
                # Deleted by another request; a file that ends early must not look complete.
                raise ApiError(f"Message batch {batch.id} was removed while its results were read")
            lines = "".join(map(result_line, page))
            yield lines.encode()
            position = page[-1].position
            rows = max(1, min(PAGE_ROWS, PAGE_CHARACTERS * len(page) // len(lines)))

    # --- whose it is ---

    async def _own(self, batch_id: str, identity: Identity | None, action: Action = Action.READ) -> Batch:
        if not is_batch_id(batch_id):
            raise NotFoundError("Message batch not found: no batch has such an id")
        running = await self._started()
        batch = await running.store.get(batch_id)
        if batch is None or not self._may(Action.READ, batch, identity):
            raise _not_found(batch_id)
        if not self._may(action, batch, identity):
            raise PermissionDeniedError(f"The access policy does not let you {action} message batch {batch_id}")
        return batch

    def _may(self, action: Action, batch: Batch, identity: Identity | None) -> bool:
        return allowed(self._policy, action, batch.id, batch.owner, identity)

    def _wire(self, batch: Batch) -> dict[str, Any]:
        return message_batch(batch, self._config.public_url)


@asynccontextmanager
async def _upload_lease(store: BatchStore, batch_id: str, lease_seconds: float) -> AsyncIterator[None]:
    """Within it the lease of a batch that is being created holds, in processes that run no requests as well."""
    done = asyncio.Event()

    async def renew() -> None:
        while not await wait_for(done, lease_seconds / 3):
            with suppress(StorageError):
                await store.renew(batch_id, lease_seconds)

    renewing = create_detached_background_task(renew())
    try:
        yield
    finally:
        done.set()
        await asyncio.gather(renewing, return_exceptions=True)


async def _write(store: BatchStore, batch_id: str, rows: Sequence[NewRequest]) -> None:
    if rows and not await store.append(batch_id, rows):
        raise ApiError("The batch was lost while it was created")


def _not_found(batch_id: str) -> NotFoundError:
    return NotFoundError(f"Message batch {batch_id} not found")
