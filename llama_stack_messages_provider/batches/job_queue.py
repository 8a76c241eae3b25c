"""What workers do with requests, as transactions: claim under a lease, record, give back.

A worker has a row of its own; its leases hold until that row runs out, and renewing it renews them all.
A row that has run out is never renewed: its worker registers anew, under another id, so that a late word of
the old one finds no lease to its name.

Each transaction holds the rows of the batches it touches. Claiming takes only batches that nobody else holds
at that moment (`FOR UPDATE SKIP LOCKED`), so replicas do not queue behind each other; on SQLite the whole
file has one writer, and the same updates are guarded by the same conditions.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack_messages_provider.batches.database import Database
from llama_stack_messages_provider.batches.identity import Identity
from llama_stack_messages_provider.batches.lifecycle import BatchStatus, RequestState
from llama_stack_messages_provider.batches.rows import (
    LockedBatch,
    change_each,
    end_if_done,
    in_state,
    lock_batches,
    renew_lease,
)
from llama_stack_messages_provider.batches.tables import batches, requests, results, workers

__all__ = ["Claim", "JobQueue", "Lease", "Outcome"]

BATCHES_PER_CLAIM = 16
"""Batches served by one transaction, the longest waiting first."""

DELAYED_PER_SLOT = 4
"""A batch in which this many times `concurrency_per_batch` requests wait for another try begins no new ones:
its upstream is in trouble, and the rest of the batch need not find that out one by one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A request that one worker may run. `attempt` is the fencing token."""

    batch_id: str
    position: int
    worker: str
    attempt: int
    faults: int
    custom_id: str
    params: str
    owner: Identity | None
    headers: dict[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """The leases that a worker got, and whether there was more that another process was at."""

    leases: Sequence[Lease]
    contended: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a lease.

    `succeeded` and `errored` carry the result's JSON. `pending` gives the request back, for another try after
    `delay` seconds; `fault` tells whether the failure was the request's own.
    """

    lease: Lease
    state: RequestState
    body: str | None = None
    delay: float = 0.0
    fault: bool = False


