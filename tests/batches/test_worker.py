"""Workers: what is retried, what is bounded, what is given back."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from sqlalchemy import text, update

from llama_stack_messages_provider.batches import BatchesConfig, Identity
from llama_stack_messages_provider.batches.database import SqlBackend, engine_of
from llama_stack_messages_provider.batches.job_queue import Lease
from llama_stack_messages_provider.batches.lifecycle import RequestState
from llama_stack_messages_provider.batches.runner import decide_outcome
from llama_stack_messages_provider.batches.tables import workers
from llama_stack_messages_provider.errors import (
    ApiError,
    InvalidRequestError,
    MessagesError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    UpstreamError,
    UpstreamTimeoutError,
)
from tests.batches.helpers import Json, Make, create, ended, message, read


def text_of(what: Json) -> str:
    return str(what["messages"][0]["content"])


class Model:
    """A model that takes its time, and counts."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.canceled = 0

    async def __call__(self, what: Json, identity: Identity | None, headers: Mapping[str, str]) -> Json:
        self.calls[text_of(what)] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self.answer(what)
        except asyncio.CancelledError:
            self.canceled += 1
            raise
        finally:
            self.in_flight -= 1

    async def answer(self, what: Json) -> Json:
        await asyncio.sleep(self.seconds)
        return message(text_of(what))


class Failing(Model):
    """A model that fails a number of times before it answers."""

    def __init__(self, error: BaseException, times: int) -> None:
        super().__init__()
        self.error = error
        self.times = times

    async def answer(self, what: Json) -> Json:
        if self.calls[text_of(what)] <= self.times:
            raise self.error
        return await super().answer(what)


