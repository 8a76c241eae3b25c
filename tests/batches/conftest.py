"""Batches in a SQLite file and, where `MESSAGES_TEST_POSTGRES_URL` names one, in a real PostgreSQL.

The processes of a distributed test run have a database each, `name_gw0` and so on, beside the one that is named.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from llama_stack.core.access_control.datatypes import AccessRule
from llama_stack.core.storage.datatypes import PostgresSqlStoreConfig, SqliteSqlStoreConfig
from sqlalchemy import URL, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from llama_stack_messages_provider.batches import BatchesConfig, BatchRuntime, BatchService
from llama_stack_messages_provider.batches.database import Database, SqlBackend, engine_of
from llama_stack_messages_provider.batches.tables import metadata
from tests.batches.helpers import Make, echo

POSTGRES_URL = "MESSAGES_TEST_POSTGRES_URL"
FAST = {"lease_seconds": 60.0, "poll_seconds": 0.05, "retry_seconds": 0.01}
"""Settings for tests that wait. The lease is longer than any stall of a busy machine."""

REQUIRE_POSTGRES = "MESSAGES_REQUIRE_POSTGRES"


def postgres_backend() -> PostgresSqlStoreConfig:
    """The PostgreSQL that the environment names; skips the test if it names none."""
    if POSTGRES_URL not in os.environ:
        reason = f"{POSTGRES_URL} is not set (postgresql+asyncpg://user:password@host:port/database)"
        if os.environ.get(REQUIRE_POSTGRES) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    url = make_url(os.environ[POSTGRES_URL])
    return PostgresSqlStoreConfig(
        host=url.host or "127.0.0.1",
        port=url.port or 5432,
        db=database_of_this_process(url),
        user=url.username or "postgres",
        password=url.password,
    )


def database_of_this_process(url: URL) -> str:
    """Tests empty their database: two processes cannot share one."""
    return "_".join(filter(None, (url.database or "postgres", os.environ.get("PYTEST_XDIST_WORKER"))))


async def create_if_missing(url: URL, name: str) -> None:
    """Make a database beside that of the URL."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        if not await connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}):
            await connection.execute(text(f'CREATE DATABASE "{name}"'))
    await engine.dispose()


@pytest.fixture(scope="session", autouse=True)
def postgres_of_this_process() -> None:
    """Make the database of this process, if there is a PostgreSQL."""
    if POSTGRES_URL in os.environ:
        url = make_url(os.environ[POSTGRES_URL])
        asyncio.run(create_if_missing(url, database_of_this_process(url)))


async def empty(backend: SqlBackend) -> None:
    """Drop the tables of an earlier test."""
    engine = engine_of(backend)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    await engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> SqlBackend:
    """A backend of the stack without tables of ours."""
    if request.param == "sqlite":
        return SqliteSqlStoreConfig(db_path=str(tmp_path / "sql_store.db"))
    postgres = postgres_backend()
    await empty(postgres)
    return postgres


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time, in the test's hands."""
    return Clock()


@pytest.fixture
async def database(backend: SqlBackend, clock: Clock) -> AsyncIterator[Database]:
    """An empty database with our tables, whose time is `clock`."""
    found = Database(engine_of(backend), clock)
    await found.create_schema()
    yield found
    await found.close()


@pytest.fixture
async def make(backend: SqlBackend) -> AsyncIterator[Make]:
    """Services on one database; they are stopped after the test."""
    made: list[BatchService] = []

    def make_service(runner: Any = echo, policy: list[AccessRule] | None = None, **settings: Any) -> BatchService:
        config = BatchesConfig(**{**FAST, **settings})
        service = BatchService(config, BatchRuntime(config, backend, runner), policy or [])
        service.runtime.works = True
        made.append(service)
        return service

    yield make_service
    for service in made:
        await service.runtime.stop()