class JobQueue:
    """The queue of all batches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- workers ---

    async def register(self, lease_seconds: float, process: int) -> str:
        """A new worker whose leases hold for `lease_seconds` from now; its id."""
        worker = secrets.token_hex(12)
        async with self._database.write() as connection:
            await connection.execute(
                insert(workers).values(id=worker, expires_at=self._database.now() + lease_seconds, process=process)
            )
        return worker

    async def renew(self, worker: str, lease_seconds: float) -> bool:
        """Let the worker's leases hold for `lease_seconds` from now; False if they have run out."""
        now = self._database.now()
        async with self._database.write() as connection:
            return await renew_lease(connection, worker, now, lease_seconds)

    async def release_all(self, worker: str) -> None:
        """Give back at once all that the worker has not recorded, as if it had never been tried."""
        now = self._database.now()
        async with self._database.write() as connection:
            leased = select(requests.c.batch_id).where(requests.c.lease_owner == worker, in_state(RequestState.LEASED))
            ids = (await connection.scalars(leased.distinct())).all()
            for held in await lock_batches(connection, ids, now):
                await connection.execute(
                    update(requests)
                    .where(
                        requests.c.batch_id == held.id,
                        requests.c.lease_owner == worker,
                        in_state(RequestState.LEASED),
                    )
                    .values(state=held.unfinished_becomes, lease_owner=None, not_before=0.0)
                )
                await end_if_done(connection, held.id, now)
            await connection.execute(delete(workers).where(workers.c.id == worker))

    # --- requests ---

    async def claim(self, worker: str, limit: int, per_batch: int) -> Claim:
        """Lease up to `limit` requests, spread over the batches, the longest waiting batch first.

        Args:
            worker: Who is to run them; gets none once its lease has run out.
            limit: How many at most.
            per_batch: How many requests of one batch may be leased at once, to all workers together.
        """
        candidates = await self._candidates(worker)
        if not candidates:
            return Claim((), contended=False)
        leases: list[Lease] = []
        now = self._database.now()
        async with self._database.write() as connection:
            live = (batches.c.status == BatchStatus.IN_PROGRESS) & (batches.c.expires_at > now)
            held = {
                batch.id: batch
                for batch in await lock_batches(connection, candidates, now, where=live, skip_locked=True)
            }
            turns = [held[batch_id] for batch_id in candidates if batch_id in held]
            for number, batch in enumerate(turns):
                share = -(-(limit - len(leases)) // (len(turns) - number))
                leases += await self._claim_from(connection, batch, worker, share, per_batch, now)
        return Claim(leases, contended=len(turns) < len(candidates))

    async def _candidates(self, worker: str) -> Sequence[str]:
        now = self._database.now()
        lives = exists().where(workers.c.id == worker, workers.c.expires_at > now)
        due = exists().where(
            requests.c.batch_id == batches.c.id, in_state(RequestState.PENDING), requests.c.not_before <= now
        )
        async with self._database.read() as connection:
            found = await connection.scalars(
                select(batches.c.id)
                .where(batches.c.status == BatchStatus.IN_PROGRESS, batches.c.expires_at > now, due, lives)
                .order_by(batches.c.served_at, batches.c.id)
                .limit(BATCHES_PER_CLAIM)
            )
            return found.all()

    async def _claim_from(
        self,
        connection: AsyncConnection,
        batch: LockedBatch,
        worker: str,
        share: int,
        per_batch: int,
        now: ColumnElement[float],
    ) -> list[Lease]:
        leased, delayed = await _load(connection, batch.id)
        room = min(share, per_batch - leased)
        leases: list[Lease] = []
        if delayed and room > 0:
            due = (requests.c.not_before > 0) & (requests.c.not_before <= now)
            leases = await _lease(connection, batch, worker, room, due)
        if delayed < DELAYED_PER_SLOT * per_batch and room > len(leases):
            leases += await _lease(connection, batch, worker, room - len(leases), requests.c.not_before == 0)
        if leases:
            await connection.execute(update(batches).where(batches.c.id == batch.id).values(served_at=now))
        return leases

    async def record(self, outcomes: Sequence[Outcome]) -> int:
        """Write what became of leases, each once, and end the batches that have nothing left to run.

        Returns:
            How many outcomes were taken; the others come from leases that were lost.
        """
        now = self._database.now()
        by_batch = {
            batch_id: list(group)
            for batch_id, group in groupby(
                sorted(outcomes, key=attrgetter("lease.batch_id")), key=attrgetter("lease.batch_id")
            )
        }
        taken = 0
        async with self._database.write() as connection:
            for batch in await lock_batches(connection, by_batch, now):
                accepted = await _still_leased(connection, batch.id, by_batch[batch.id])
                await _write_results(connection, batch, [outcome for outcome in accepted if outcome.body is not None])
                await _give_back(connection, batch, [outcome for outcome in accepted if outcome.body is None], now)
                await end_if_done(connection, batch.id, now)
                taken += len(accepted)
        return taken


async def _load(connection: AsyncConnection, batch_id: str) -> tuple[int, int]:
    """How many requests of a batch are leased, and how many wait for another try."""
    count = select(func.count()).select_from(requests).where(requests.c.batch_id == batch_id)
    row = (
        await connection.execute(
            select(
                count.where(in_state(RequestState.LEASED)).scalar_subquery(),
                count.where(in_state(RequestState.PENDING), requests.c.not_before > 0).scalar_subquery(),
            )
        )
    ).one()
    return int(row[0]), int(row[1])


async def _lease(
    connection: AsyncConnection, batch: LockedBatch, worker: str, limit: int, which: ColumnElement[bool]
) -> list[Lease]:
    rows = await connection.execute(
        select(
            requests.c.position,
            requests.c.attempts,
            requests.c.faults,
            requests.c.custom_id,
            requests.c.params,
        )
        .where(requests.c.batch_id == batch.id, in_state(RequestState.PENDING), which)
        .order_by(requests.c.not_before, requests.c.position)
        .limit(limit)
    )
    leases = [
        Lease(
            batch.id,
            row.position,
            worker,
            row.attempts + 1,
            row.faults,
            row.custom_id,
            row.params,
            batch.owner,
            batch.headers,
        )
        for row in rows
    ]
    await change_each(
        connection,
        batch.id,
        {"state": RequestState.LEASED, "lease_owner": worker, "attempts": requests.c.attempts + 1},
        [{"at": lease.position} for lease in leases],
    )
    return leases


async def _still_leased(connection: AsyncConnection, batch_id: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes whose leases still stand; nobody can take them before this transaction ends."""
    known = {(outcome.lease.position, outcome.lease.attempt, outcome.lease.worker): outcome for outcome in outcomes}
    rows = await connection.execute(
        select(requests.c.position, requests.c.attempts, requests.c.lease_owner).where(
            requests.c.batch_id == batch_id,
            in_state(RequestState.LEASED),
            requests.c.lease_owner.in_(sorted({outcome.lease.worker for outcome in outcomes})),
        )
    )
    found = [known.get((row.position, row.attempts, row.lease_owner)) for row in rows]
    return [outcome for outcome in found if outcome is not None]


async def _write_results(connection: AsyncConnection, batch: LockedBatch, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    await connection.execute(
        insert(results),
        [{"batch_id": batch.id, "position": outcome.lease.position, "body": outcome.body} for outcome in outcomes],
    )
    await change_each(
        connection,
        batch.id,
        {"state": bindparam("ended"), "lease_owner": None},
        [{"at": outcome.lease.position, "ended": outcome.state} for outcome in outcomes],
    )


async def _give_back(
    connection: AsyncConnection, batch: LockedBatch, outcomes: Sequence[Outcome], now: ColumnElement[float]
) -> None:
    await change_each(
        connection,
        batch.id,
        {
            "state": batch.unfinished_becomes,
            "lease_owner": None,
            "not_before": now + bindparam("delay"),
            "faults": requests.c.faults + bindparam("fault"),
        },
        [{"at": outcome.lease.position, "delay": outcome.delay, "fault": int(outcome.fault)} for outcome in outcomes],
    )
