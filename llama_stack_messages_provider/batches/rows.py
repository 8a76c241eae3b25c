"""A batch as its row says, and the statements that every part of the store builds on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    String,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack_messages_provider.batches.identity import Identity
from llama_stack_messages_provider.batches.lifecycle import (
    TERMINAL,
    BatchStatus,
    RequestState,
    sources,
    unfinished_becomes,
)
from llama_stack_messages_provider.batches.tables import batches, requests, workers

__all__ = [
    "Batch",
    "LockedBatch",
    "change_each",
    "end_if_done",
    "in_state",
    "lock_batches",
    "renew_lease",
    "select_batches",
]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. Times are seconds since 1970; `tally` is empty until the batch has ended."""

    id: str
    owner: Identity | None
    status: BatchStatus
    created_at: float
    expires_at: float
    cancel_initiated_at: float | None
    ended_at: float | None
    archived_at: float | None
    total: int
    tally: dict[RequestState, int]


@dataclass(frozen=True, slots=True)
class LockedBatch:
    """A batch whose row is locked by this transaction: nobody else changes it or its requests."""

    id: str
    owner: Identity | None
    headers: dict[str, str]
    status: BatchStatus
    expired: bool

    @property
    def unfinished_becomes(self) -> RequestState:
        """What becomes of a request of this batch that is given back, or never ran."""
        return unfinished_becomes(self.status, expired=self.expired)


def in_state(*states: RequestState) -> ColumnElement[bool]:
    """The request is in one of these states.

    The states are part of the statement's text: a planner that sees a parameter cannot use a partial index.
    """
    return or_(*(requests.c.state == literal(str(state), String, literal_execute=True) for state in states))


def select_batches() -> Select[Any]:
    """Whole batches; `to_batch` reads the rows."""
    return select(batches)


def to_batch(row: Row[Any]) -> Batch:
    """The row of `select_batches` as a batch."""
    return Batch(
        id=row.id,
        owner=Identity.stored(row.owner_principal, row.owner_attributes),
        status=BatchStatus(row.status),
        created_at=row.created_at,
        expires_at=row.expires_at,
        cancel_initiated_at=row.cancel_initiated_at,
        ended_at=row.ended_at,
        archived_at=row.archived_at,
        total=row.total,
        tally={state: getattr(row, state) for state in TERMINAL} if row.ended_at else {},
    )


async def lock_batches(
    connection: AsyncConnection,
    batch_ids: Iterable[str],
    now: ColumnElement[float],
    *,
    where: ColumnElement[bool] | None = None,
    skip_locked: bool = False,
) -> list[LockedBatch]:
    """Lock batches until the transaction ends, always in the order of their ids, so that two cannot deadlock.

    Args:
        connection: A transaction that writes.
        batch_ids: The batches to lock; those that are gone are left out.
        now: The time, to tell what has expired.
        where: A condition that they must meet at the moment of the lock.
        skip_locked: Leave out what another transaction holds, rather than wait for it.
    """
    rows = await connection.execute(
        select(
            batches.c.id,
            batches.c.owner_principal,
            batches.c.owner_attributes,
            batches.c.headers,
            batches.c.status,
            (batches.c.expires_at <= now).label("expired"),
        )
        .where(batches.c.id.in_(sorted(batch_ids)), true() if where is None else where)
        .order_by(batches.c.id)
        .with_for_update(skip_locked=skip_locked)
    )
    return [
        LockedBatch(
            row.id,
            Identity.stored(row.owner_principal, row.owner_attributes),
            orjson.loads(row.headers),
            BatchStatus(row.status),
            bool(row.expired),
        )
        for row in rows
    ]


async def change_each(
    connection: AsyncConnection,
    batch_id: str,
    values: Mapping[str, Any],
    parameters: Sequence[Mapping[str, Any]],
) -> None:
    """Change requests of a batch that this transaction holds, one by one; `at` is the position of each.

    One by one, because a planner that knows nothing yet of a batch that was inserted a second ago uses a primary
    key whatever it believes; a list of positions it may answer with a scan of the batch for each of them.
    """
    if parameters:
        await connection.execute(
            update(requests)
            .where(requests.c.batch_id == batch_id, requests.c.position == bindparam("at"))
            .values(values),
            parameters,
        )


async def end_if_done(connection: AsyncConnection, batch_id: str, now: ColumnElement[float]) -> bool:
    """End a batch that this transaction holds, if none of its requests is left to run; count its results."""
    left = select(or_(*(exists().where(requests.c.batch_id == batch_id, in_state(state)) for state in _UNFINISHED)))
    if await connection.scalar(left):
        return False
    counted = await connection.execute(
        select(requests.c.state, func.count().label("count"))
        .where(requests.c.batch_id == batch_id)
        .group_by(requests.c.state)
    )
    tally = dict.fromkeys(map(str, TERMINAL), 0) | {row.state: row.count for row in counted}
    ended = await connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, batches.c.status.in_(sources(BatchStatus.ENDED)))
        .values(status=BatchStatus.ENDED, ended_at=now, **tally)
    )
    return bool(ended.rowcount)


async def renew_lease(connection: AsyncConnection, worker: str, now: ColumnElement[float], seconds: float) -> bool:
    """Let a worker's lease hold for so long from now; False if it has run out."""
    renewed = await connection.execute(
        update(workers).where(workers.c.id == worker, workers.c.expires_at > now).values(expires_at=now + seconds)
    )
    return bool(renewed.rowcount)


_UNFINISHED = (RequestState.PENDING, RequestState.LEASED)
