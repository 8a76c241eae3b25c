"""The store, on a clock that the test turns."""

import asyncio
from collections import Counter
from pathlib import Path

import orjson
import pytest
from llama_stack.core.storage.datatypes import SqliteKVStoreConfig, SqliteSqlStoreConfig
from llama_stack.core.storage.sqlstore import sqlstore
from sqlalchemy import func, select, update

from llama_stack_messages_provider.batches.database import (
    BackendError,
    Database,
    SqlBackend,
    batches_file,
    engine_of,
    find_backend,
)
from llama_stack_messages_provider.batches.identity import Identity
from llama_stack_messages_provider.batches.ids import new_batch_id
from llama_stack_messages_provider.batches.job_queue import JobQueue, Lease
from llama_stack_messages_provider.batches.lifecycle import BatchStatus, RequestState
from llama_stack_messages_provider.batches.rows import Batch
from llama_stack_messages_provider.batches.store import BatchStore
from llama_stack_messages_provider.batches.sweep import CHUNK, Sweep
from llama_stack_messages_provider.batches.tables import (
    VERSION,
    SchemaVersionError,
    batches,
    requests,
    results,
    schema,
    workers,
)
from tests.batches.conftest import Clock
from tests.batches.helpers import DAY, add_batch, done, failed, new_requests, retried, states

LEASE = 15.0
ALICE, BOB = Identity("alice", {"teams": ["a"]}), Identity("bob", {"teams": ["a"]})


@pytest.fixture
def store(database: Database) -> BatchStore:
    return BatchStore(database)


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


@pytest.fixture
def sweep(database: Database) -> Sweep:
    return Sweep(database, max_attempts=3, results_seconds=29 * DAY)


async def sweep_all(sweep: Sweep) -> None:
    while await sweep.run() or await sweep.vacuum():
        pass


async def claimed(queue: JobQueue, worker: str, limit: int = 100, per_batch: int = 1000) -> list[Lease]:
    return list((await queue.claim(worker, limit, per_batch)).leases)


async def visible(store: BatchStore, batch_id: str) -> Batch:
    batch = await store.get(batch_id)
    assert batch is not None
    return batch


async def rows_left(database: Database) -> int:
    async with database.read() as connection:
        counts = [
            await connection.scalar(select(func.count()).select_from(table)) for table in (batches, requests, results)
        ]
    return sum(count or 0 for count in counts)


# --- the schema ---


async def test_many_processes_may_start_at_once(backend: SqlBackend) -> None:
    databases = [Database(engine_of(backend)) for _ in range(8)]

    await asyncio.gather(*(database.create_schema() for database in databases))

    async with databases[0].read() as connection:
        assert (await connection.scalars(select(schema.c.version))).all() == [VERSION]
    for database in databases:
        await database.close()


