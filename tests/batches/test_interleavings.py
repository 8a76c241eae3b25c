"""Random interleavings of everything that can happen to batches, checked against the state tables.

Whatever the order of creates, claims, finishes, crashes, cancels, expiries and deletes:
every change of a row is a path of moves in the tables; a request is leased to one live worker; a result never
changes and belongs to a request that has one; the counts of an ended batch add up to its total.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from llama_stack.core.storage.datatypes import SqliteSqlStoreConfig
from sqlalchemy import select

from llama_stack_messages_provider.batches.database import Database, SqlBackend, engine_of
from llama_stack_messages_provider.batches.ids import new_batch_id
from llama_stack_messages_provider.batches.job_queue import JobQueue, Lease, Outcome
from llama_stack_messages_provider.batches.lifecycle import (
    BATCH_MOVES,
    REQUEST_MOVES,
    TERMINAL,
    BatchStatus,
    RequestState,
)
from llama_stack_messages_provider.batches.store import BatchStore
from llama_stack_messages_provider.batches.sweep import Sweep
from llama_stack_messages_provider.batches.tables import batches, metadata, requests, results, workers
from tests.batches.conftest import Clock, postgres_backend
from tests.batches.helpers import done, failed, new_requests, retried

LEASE = 10.0
EXPIRES = 100.0
KEPT = 300.0
PER_BATCH = 3

WAYS: list[Callable[[Lease], Outcome]] = [
    done,
    done,
    failed,
    lambda lease: retried(lease, delay=5.0),
    lambda lease: retried(lease, delay=0.0, fault=False),
]

type Key = tuple[str, int]


def reachable[S](moves: Mapping[S, frozenset[S]]) -> dict[S, set[S]]:
    """All states that a chain of moves leads to."""
    closure = {state: {state, *targets} for state, targets in moves.items()}
    for _ in moves:
        closure = {state: set().union(*(closure[target] for target in seen)) for state, seen in closure.items()}
    return closure


BATCH_PATHS = reachable(BATCH_MOVES)
REQUEST_PATHS = reachable(REQUEST_MOVES)


class Snapshot:
    """All rows, as one read sees them."""

    def __init__(self) -> None:
        self.batches: dict[str, Any] = {}
        self.requests: dict[Key, Any] = {}
        self.results: dict[Key, str] = {}

    async def read(self, database: Database) -> None:
        async with database.read() as connection:
            self.batches = {row.id: row for row in await connection.execute(select(batches))}
            self.requests = {(row.batch_id, row.position): row for row in await connection.execute(select(requests))}
            self.results = {(row.batch_id, row.position): row.body for row in await connection.execute(select(results))}
            self.live = set((await connection.scalars(select(workers.c.id))).all())


class Interleavings(RuleBasedStateMachine):
    """One database, several workers, one clock."""

    made = Bundle("made")
    half_made = Bundle("half_made")

    def __init__(self, backend: SqlBackend) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.database = Database(engine_of(backend), self.clock)
        self.store = BatchStore(self.database)
        self.queue = JobQueue(self.database)
        self.sweep = Sweep(self.database, max_attempts=3, results_seconds=KEPT)
        self.before = Snapshot()
        self.alive: dict[str, float] = {}
        self.held: dict[Key, str] = {}
        self.claimed: list[Lease] = []
        self.accepted: dict[str, int] = {}
        self.deleted: set[str] = set()

    def wait[R](self, work: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.wait(self.drain())
        finally:
            self.wait(self.database.close())
            self.runner.close()

    def living(self, worker: str) -> bool:
        return self.alive.get(worker, 0.0) > self.clock.now

    # --- what happens ---

    @initialize(target=made, counts=st.lists(st.integers(1, 4), min_size=2, max_size=3))
    def begin(self, counts: list[int]) -> Any:
        self.wait(self.fresh_tables())
        self.start_worker()
        return multiple(*(self.publish(self.begin_creating(count)) for count in counts))

    async def fresh_tables(self) -> None:
        async with self.database.engine.begin() as connection:
            await connection.run_sync(metadata.drop_all)
        await self.database.create_schema()

    def some_worker(self, data: st.DataObject) -> str:
        # In the order of their start: their ids are random, and a replay must choose the same one.
        return data.draw(st.sampled_from(list(self.alive)))

    @precondition(lambda self: len(self.alive) < 3)
    @rule()
    def another_worker(self) -> None:
        self.start_worker()

    def start_worker(self) -> str:
        worker = self.wait(self.queue.register(LEASE, 1))
        self.alive[worker] = self.clock.now + LEASE
        return worker

    @rule(target=half_made, count=st.integers(1, 4))
    def create(self, count: int) -> tuple[str, int]:
        return self.begin_creating(count)

    def begin_creating(self, count: int) -> tuple[str, int]:
        batch_id = new_batch_id()
        self.wait(self.store.begin(batch_id, None, lease_seconds=LEASE, expires_after=EXPIRES))
        self.wait(self.store.append(batch_id, new_requests(count)))
        return batch_id, count

    @rule(target=made, half=consumes(half_made))
    def publish(self, half: tuple[str, int]) -> str:
        batch_id, count = half
        if self.wait(self.store.publish(batch_id, count)):
            self.accepted[batch_id] = count
        return batch_id

    @rule(half=half_made)
    def more_of_a_body_arrives(self, half: tuple[str, int]) -> None:
        self.wait(self.store.renew(half[0], LEASE))

    @rule(half=consumes(half_made))
    def creation_fails(self, half: tuple[str, int]) -> None:
        self.wait(self.store.discard(half[0]))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), limit=st.integers(1, 6), per_batch=st.integers(1, PER_BATCH))
    def claim(self, data: st.DataObject, limit: int, per_batch: int) -> None:
        worker = self.some_worker(data)
        if not self.living(worker):
            return
        claim = self.wait(self.queue.claim(worker, limit, per_batch))
        assert len(claim.leases) <= limit
        for lease in claim.leases:
            key = lease.batch_id, lease.position
            holder = self.held.get(key)
            assert holder is None or not self.living(holder), "leased to two live workers"
            self.held[key] = worker
        self.claimed += sorted(claim.leases, key=lambda lease: (lease.batch_id, lease.position))

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), heard_again=st.booleans())
    def finish(self, data: st.DataObject, heard_again: bool) -> None:
        """Some of what was claimed ever, whether or not the worker is alive, and perhaps not for the last time."""
        leases = data.draw(st.lists(st.sampled_from(self.claimed), min_size=1, max_size=4, unique=True))
        outcomes = [data.draw(st.sampled_from(WAYS))(lease) for lease in leases]
        standing = {
            (lease.batch_id, lease.position)
            for lease in leases
            if self.held.get((lease.batch_id, lease.position)) == lease.worker and self.last_claim(lease)
        }
        taken = self.wait(self.queue.record(outcomes))
        assert taken <= len(standing)
        if all(self.living(self.held[key]) for key in standing):
            assert taken == len(standing), "a live worker's result was refused"
        for key in standing:
            self.held.pop(key)
        if not heard_again:
            self.claimed = [lease for lease in self.claimed if lease not in leases]

    def last_claim(self, lease: Lease) -> bool:
        same = [each for each in self.claimed if (each.batch_id, each.position) == (lease.batch_id, lease.position)]
        return lease.attempt == max(each.attempt for each in same)

    @rule()
    def heartbeats(self) -> None:
        for worker in self.alive:
            assert self.wait(self.queue.renew(worker, LEASE)) == self.living(worker)
            if self.living(worker):
                self.alive[worker] = self.clock.now + LEASE

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """Its lease is no longer renewed, and runs out; the others live on."""
        dead = self.some_worker(data)
        for _ in range(2):
            self.clock.now += LEASE * 0.6
            for worker in self.alive:
                if worker != dead and self.wait(self.queue.renew(worker, LEASE)):
                    self.alive[worker] = self.clock.now + LEASE
        self.alive.pop(dead)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def stop_worker(self, data: st.DataObject) -> None:
        worker = self.some_worker(data)
        self.wait(self.queue.release_all(worker))
        self.alive.pop(worker)
        self.held = {key: holder for key, holder in self.held.items() if holder != worker}

    @rule(batch_id=made)
    def cancel(self, batch_id: str) -> None:
        self.wait(self.store.cancel(batch_id))

    @rule(batch_id=made)
    def delete(self, batch_id: str) -> None:
        batch = self.wait(self.store.get(batch_id))
        ended = batch is not None and batch.status is BatchStatus.ENDED
        assert self.wait(self.store.discard(batch_id)) == ended
        if ended:
            self.deleted.add(batch_id)

    @rule()
    def sweep_once(self) -> None:
        self.wait(self.sweep.run())
        self.wait(self.sweep.vacuum())

    @rule(seconds=st.sampled_from([*[0.5, 1.0, 2.0, 6.0] * 3, EXPIRES, KEPT]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    # --- what holds ---

    @invariant()
    def rows_follow_the_tables(self) -> None:
        after = Snapshot()
        self.wait(after.read(self.database))
        before, self.before = self.before, after
        for batch_id, row in after.batches.items():
            self.check_batch(batch_id, before.batches.get(batch_id), row, after)
        for key, row in after.requests.items():
            was = before.requests.get(key)
            source = RequestState(was.state) if was is not None else RequestState.PENDING
            assert RequestState(row.state) in REQUEST_PATHS[source], f"{source} became {row.state}"
            assert (row.state == "leased") == (row.lease_owner is not None)
        for key, body in after.results.items():
            assert before.results.get(key, body) == body, "a result changed"
            assert after.requests[key].state in ("succeeded", "errored")
        for key, row in after.requests.items():
            assert (key in after.results) == (row.state in ("succeeded", "errored"))
        for batch_id in self.accepted.keys() - self.deleted:
            assert batch_id in after.batches, "an accepted batch is gone"

    def check_batch(self, batch_id: str, was: Any, row: Any, after: Snapshot) -> None:
        source = BatchStatus(was.status) if was is not None else BatchStatus.CREATING
        assert BatchStatus(row.status) in BATCH_PATHS[source], f"{source} became {row.status}"
        states = Counter(found.state for (owner, _), found in after.requests.items() if owner == batch_id)
        assert states["leased"] <= PER_BATCH
        if row.status in ("in_progress", "canceling"):
            assert states.total() == row.total == self.accepted[batch_id]
            assert set(states) - TERMINAL, "nothing is left to run, and it has not ended"
        if row.status == "ended":
            tally = {str(state): getattr(row, state) for state in TERMINAL}
            assert sum(tally.values()) == row.total == self.accepted[batch_id]
            assert row.archived_at is not None or Counter(tally) == states

    async def drain(self) -> None:
        """Every accepted batch comes to its end, by a worker that does its work or by its expiry."""
        worker = await self.queue.register(LEASE, 1)
        self.clock.now += LEASE / 2
        while (await self.queue.claim(worker, 100, 100)).leases:
            pass
        self.clock.now += EXPIRES
        while await self.sweep.run() or await self.sweep.vacuum():
            pass
        after = Snapshot()
        await after.read(self.database)
        statuses = {row.status for row in after.batches.values()}
        assert statuses <= {"ended"}, statuses


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_any_interleaving_keeps_the_laws(kind: str, tmp_path: Path) -> None:
    def machine() -> Interleavings:
        if kind == "postgres":
            return Interleavings(postgres_backend())
        folder = tempfile.mkdtemp(dir=tmp_path)
        return Interleavings(SqliteSqlStoreConfig(db_path=f"{folder}/sql_store.db"))

    if kind == "postgres":
        postgres_backend()  # Skips here, rather than inside an example.
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
