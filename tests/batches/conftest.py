"""Batches in a SQLite file and, where `MESSAGES_TEST_POSTGRES_URL` names one, in a real PostgreSQL."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from llama_stack.core.access_control.datatypes import AccessRule
from llama_stack.core.storage.datatypes import PostgresSqlStoreConfig, SqliteSqlStoreConfig
from sqlalchemy import make_url

from llama_stack_messages_provider.batches import BatchesConfig, BatchService
from llama_stack_messages_provider.batches.database import Database, SqlBackend, engine_of
from llama_stack_messages_provider.batches.tables import metadata
from tests.batches.helpers import Make, echo

POSTGRES_URL = "MESSAGES_TEST_POSTGRES_URL"
FAST = {"lease_seconds": 1.0, "poll_seconds": 0.05, "retry_seconds": 0.01}
"""Settings for tests that wait."""

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
        db=url.database or "postgres",
        user=url.username or "postgres",
        password=url.password,
    )


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
        service = BatchService(config, backend, runner, policy or [])
        service.works = True
        made.append(service)
        return service

    yield make_service
    for service in made:
        await service.stop()