async def test_tables_of_another_version_are_refused(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(update(schema).values(version=99))

    with pytest.raises(SchemaVersionError, match="version 99"):
        await database.create_schema()


def test_the_backend_is_one_of_the_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    file, memory = SqliteSqlStoreConfig(db_path="~/x/sql_store.db"), SqliteSqlStoreConfig(db_path=":memory:")
    backends = {"sql_default": file, "memory": memory, "kv": SqliteKVStoreConfig(db_path="kv.db")}
    monkeypatch.setattr(sqlstore, "_SQLSTORE_BACKENDS", backends)

    assert find_backend("sql_default") is file
    for name, text in [
        ("nope", r"no SQL backend 'nope' in storage\.backends"),
        ("kv", "no SQL backend 'kv'"),
        ("memory", "nothing outlives the process"),
    ]:
        with pytest.raises(BackendError, match=text):
            find_backend(name)


def test_sqlite_batches_have_a_file_of_their_own_beside_the_backends() -> None:
    assert batches_file("/data/sql_store.db") == Path("/data/sql_store.batches.db")
    assert batches_file("~/store") == Path.home() / "store.batches"


# --- creation ---


async def test_a_batch_is_seen_when_it_is_complete(store: BatchStore, queue: JobQueue) -> None:
    worker = await queue.register(LEASE, 1)
    batch_id = new_batch_id()
    await store.begin(batch_id, ALICE, lease_seconds=LEASE, expires_after=DAY)
    await store.append(batch_id, new_requests(2))
    await store.append(batch_id, new_requests(1, start=2))

    assert await store.get(batch_id) is None
    assert await store.page(ALICE, 10) == []
    assert await claimed(queue, worker) == []

    assert await store.publish(batch_id, 3)
    batch = await visible(store, batch_id)
    assert (batch.status, batch.total, batch.owner) == (BatchStatus.IN_PROGRESS, 3, ALICE)
    assert [lease.custom_id for lease in await claimed(queue, worker)] == ["r-0", "r-1", "r-2"]


async def test_a_failed_creation_leaves_nothing(store: BatchStore, sweep: Sweep, database: Database) -> None:
    batch_id = new_batch_id()
    await store.begin(batch_id, None, lease_seconds=LEASE, expires_after=DAY)
    await store.append(batch_id, new_requests(10))

    assert await store.discard(batch_id)
    await sweep_all(sweep)

    assert await rows_left(database) == 0


async def test_a_batch_whose_body_stops_arriving_leaves_nothing(
    store: BatchStore, sweep: Sweep, database: Database, clock: Clock
) -> None:
    batch_id = new_batch_id()
    await store.begin(batch_id, None, lease_seconds=LEASE, expires_after=DAY)
    await store.append(batch_id, new_requests(10))

    await sweep_all(sweep)
    assert await rows_left(database) == 11

    clock.now += LEASE + 1
    await sweep_all(sweep)
    assert await rows_left(database) == 0
    assert not await store.append(batch_id, new_requests(10, start=10))
    assert not await store.publish(batch_id, 20)
    assert await rows_left(database) == 0


async def test_a_batch_whose_body_arrives_slowly_is_kept_without_any_worker(
    store: BatchStore, sweep: Sweep, database: Database, clock: Clock
) -> None:
    batch_id = new_batch_id()
    await store.begin(batch_id, None, lease_seconds=LEASE, expires_after=DAY)
    for position in range(5):
        clock.now += LEASE * 0.6
        assert await store.renew(batch_id, LEASE)
        await sweep_all(sweep)
        assert await store.append(batch_id, new_requests(1, start=position))

    assert await store.publish(batch_id, 5)
    assert not await store.renew(batch_id, LEASE)
    async with database.read() as connection:
        assert (await connection.scalars(select(workers.c.id))).all() == []


# --- claims ---


async def test_two_workers_never_get_the_same_request(store: BatchStore, queue: JobQueue) -> None:
    workers = [await queue.register(LEASE, number) for number in range(4)]
    await add_batch(store, 200)

    leases: list[Lease] = []
    while len(leases) < 200:
        for claim in await asyncio.gather(*(queue.claim(worker, 7, 1000) for worker in workers)):
            leases += claim.leases

    assert Counter(lease.custom_id for lease in leases) == Counter(f"r-{n}" for n in range(200))


async def test_the_limit_of_a_batch_holds_for_all_workers_together(store: BatchStore, queue: JobQueue) -> None:
    first, second = [await queue.register(LEASE, number) for number in range(2)]
    await add_batch(store, 100)

    held = [*await claimed(queue, first, 6, per_batch=10), *await claimed(queue, second, 6, per_batch=10)]
    assert len(held) == 10
    assert await claimed(queue, first, 6, per_batch=10) == []

    await queue.record([done(lease) for lease in held[:3]])
    assert len(await claimed(queue, second, 6, per_batch=10)) == 3


async def test_batches_are_served_in_turn(store: BatchStore, queue: JobQueue, clock: Clock) -> None:
    worker = await queue.register(LEASE, 1)
    large = await add_batch(store, 1000)
    assert len(await claimed(queue, worker, 10)) == 10

    clock.now += 1
    small = [await add_batch(store, 3), await add_batch(store, 100)]

    got = Counter(lease.batch_id for lease in await claimed(queue, worker, 30))
    assert got == {small[0]: 3, small[1]: 14, large: 13}


async def test_more_batches_than_one_claim_serves_all_have_their_turn(
    store: BatchStore, queue: JobQueue, clock: Clock
) -> None:
    worker = await queue.register(LEASE, 1)
    ids = {await add_batch(store, 100) for _ in range(40)}

    served = set()
    for _ in range(3):
        clock.now += 1
        served |= {lease.batch_id for lease in await claimed(queue, worker, 32)}

    assert served == ids


async def test_a_request_waits_for_its_next_try(store: BatchStore, queue: JobQueue, clock: Clock) -> None:
    worker = await queue.register(1000, 1)
    await add_batch(store, 1)
    [lease] = await claimed(queue, worker)
    assert (lease.attempt, lease.faults) == (1, 0)

    await queue.record([retried(lease, delay=10)])
    clock.now += 9
    assert await claimed(queue, worker) == []

    clock.now += 2
    [lease] = await claimed(queue, worker)
    assert (lease.attempt, lease.faults) == (2, 1)


async def test_requests_that_wait_for_their_next_try_come_before_new_ones(
    store: BatchStore, queue: JobQueue, clock: Clock
) -> None:
    worker = await queue.register(1000, 1)
    await add_batch(store, 10)
    await queue.record([retried(lease, delay=5) for lease in await claimed(queue, worker, 2)])
    clock.now += 6

    assert [lease.position for lease in await claimed(queue, worker, 4)] == [0, 1, 2, 3]


async def test_a_batch_whose_upstream_is_in_trouble_begins_no_new_requests(
    store: BatchStore, queue: JobQueue, clock: Clock
) -> None:
    worker = await queue.register(1000, 1)
    await add_batch(store, 100)

    tried = 0
    while leases := await claimed(queue, worker, 5, per_batch=5):
        tried += len(leases)
        await queue.record([retried(lease, delay=60, fault=False) for lease in leases])

    assert tried == 20
    clock.now += 61
    assert [lease.attempt for lease in await claimed(queue, worker, 5, per_batch=5)] == [2] * 5


# --- results ---


async def test_a_result_is_written_once(
    store: BatchStore, queue: JobQueue, sweep: Sweep, database: Database, clock: Clock
) -> None:
    slow = await queue.register(LEASE, 1)
    batch_id = await add_batch(store, 1)
    [first] = await claimed(queue, slow)

    clock.now += LEASE + 1
    await sweep_all(sweep)
    quick = await queue.register(LEASE, 2)
    [second] = await claimed(queue, quick)
    assert await queue.record([done(second, "the survivor's")]) == 1
    assert await queue.record([done(first, "the dead one's")]) == 0
    assert await queue.record([done(second, "again")]) == 0

    [result] = await store.results(batch_id, after=-1, limit=10)
    assert result.body is not None
    assert orjson.loads(result.body)["content"][0]["text"] == "the survivor's"


async def test_an_earlier_claim_of_the_same_worker_is_not_heard(
    store: BatchStore, queue: JobQueue, database: Database
) -> None:
    worker = await queue.register(LEASE, 1)
    batch_id = await add_batch(store, 1)
    [first] = await claimed(queue, worker)
    await queue.record([retried(first, delay=0)])
    [second] = await claimed(queue, worker)

    assert await queue.record([retried(first, delay=0)]) == 0
    assert await states(database, batch_id) == {"leased": 1}
    assert await queue.record([done(second)]) == 1


async def test_a_batch_ends_with_its_last_result(store: BatchStore, queue: JobQueue, clock: Clock) -> None:
    worker = await queue.register(LEASE, 1)
    batch_id = await add_batch(store, 3)
    leases = await claimed(queue, worker)
    await queue.record([done(leases[0]), failed(leases[1])])
    assert (await visible(store, batch_id)).status is BatchStatus.IN_PROGRESS
    assert await store.unfinished(batch_id) == 1

    clock.now += 5
    await queue.record([done(leases[2])])

    batch = await visible(store, batch_id)
    assert (batch.status, batch.ended_at) == (BatchStatus.ENDED, clock.now)
    assert batch.tally == {
        RequestState.SUCCEEDED: 2,
        RequestState.ERRORED: 1,
        RequestState.CANCELED: 0,
        RequestState.EXPIRED: 0,
    }


async def test_results_are_read_in_pages(store: BatchStore, queue: JobQueue) -> None:
    worker = await queue.register(LEASE, 1)
    batch_id = await add_batch(store, 7)
    await queue.record([done(lease) for lease in await claimed(queue, worker)])

    page = await store.results(batch_id, after=-1, limit=4)
    rest = await store.results(batch_id, after=page[-1].position, limit=4)

    assert [result.custom_id for result in page + rest] == [f"r-{n}" for n in range(7)]


async def test_of_everybody_s_batches_those_that_run_come_first(store: BatchStore, queue: JobQueue) -> None:
    worker = await queue.register(LEASE, 1)
    ended = await add_batch(store, 1, owner=ALICE)
    await queue.record([done(lease) for lease in await claimed(queue, worker)])
    begun = await add_batch(store, 3, owner=BOB)
    await queue.record([failed((await claimed(queue, worker, limit=1))[0])])
    newest = await add_batch(store, 2)
    await store.begin(new_batch_id(), ALICE, lease_seconds=DAY, expires_after=DAY)  # which nobody sees yet

    assert [(batch.id, left) for batch, left in await store.newest(10)] == [(newest, 2), (begun, 2), (ended, 0)]
    assert [batch.id for batch, _ in await store.newest(2)] == [newest, begun]


# --- workers ---


async def test_the_requests_of_a_dead_worker_are_taken_over(
    store: BatchStore, queue: JobQueue, sweep: Sweep, clock: Clock
) -> None:
    dead, alive = await queue.register(LEASE, 1), await queue.register(LEASE, 2)
    await add_batch(store, 3)
    lost = await claimed(queue, dead)
    clock.now += LEASE - 1
    assert await queue.renew(alive, LEASE)
    await sweep_all(sweep)
    assert await claimed(queue, alive) == []

    clock.now += 2
    await sweep_all(sweep)

    taken = await claimed(queue, alive)
    assert [lease.position for lease in taken] == [lease.position for lease in lost]
    assert {(lease.attempt, lease.faults) for lease in taken} == {(2, 1)}


async def test_a_lease_that_ran_out_is_not_renewed(queue: JobQueue, clock: Clock) -> None:
    worker = await queue.register(LEASE, 1)
    clock.now += LEASE

    assert not await queue.renew(worker, LEASE)


async def test_a_request_that_kills_every_worker_is_given_up(
    store: BatchStore, queue: JobQueue, sweep: Sweep, clock: Clock
) -> None:
    batch_id = await add_batch(store, 1)
    for _ in range(3):
        worker = await queue.register(LEASE, 1)
        assert len(await claimed(queue, worker)) == 1
        clock.now += LEASE + 1
        await sweep_all(sweep)

    batch = await visible(store, batch_id)
    assert batch.tally[RequestState.ERRORED] == 1
    [result] = await store.results(batch_id, after=-1, limit=1)
    assert result.body is not None
    assert orjson.loads(result.body)["error"]["type"] == "api_error"


async def test_a_worker_that_stops_gives_back_at_once(store: BatchStore, queue: JobQueue, database: Database) -> None:
    leaving, staying = await queue.register(LEASE, 1), await queue.register(LEASE, 2)
    await add_batch(store, 3)
    await claimed(queue, leaving)

    await queue.release_all(leaving)

    assert {(lease.attempt, lease.faults) for lease in await claimed(queue, staying)} == {(2, 0)}
    async with database.read() as connection:
        assert (await connection.scalars(select(workers.c.id))).all() == [staying]


async def test_the_rows_of_dead_workers_are_removed(
    queue: JobQueue, sweep: Sweep, database: Database, clock: Clock
) -> None:
    await queue.register(LEASE, 1)
    clock.now += 7200
    await sweep_all(sweep)

    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(workers)) == 0


