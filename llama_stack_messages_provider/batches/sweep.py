"""What nobody asks for and must happen all the same, as transactions that any process may run at any time.

| step | what |
| --- | --- |
| `take_over` | the leases of dead workers go back to the queue |
| `finish_unstarted` | the waiting requests of a batch that is canceling or expired get their end |
| `archive` | results that were kept long enough become unavailable |
| `purge` | rows that nobody can see any more are removed, and so are dead workers |

Each step works in chunks, so that no transaction grows with a batch, and says whether it has more to do.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, case, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack_messages_provider.batches.database import Database
from llama_stack_messages_provider.batches.lifecycle import BatchStatus, RequestState, sources
from llama_stack_messages_provider.batches.rows import LockedBatch, change_each, end_if_done, in_state, lock_batches
from llama_stack_messages_provider.batches.tables import batches, requests, results, workers
from llama_stack_messages_provider.errors import error_body

__all__ = ["CHUNK", "Sweep"]

CHUNK = 5000
"""Rows changed by one transaction."""

DEAD_WORKERS_KEPT = 3600.0
"""Seconds for which the row of a dead worker stays, for the operator who looks."""

GAVE_UP = error_body("api_error", "The server died again and again while it ran this request")

_UNFINISHED = select(batches.c.id).where(batches.c.status.in_(sources(BatchStatus.ENDED))).limit(1)


class Sweep:
    """The care of all batches.

    Args:
        database: Where they are.
        max_attempts: After this many failures of its own a request is not given back but `errored`.
        results_seconds: How long after the creation of its batch a result is kept.
    """

    def __init__(self, database: Database, *, max_attempts: int, results_seconds: float) -> None:
        self._database = database
        self._max_attempts = max_attempts
        self._results_seconds = results_seconds

    async def needed(self) -> bool:
        """Whether there is any batch to work on: most servers have none most of the time."""
        return bool(await self._find(_UNFINISHED))

    async def run(self) -> bool:
        """What somebody waits for; True if there is more to do at once."""
        return any([await self.take_over(), await self.finish_unstarted()])

    async def vacuum(self) -> bool:
        """What nobody waits for: rows to be archived or removed; True if there is more to do at once."""
        return any([await self.archive(), await self.purge()])

    async def take_over(self) -> bool:
        """Give back what dead workers had leased: a death counts as a failure of the requests it ran."""
        now = self._database.now()
        live = exists().where(workers.c.id == requests.c.lease_owner, workers.c.expires_at > now)
        orphans = select(requests.c.batch_id).where(in_state(RequestState.LEASED), ~live).distinct()
        batch_ids = await self._find(orphans)
        for batch_id in batch_ids:
            async with self._database.write() as connection:
                for batch in await lock_batches(connection, [batch_id], now):
                    await self._take_over_batch(connection, batch, live, now)
        return bool(batch_ids)

    async def _take_over_batch(
        self, connection: AsyncConnection, batch: LockedBatch, live: ColumnElement[bool], now: ColumnElement[float]
    ) -> None:
        rows = await connection.execute(
            update(requests)
            .where(requests.c.batch_id == batch.id, in_state(RequestState.LEASED), ~live)
            .values(
                state=case(
                    (requests.c.faults + 1 >= self._max_attempts, RequestState.ERRORED),
                    else_=batch.unfinished_becomes,
                ),
                lease_owner=None,
                not_before=0.0,
                faults=requests.c.faults + 1,
            )
            .returning(requests.c.position, requests.c.state)
        )
        given_up = [row.position for row in rows if row.state == RequestState.ERRORED]
        if given_up:
            body = orjson.dumps(GAVE_UP).decode()
            await connection.execute(
                insert(results),
                [{"batch_id": batch.id, "position": position, "body": body} for position in given_up],
            )
        await end_if_done(connection, batch.id, now)

    async def finish_unstarted(self) -> bool:
        """End what will not be run; requests that are being run may finish."""
        now = self._database.now()
        over = or_(
            batches.c.status == BatchStatus.CANCELING,
            (batches.c.status == BatchStatus.IN_PROGRESS) & (batches.c.expires_at <= now),
        )
        more = False
        for batch_id in await self._find(select(batches.c.id).where(over)):
            async with self._database.write() as connection:
                for batch in await lock_batches(connection, [batch_id], now, where=over, skip_locked=True):
                    more |= await self._finish_unstarted_of(connection, batch, now)
        return more

    async def _finish_unstarted_of(
        self, connection: AsyncConnection, batch: LockedBatch, now: ColumnElement[float]
    ) -> bool:
        waiting = await connection.scalars(
            select(requests.c.position)
            .where(requests.c.batch_id == batch.id, in_state(RequestState.PENDING))
            .limit(CHUNK)
        )
        positions = [{"at": position} for position in waiting]
        await change_each(connection, batch.id, {"state": batch.unfinished_becomes}, positions)
        await end_if_done(connection, batch.id, now)
        return len(positions) == CHUNK

    async def archive(self) -> bool:
        """Results that were kept for as long as was promised become unavailable."""
        now = self._database.now()
        due = (
            (batches.c.status == BatchStatus.ENDED)
            & batches.c.archived_at.is_(None)
            & (batches.c.created_at + self._results_seconds <= now)
        )
        if not await self._find(select(batches.c.id).where(due).limit(1)):
            return False
        async with self._database.write() as connection:
            await connection.execute(update(batches).where(due).values(archived_at=now))
        return False

    async def purge(self) -> bool:
        """Remove rows: of batches deleted, archived, or left half created by a worker that died."""
        now = self._database.now()
        await self._drop_half_created(now)
        kept = exists().where(requests.c.batch_id == batches.c.id)
        useless = or_(
            batches.c.status == BatchStatus.DELETING,
            (batches.c.status == BatchStatus.ENDED) & batches.c.archived_at.is_not(None) & kept,
        )
        more = False
        for batch_id in await self._find(select(batches.c.id).where(useless)):
            async with self._database.write() as connection:
                for batch in await lock_batches(connection, [batch_id], now, where=useless, skip_locked=True):
                    more |= await _purge_batch(connection, batch)
        return more

    async def _drop_half_created(self, now: ColumnElement[float]) -> None:
        alive = exists().where(workers.c.id == batches.c.creator, workers.c.expires_at > now)
        abandoned = (batches.c.status == BatchStatus.CREATING) & ~alive
        long_dead = workers.c.expires_at < now - DEAD_WORKERS_KEPT
        if not await self._find(
            select(batches.c.id).where(abandoned).union_all(select(workers.c.id).where(long_dead)).limit(1)
        ):
            return
        async with self._database.write() as connection:
            await connection.execute(update(batches).where(abandoned).values(status=BatchStatus.DELETING))
            await connection.execute(delete(workers).where(long_dead))

    async def _find(self, query: Any) -> Sequence[str]:
        async with self._database.read() as connection:
            return (await connection.scalars(query)).all()


async def _purge_batch(connection: AsyncConnection, batch: LockedBatch) -> bool:
    """Remove a chunk of a held batch's rows, and the batch itself after the last; True if there is more."""
    first = await connection.scalar(select(func.min(requests.c.position)).where(requests.c.batch_id == batch.id))
    if first is not None:
        for table in (requests, results):
            chunk = (table.c.batch_id == batch.id) & (table.c.position < first + CHUNK)
            await connection.execute(delete(table).where(chunk))
        return True
    if batch.status is BatchStatus.DELETING:
        await connection.execute(delete(batches).where(batches.c.id == batch.id))
    return False