# --- what is retried ---


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError(),
        OverloadedError(),
        ApiError(),
        UpstreamError(),
        UpstreamTimeoutError(),
        OSError("connection lost"),
        asyncio.CancelledError("by something below"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_faults_that_pass_are_tried_again(make: Make, error: BaseException) -> None:
    model = Failing(error, times=3)
    service = make(model)

    batch = await ended(service, (await create(service, 2))["id"])

    assert batch["request_counts"]["succeeded"] == 2
    assert model.calls == {"text 0": 4, "text 1": 4}


@pytest.mark.parametrize("error", [InvalidRequestError("no"), PermissionDeniedError("no")])
async def test_faults_that_stay_are_not(make: Make, error: MessagesError) -> None:
    model = Failing(error, times=3)
    service = make(model)

    batch = await ended(service, (await create(service, 1))["id"])
    [line] = await read(service, batch["id"])

    assert model.calls == {"text 0": 1}
    assert line["result"]["error"] == error.body()


async def test_a_request_that_fails_and_fails_is_given_up_with_its_last_error(make: Make) -> None:
    model = Failing(UpstreamError("broken"), times=100)
    service = make(model, max_attempts=3)

    batch = await ended(service, (await create(service, 1))["id"])
    [line] = await read(service, batch["id"])

    assert model.calls == {"text 0": 3}
    assert line["result"]["error"]["error"] == {"type": "api_error", "message": "broken"}


async def test_an_upstream_that_is_down_is_waited_for(make: Make) -> None:
    model = Failing(OverloadedError(), times=20)
    service = make(model, max_attempts=3, retry_max_seconds=0.02)

    batch = await ended(service, (await create(service, 3))["id"])

    assert batch["request_counts"]["succeeded"] == 3


LEASE = Lease("msgbatch_1", 0, "worker", 1, 0, "a", "{}", None, {})


def test_retry_after_is_honoured() -> None:
    config = BatchesConfig()
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

    def delay(**headers: str) -> float:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return decide_outcome(LEASE, RateLimitError(headers=named), config).delay

    assert 0.5 <= delay() <= 1
    assert delay(retry_after="7") == 7
    assert delay(retry_after_ms="7500") == 7.5
    assert 58 <= delay(Retry_After=in_a_minute) <= 60
    assert delay(retry_after="1e9") == 3600
    assert all(0.5 <= delay(retry_after=odd) <= 1 for odd in ("soon", "-5", "nan", "", "0"))


def test_an_upstream_that_says_not_to_retry_is_believed() -> None:
    outcome = decide_outcome(LEASE, ApiError(headers={"X-Should-Retry": "false"}), BatchesConfig())

    assert outcome.state is RequestState.ERRORED


# --- what is bounded ---


async def test_a_process_runs_no_more_than_its_share(make: Make) -> None:
    model = Model(0.01)
    service = make(model, concurrency=5)

    await ended(service, (await create(service, 60))["id"])

    assert model.most_in_flight == 5
    assert set(model.calls.values()) == {1}


async def test_a_batch_takes_no_more_than_its_share_of_all_processes(make: Make) -> None:
    model = Model(0.01)
    services = [make(model, concurrency=8, concurrency_per_batch=6) for _ in range(3)]
    batch = await create(services[0], 60)
    for service in services:
        await service.runtime.start()

    await ended(services[0], batch["id"])

    assert model.most_in_flight <= 6
    assert set(model.calls.values()) == {1}


async def test_interactive_requests_come_first(make: Make) -> None:
    model = Model(0.005)
    service = make(model, concurrency=4)
    await service.runtime.start()

    with ExitStack() as interactive:
        for _ in range(4):
            interactive.enter_context(service.runtime.interactive)
        batch = await create(service, 20)
        while sum(model.calls.values()) < 5:
            await asyncio.sleep(0.01)
        assert model.most_in_flight == 1
    await ended(service, batch["id"])

    assert model.most_in_flight == 4


# --- what is given back ---


async def test_a_process_that_stops_gives_back_at_once_what_it_runs(make: Make) -> None:
    stuck, quick = Model(60), Model()
    leaving = make(stuck, lease_seconds=60)
    batch = await create(leaving, 20)
    while stuck.in_flight < 20:
        await asyncio.sleep(0.01)

    await leaving.runtime.stop()
    assert (stuck.in_flight, stuck.canceled) == (0, 20)

    staying = make(quick, lease_seconds=60)
    await staying.runtime.start()
    await ended(staying, batch["id"])
    assert sum(quick.calls.values()) == 20


class Gated(Model):
    """A model that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def answer(self, what: Json) -> Json:
        await self.open.wait()
        return message(text_of(what))


async def test_what_runs_when_a_process_stops_may_finish_while_others_run_the_rest(make: Make) -> None:
    gated, quick = Gated(), Model()
    leaving = make(gated, concurrency=4, lease_seconds=60)
    batch = await create(leaving, 30)
    while gated.in_flight < 4:
        await asyncio.sleep(0.01)

    stopping = asyncio.create_task(leaving.runtime.stop(grace_seconds=600))
    staying = make(quick, lease_seconds=60)
    await staying.runtime.start()
    while sum(quick.calls.values()) < 26:
        await asyncio.sleep(0.01)
    assert not stopping.done()
    gated.open.set()
    await stopping

    assert (await ended(staying, batch["id"]))["request_counts"]["succeeded"] == 30
    assert (sum(gated.calls.values()), gated.canceled) == (4, 0)
    assert set((gated.calls + quick.calls).values()) == {1}


async def test_the_time_of_what_runs_begins_with_the_drain(make: Make) -> None:
    stuck, quick = Gated(), Model()
    leaving = make(stuck, concurrency=4, lease_seconds=60)
    batch = await create(leaving, 10)
    while stuck.in_flight < 4:
        await asyncio.sleep(0.01)

    leaving.runtime.drain()
    staying = make(quick, lease_seconds=60)
    await staying.runtime.start()
    while sum(quick.calls.values()) < 6:  # they were given back at once
        await asyncio.sleep(0.01)
    assert (stuck.in_flight, sum(stuck.calls.values())) == (4, 4)
    stuck.open.set()
    while stuck.in_flight:
        await asyncio.sleep(0.01)
    await create(leaving, 3)  # accepted, and run by others
    await leaving.runtime.stop(grace_seconds=600)
    assert sum(stuck.calls.values()) == 4
    assert (await ended(staying, batch["id"]))["request_counts"]["succeeded"] == 10


async def test_what_is_not_done_in_time_is_given_back(make: Make) -> None:
    stuck, quick = Gated(), Model()
    leaving = make(stuck, concurrency=4, lease_seconds=60)
    batch = await create(leaving, 10)
    while stuck.in_flight < 4:
        await asyncio.sleep(0.01)

    await leaving.runtime.stop(grace_seconds=0.1)
    assert (stuck.in_flight, stuck.canceled) == (0, 4)

    staying = make(quick, lease_seconds=60)
    await staying.runtime.start()
    await ended(staying, batch["id"])
    assert quick.calls == {f"text {n}": 1 for n in range(10)}


async def test_results_that_are_there_are_recorded_before_a_process_stops(make: Make) -> None:
    model = Model()
    service = make(model, concurrency=10)
    batch = await create(service, 10)
    while sum(model.calls.values()) < 10 or model.in_flight:
        await asyncio.sleep(0)
    await service.runtime.stop()

    assert await make(concurrency=0).progress(batch["id"], None) == (10, 10)


async def test_a_process_that_lost_its_lease_drops_what_it_runs_and_begins_anew(
    make: Make, backend: SqlBackend
) -> None:
    model = Model(60)
    service = make(model, lease_seconds=5.0)
    batch = await create(service, 5)
    while model.in_flight < 5:
        await asyncio.sleep(0.01)

    model.seconds = 0
    engine = engine_of(backend)
    async with engine.begin() as connection:
        await connection.execute(update(workers).values(expires_at=0.0))
    await engine.dispose()

    assert (await ended(service, batch["id"]))["request_counts"]["succeeded"] == 5
    # Once; more often where the machine stood still for longer than the lease.
    assert model.canceled >= 5
    assert min(model.calls.values()) >= 2


async def test_many_batches_share_a_process(make: Make) -> None:
    model = Model(0.002)
    service = make(model, concurrency=8)
    large = await create(service, 400)
    small = [await create(service, 2) for _ in range(20)]

    for batch in small:
        await ended(service, batch["id"])
    assert (await service.retrieve(large["id"], None))["processing_status"] == "in_progress"
    await ended(service, large["id"])


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)  # SQLite has no connection to cut.
async def test_a_database_that_cuts_every_connection_loses_nothing(make: Make, backend: SqlBackend) -> None:
    model = Model(0.02)
    service = make(model, concurrency=8)
    batch = await create(service, 300)
    engine = engine_of(backend)
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    for _ in range(4):
        await asyncio.sleep(0.2)
        async with engine.begin() as connection:
            await connection.execute(cut)
    await engine.dispose()

    assert (await ended(service, batch["id"]))["request_counts"]["succeeded"] == 300
    assert len(await read(service, batch["id"])) == 300
