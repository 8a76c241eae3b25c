"""Durable-work engines against what Message Batches need, each through its own public API.

    python -m venv engines && engines/bin/pip install dbos procrastinate oban "pgqueuer[asyncpg]" psycopg[binary,pool]
    engines/bin/python benchmarks/batches/engines.py all --postgres postgresql://user:password@127.0.0.1/empty

It needs an environment of its own: no engine is a dependency of this package. `ours` runs where the package is
installed. For each engine: jobs that do nothing are enqueued and run at a concurrency of 64 in one process; then a
process that has had 20 jobs in its hands for 25 seconds is killed, and a second one is watched, before and after.
Heartbeats and the like are set to notice a death within some 15 seconds.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

CONCURRENCY = 64
HELD = 20
OWNER_LIVES_SECONDS = 25.0
GIVE_UP_SECONDS = 120.0
LONG_SECONDS = 600.0

type Job = Callable[[int], Awaitable[None]]


class Engine:
    """An engine as the benchmark uses it; `job` gets a number."""

    def __init__(self, url: str, job: Job) -> None:
        self.url = url
        self.job = job

    async def install(self) -> None:
        """Create the tables."""

    async def enqueue(self, numbers: range) -> None:
        """Accept these jobs."""
        raise NotImplementedError

    def working(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Within it, jobs are run."""
        raise NotImplementedError


class Procrastinate(Engine):
    def __init__(self, url: str, job: Job) -> None:
        super().__init__(url, job)
        import procrastinate

        self.app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
        self.task = self.app.task(name="job")(self._run)

    async def _run(self, number: int) -> None:
        await self.job(number)

    async def install(self) -> None:
        async with self.app.open_async():
            await self.app.schema_manager.apply_schema_async()

    async def enqueue(self, numbers: range) -> None:
        async with self.app.open_async():
            for start in range(0, len(numbers), 1000):
                await self.task.batch_defer_async(*({"number": n} for n in numbers[start : start + 1000]))

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with self.app.open_async():
            worker = self.app.run_worker_async(
                concurrency=CONCURRENCY,
                install_signal_handlers=False,
                fetch_job_polling_interval=0.2,
                update_heartbeat_interval=5.0,
                stalled_worker_timeout=15.0,
            )
            async with background(worker):
                yield


class PgQueuer(Engine):
    @contextlib.asynccontextmanager
    async def queue(self) -> AsyncIterator[Any]:
        import asyncpg
        from pgqueuer import PgQueuer as Queue
        from pgqueuer.db import AsyncpgPoolDriver

        async with asyncpg.create_pool(self.url, min_size=2, max_size=10) as pool:
            yield Queue(AsyncpgPoolDriver(pool))

    async def install(self) -> None:
        async with self.queue() as queue:
            await queue.queries.install()

    async def enqueue(self, numbers: range) -> None:
        async with self.queue() as queue:
            for start in range(0, len(numbers), 1000):
                some = numbers[start : start + 1000]
                await queue.queries.enqueue(["job"] * len(some), [str(n).encode() for n in some], [0] * len(some))

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with self.queue() as queue:

            @queue.entrypoint("job")
            async def run(job: Any) -> None:
                await self.job(int(job.payload))

            work = queue.run(
                batch_size=CONCURRENCY // 2,
                max_concurrent_tasks=CONCURRENCY,
                heartbeat_timeout=timedelta(seconds=15),
                dequeue_timeout=timedelta(seconds=1),
            )
            async with background(work):
                yield


class Oban(Engine):
    @contextlib.asynccontextmanager
    async def oban(self, **options: Any) -> AsyncIterator[Any]:
        import oban
        from psycopg_pool import AsyncConnectionPool

        async with (
            AsyncConnectionPool(self.url, min_size=2, max_size=10, kwargs={"autocommit": True}) as pool,
            oban.Oban(pool=pool, **options) as found,
        ):
            yield found

    def worker(self) -> Any:
        import oban

        engine = self

        @oban.worker(queue="default", max_attempts=20)
        class Run:
            async def process(self, job: Any) -> None:
                await engine.job(job.args["number"])

        return Run

    async def install(self) -> None:
        import oban.schema
        from psycopg import AsyncConnection

        async with await AsyncConnection.connect(self.url) as connection:
            await connection.execute(oban.schema.install_sql())

    async def enqueue(self, numbers: range) -> None:
        worker = self.worker()
        async with self.oban() as oban:
            for start in range(0, len(numbers), 1000):
                await oban.enqueue_many(worker.new({"number": n}) for n in numbers[start : start + 1000])

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        self.worker()
        # The free lifeline knows no liveness: it takes what has run for longer than this, dead or alive.
        lifeline = {"interval": 5.0, "rescue_after": 15.0}
        async with self.oban(queues={"default": CONCURRENCY}, lifeline=lifeline):
            yield


class Dbos(Engine):
    async def install(self) -> None:
        await asyncio.to_thread(self.launch)
        from dbos import DBOS

        await asyncio.to_thread(DBOS.destroy)

    def launch(self) -> None:
        from dbos import DBOS

        DBOS(
            config={
                "name": "bench",
                "system_database_url": self.url,
                "log_level": "ERROR",
                "application_version": "1",
                "executor_id": os.environ.get("BENCH_EXECUTOR", "one"),
            }
        )

        @DBOS.workflow(name="job")
        async def run(number: int) -> None:
            await self.job(number)

        DBOS.launch()
        DBOS.register_queue("jobs", worker_concurrency=CONCURRENCY, polling_interval_sec=0.05)

    async def enqueue(self, numbers: range) -> None:
        """It has no call for many."""
        from dbos import DBOSClient

        client = DBOSClient(system_database_url=self.url)
        options: Any = {"queue_name": "jobs", "workflow_name": "job", "app_version": "1"}
        for number in numbers:
            await client.enqueue_async(options, number)
        client.destroy()

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        from dbos import DBOS

        await asyncio.to_thread(self.launch)
        yield
        await asyncio.to_thread(DBOS.destroy)


