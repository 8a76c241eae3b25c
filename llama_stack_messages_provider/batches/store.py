"""What clients do with batches, as transactions: create, read, list, cancel, delete, read results."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import ColumnElement, delete, func, insert, select, update

from llama_stack_messages_provider.batches.database import Database
from llama_stack_messages_provider.batches.identity import Identity
from llama_stack_messages_provider.batches.lifecycle import VISIBLE, BatchStatus, RequestState, sources
from llama_stack_messages_provider.batches.rows import (
    Batch,
    in_state,
    lock_batches,
    renew_lease,
    select_batches,
    to_batch,
)
from llama_stack_messages_provider.batches.tables import batches, requests, results, workers

__all__ = ["BatchStore", "NewRequest", "StoredResult"]


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request as it arrives; `params` is JSON text."""

    position: int
    custom_id: str
    params: str


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The end of a request; `body` is JSON text, and `None` where nothing was run."""

    position: int
    custom_id: str
    state: RequestState
    body: str | None


class BatchStore:
    """The batches of all owners; whose they are is for the caller to check."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self,
        batch_id: str,
        owner: Identity | None,
        *,
        lease_seconds: float,
        expires_after: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """A batch that nobody sees yet. It is removed if `lease_seconds` pass before `publish` and are not renewed."""
        now = self._database.now()
        async with self._database.write() as connection:
            await connection.execute(
                insert(workers).values(id=batch_id, expires_at=now + lease_seconds, process=os.getpid())
            )
            await connection.execute(
                insert(batches).values(
                    id=batch_id,
                    owner_principal=None if owner is None else owner.principal,
                    owner_attributes=None if owner is None else owner.attributes_json(),
                    headers=orjson.dumps(headers or {}).decode(),
                    status=BatchStatus.CREATING,
                    creator=batch_id,
                    created_at=now,
                    expires_at=now + expires_after,
                    served_at=0.0,
                    **dict.fromkeys(("total", "succeeded", "errored", "canceled", "expired"), 0),
                )
            )

    async def renew(self, batch_id: str, lease_seconds: float) -> bool:
        """The body of a batch is still being read; False if the batch was taken for abandoned."""
        async with self._database.write() as connection:
            return await renew_lease(connection, batch_id, self._database.now(), lease_seconds)

    async def append(self, batch_id: str, rows: Sequence[NewRequest]) -> bool:
        """More requests of a batch that is being created.

        Short transactions: the body may take minutes to arrive, and SQLite has one writer.

        Returns:
            False if the batch is gone, because it was taken for abandoned.
        """
        fresh = {
            "batch_id": batch_id,
            "state": RequestState.PENDING,
            "not_before": 0.0,
            "attempts": 0,
            "faults": 0,
        }
        values = [{**fresh, "position": row.position, "custom_id": row.custom_id, "params": row.params} for row in rows]
        creating = batches.c.status == BatchStatus.CREATING
        async with self._database.write() as connection:
            held = await lock_batches(connection, [batch_id], self._database.now(), where=creating)
            if held:
                await connection.execute(insert(requests), values)
            return bool(held)

    async def publish(self, batch_id: str, total: int) -> bool:
        """The batch is complete: it becomes visible and its requests may be claimed.

        Returns:
            False if it is gone, because it was taken for abandoned.
        """
        return await self._move(batch_id, BatchStatus.IN_PROGRESS, {"total": total}, ends_upload=True)

    async def discard(self, batch_id: str) -> bool:
        """The batch is not to be: its creation failed, or its owner deletes it. Its rows are removed later.

        Returns:
            False if it is neither being created nor ended.
        """
        return await self._move(batch_id, BatchStatus.DELETING, {}, ends_upload=True)

    async def cancel(self, batch_id: str) -> Batch | None:
        """What has not begun will not be run. Without effect on a batch that is canceling or has ended."""
        await self._move(batch_id, BatchStatus.CANCELING, {"cancel_initiated_at": self._database.now()})
        return await self.get(batch_id)

    async def _move(
        self,
        batch_id: str,
        target: BatchStatus,
        values: dict[str, int | ColumnElement[float]],
        *,
        ends_upload: bool = False,
    ) -> bool:
        async with self._database.write() as connection:
            moved = await connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.status.in_(sources(target)))
                .values(status=target, **values)
            )
            if ends_upload:
                await connection.execute(delete(workers).where(workers.c.id == batch_id))
            return bool(moved.rowcount)

    async def get(self, batch_id: str) -> Batch | None:
        """The batch, if clients may see it."""
        async with self._database.read() as connection:
            rows = await connection.execute(
                select_batches().where(batches.c.id == batch_id, batches.c.status.in_(VISIBLE))
            )
            row = rows.first()
            return None if row is None else to_batch(row)

    async def page(
        self,
        owner: Identity | None,
        limit: int,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
    ) -> list[Batch]:
        """Up to `limit` batches of one principal, newest first.

        Args:
            owner: Whose batches.
            limit: How many.
            after_id: Those that follow this one in the list. It need not exist any more.
            before_id: Those that come just before this one, nearest last.
        """
        mine = batches.c.owner_principal.is_(None) if owner is None else batches.c.owner_principal == owner.principal
        query = select_batches().where(mine, batches.c.status.in_(VISIBLE)).limit(limit)
        if after_id is not None:
            query = query.where(batches.c.id < after_id)
        if before_id is not None:
            query = query.where(batches.c.id > before_id)
        order = batches.c.id.desc() if before_id is None else batches.c.id
        async with self._database.read() as connection:
            found = [to_batch(row) for row in await connection.execute(query.order_by(order))]
        return found if before_id is None else found[::-1]

    async def newest(self, limit: int) -> list[tuple[Batch, int]]:
        """Up to `limit` batches of all principals, those that have not ended first, then the newest; with each the
        number of its requests that have no result yet.
        """
        running = (BatchStatus.IN_PROGRESS, BatchStatus.CANCELING)
        found: list[Batch] = []
        async with self._database.read() as connection:
            for statuses in (running, (BatchStatus.ENDED,)):
                query = select_batches().where(batches.c.status.in_(statuses)).order_by(batches.c.id.desc())
                rows = await connection.execute(query.limit(limit - len(found)))
                found += map(to_batch, rows)
            left = await connection.execute(
                select(requests.c.batch_id, func.count().label("unfinished"))
                .where(
                    requests.c.batch_id.in_([batch.id for batch in found if batch.status in running]),
                    in_state(RequestState.PENDING, RequestState.LEASED),
                )
                .group_by(requests.c.batch_id)
            )
            counts = {row.batch_id: row.unfinished for row in left}
        return [(batch, counts.get(batch.id, 0)) for batch in found]

    async def unfinished(self, batch_id: str) -> int:
        """How many requests of a batch have no result yet; counted on the partial indexes alone."""
        counts = [
            select(func.count())
            .select_from(requests)
            .where(requests.c.batch_id == batch_id, in_state(state))
            .scalar_subquery()
            for state in (RequestState.PENDING, RequestState.LEASED)
        ]
        async with self._database.read() as connection:
            return int(await connection.scalar(select(counts[0] + counts[1])) or 0)

    async def results(self, batch_id: str, *, after: int, limit: int) -> list[StoredResult]:
        """Up to `limit` results behind the position `after`, in the order of the requests."""
        join = requests.outerjoin(
            results, (results.c.batch_id == requests.c.batch_id) & (results.c.position == requests.c.position)
        )
        query = (
            select(requests.c.position, requests.c.custom_id, requests.c.state, results.c.body)
            .select_from(join)
            .where(requests.c.batch_id == batch_id, requests.c.position > after)
            .order_by(requests.c.position)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [
                StoredResult(row.position, row.custom_id, RequestState(row.state), row.body)
                for row in await connection.execute(query)
            ]