# --- cancel, expire, archive, delete ---


async def test_cancel_ends_what_waits_and_lets_what_runs_finish(
    store: BatchStore, queue: JobQueue, sweep: Sweep, clock: Clock
) -> None:
    worker = await queue.register(LEASE, 1)
    batch_id = await add_batch(store, 10)
    running = await claimed(queue, worker, 3)

    batch = await store.cancel(batch_id)
    assert batch is not None
    assert (batch.status, batch.cancel_initiated_at) == (BatchStatus.CANCELING, clock.now)
    assert await claimed(queue, worker) == []
    await sweep_all(sweep)
    assert (await visible(store, batch_id)).status is BatchStatus.CANCELING

    await queue.record([done(running[0]), failed(running[1]), retried(running[2])])
    batch = await visible(store, batch_id)
    assert batch.status is BatchStatus.ENDED
    assert [batch.tally[state] for state in ("succeeded", "errored", "canceled", "expired")] == [1, 1, 8, 0]


async def test_cancel_is_idempotent(store: BatchStore, queue: JobQueue, sweep: Sweep, clock: Clock) -> None:
    batch_id = await add_batch(store, 2)
    first = await store.cancel(batch_id)
    clock.now += 5
    assert await store.cancel(batch_id) == first

    await sweep_all(sweep)
    ended = await visible(store, batch_id)
    assert ended.status is BatchStatus.ENDED
    assert await store.cancel(batch_id) == ended