class Ours(Engine):
    def service(self, *, works: bool) -> Any:
        from llama_stack.core.storage.datatypes import PostgresSqlStoreConfig, SqliteSqlStoreConfig

        from llama_stack_messages_provider.batches import BatchesConfig, BatchRuntime, BatchService

        async def run(params: dict[str, Any], identity: object, headers: object) -> dict[str, Any]:
            await self.job(params["number"])
            return {}

        if self.url.startswith("sqlite"):
            backend: Any = SqliteSqlStoreConfig(db_path=self.url.removeprefix("sqlite:///"))
        else:
            user, password, host, db = re.fullmatch(  # type: ignore[union-attr]
                r"postgresql://(.+):(.+)@([^:/]+)(?::\d+)?/(.+)", self.url
            ).groups()
            backend = PostgresSqlStoreConfig(user=user, password=password, host=host, db=db)
        concurrency = CONCURRENCY if works else 0
        config = BatchesConfig(concurrency=concurrency, concurrency_per_batch=1000)
        return BatchService(config, BatchRuntime(config, backend, run))

    async def install(self) -> None:
        service = self.service(works=False)
        await service.runtime.start()
        await service.runtime.stop()

    async def enqueue(self, numbers: range) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b'{"requests":['
            for start in range(0, len(numbers), 1000):
                some = numbers[start : start + 1000]
                rows = [f'{{"custom_id":"r-{n}","params":{{"number":{n}}}}}' for n in some]
                yield (("," if start else "") + ",".join(rows)).encode()
            yield b"]}"

        service = self.service(works=False)
        await service.create(body(), None)
        await service.runtime.stop()

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        service = self.service(works=True)
        await service.runtime.start()
        yield
        await service.runtime.stop()


ENGINES: dict[str, type[Engine]] = {
    "procrastinate": Procrastinate,
    "pgqueuer": PgQueuer,
    "oban": Oban,
    "dbos": Dbos,
    "dbos-sqlite": Dbos,
    "ours": Ours,
    "ours-sqlite": Ours,
}


@contextlib.asynccontextmanager
async def background(work: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- measures ---


async def measure_rates(name: str, url: str, jobs: int) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    ran: set[int] = set()

    async def job(number: int) -> None:
        ran.add(number)
        if len(ran) == jobs:
            loop.call_soon_threadsafe(done.set)

    engine = ENGINES[name](url, job)
    await engine.install()
    begun = time.perf_counter()
    await engine.enqueue(range(jobs))
    print(f"{name}: enqueued {jobs / (time.perf_counter() - begun):,.0f} jobs/s", flush=True)
    begun, spent = time.perf_counter(), time.process_time()
    async with engine.working():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await done.wait()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - spent
        count = len(ran)
    print(f"{name}: ran {count / seconds:,.0f} jobs/s, {1e3 * cpu / max(count, 1):.2f} ms of CPU each", flush=True)


async def work_for_ever(name: str, url: str) -> None:
    """The child process: says which jobs it begins, and finishes none."""

    async def job(number: int) -> None:
        print(f"begin {number}", flush=True)
        await asyncio.sleep(LONG_SECONDS)

    async with ENGINES[name](url, job).working():
        await asyncio.sleep(LONG_SECONDS)


def measure_takeover(name: str, url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--url", url]
        subprocess.run([*command, name, "--enqueue"], check=True)
        first = Child([*command, name, "--work"], Path(folder) / "first", "one")
        first.wait_for(HELD, 60.0)
        second = Child([*command, name, "--work"], Path(folder) / "second", "two")
        time.sleep(OWNER_LIVES_SECONDS)
        twice = first.starts() + second.starts() - HELD
        first.kill()
        begun = time.perf_counter()
        taken = second.wait_for(HELD, GIVE_UP_SECONDS)
        seconds = time.perf_counter() - begun
        second.kill()
    note = f"; {twice} begun again while their owner ran them" if twice else ""
    print(f"{name}: {taken} of {HELD} jobs of a killed process taken over within {seconds:.0f} s{note}", flush=True)


class Child:
    """A worker process that is killed hard."""

    def __init__(self, command: list[str], output: Path, executor: str) -> None:
        self.output = output
        environment = {**os.environ, "BENCH_EXECUTOR": executor}
        with output.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL, env=environment)

    def starts(self) -> int:
        return len(re.findall(r"begin \d+", self.output.read_text()))

    def begun(self) -> int:
        return len(set(re.findall(r"begin (\d+)", self.output.read_text())))

    def wait_for(self, count: int, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while self.begun() < count and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.begun()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


async def enqueue_held(name: str, url: str) -> None:
    async def job(number: int) -> None:
        await asyncio.sleep(LONG_SECONDS)

    await ENGINES[name](url, job).enqueue(range(HELD))
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=[*ENGINES, "all"])
    parser.add_argument("--postgres", default="", help="an empty database")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--enqueue", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    if given.work:
        asyncio.run(work_for_ever(given.engine, given.url))
    elif given.enqueue:
        asyncio.run(enqueue_held(given.engine, given.url))
    else:
        for name in ENGINES if given.engine == "all" else [given.engine]:
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/engine.db" if name.endswith("sqlite") else given.postgres
                asyncio.run(measure_rates(name, url, given.jobs))
                measure_takeover(name, url)


if __name__ == "__main__":
    main()