async def test_a_large_batch_is_canceled_in_chunks(store: BatchStore, sweep: Sweep) -> None:
    total = 2 * CHUNK + 1
    batch_id = await add_batch(store, total)
    await store.cancel(batch_id)

    assert await sweep.finish_unstarted()
    assert await store.unfinished(batch_id) == total - CHUNK
    await sweep_all(sweep)

    assert (await visible(store, batch_id)).tally[RequestState.CANCELED] == total


async def test_a_batch_expires(store: BatchStore, queue: JobQueue, sweep: Sweep, clock: Clock) -> None:
    worker = await queue.register(10 * DAY, 1)
    batch_id = await add_batch(store, 5, expires_after=3600)
    running = await claimed(queue, worker, 2)

    clock.now += 3601
    assert await claimed(queue, worker) == []
    await sweep_all(sweep)
    assert (await visible(store, batch_id)).status is BatchStatus.IN_PROGRESS

    await queue.record([done(running[0]), retried(running[1])])
    batch = await visible(store, batch_id)
    assert batch.status is BatchStatus.ENDED
    assert (batch.tally[RequestState.SUCCEEDED], batch.tally[RequestState.EXPIRED]) == (1, 4)


async def test_results_are_kept_for_as_long_as_promised(
    store: BatchStore, queue: JobQueue, sweep: Sweep, database: Database, clock: Clock
) -> None:
    worker = await queue.register(DAY, 1)
    batch_id = await add_batch(store, 2)
    await queue.record([done(lease) for lease in await claimed(queue, worker)])
    clock.now += 29 * DAY - 1
    await sweep_all(sweep)
    assert len(await store.results(batch_id, after=-1, limit=10)) == 2

    clock.now += 2
    await sweep_all(sweep)

    batch = await visible(store, batch_id)
    assert batch.archived_at == clock.now
    assert batch.tally[RequestState.SUCCEEDED] == 2
    assert await rows_left(database) == 1


async def test_a_batch_is_deleted_only_when_it_has_ended(store: BatchStore, sweep: Sweep, database: Database) -> None:
    batch_id = await add_batch(store, CHUNK + 1)
    assert not await store.discard(batch_id)
    await store.cancel(batch_id)
    assert not await store.discard(batch_id)
    await sweep_all(sweep)

    assert await store.discard(batch_id)
    assert await store.get(batch_id) is None
    assert not await store.discard(batch_id)
    await sweep_all(sweep)
    assert await rows_left(database) == 0


# --- lists ---


async def test_lists_hold_one_owners_batches_newest_first(store: BatchStore) -> None:
    mine = [await add_batch(store, 1, owner=ALICE) for _ in range(5)]
    await add_batch(store, 1, owner=BOB)
    await add_batch(store, 1, owner=None)
    newest_first = mine[::-1]

    async def ids(**cursor: str) -> list[str]:
        return [batch.id for batch in await store.page(ALICE, 2, **cursor)]

    assert await ids() == newest_first[:2]
    assert await ids(after_id=newest_first[1]) == newest_first[2:4]
    assert await ids(before_id=newest_first[4]) == newest_first[2:4]
    assert await ids(before_id=newest_first[0]) == []
