"""Requests that are remembered in a database: SQLite and, where there is one, PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from llama_stack.core.storage.datatypes import SqliteSqlStoreConfig
from sqlalchemy import func, select

from llama_stack_messages_provider.batches.database import Database, SqlBackend, engine_of
from llama_stack_messages_provider.cache_diagnostics.fingerprint import Fingerprint, fingerprint, kept
from llama_stack_messages_provider.cache_diagnostics.shared import MAX_WAITING, SharedFingerprints
from llama_stack_messages_provider.cache_diagnostics.store import FingerprintStore, fingerprints, metadata
from tests.batches.conftest import postgres_backend, postgres_of_this_process  # noqa: F401 - a fixture
from tests.support.waiting import eventually_async


@pytest.fixture(params=["sqlite", "postgres"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> SqlBackend:
    if request.param == "sqlite":
        return SqliteSqlStoreConfig(db_path=str(tmp_path / "sql_store.db"))
    postgres = postgres_backend()
    engine = engine_of(postgres)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    await engine.dispose()
    return postgres


@pytest.fixture
async def shared(backend: SqlBackend) -> AsyncIterator[SharedFingerprints]:
    shared = SharedFingerprints(backend, 3600.0)
    yield shared
    await shared.close()


def request(turns: int = 3, **more: Any) -> Fingerprint:
    messages = [{"role": "user", "content": f"Turn {n}"} for n in range(turns)]
    whole = fingerprint({"model": "m", "system": "Be brief.", "messages": messages, **more}, "vllm/m")
    return kept(whole)


async def rows(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(select(func.count()).select_from(fingerprints))).scalar_one())


async def test_what_one_process_keeps_another_one_finds(backend: SqlBackend, shared: SharedFingerprints) -> None:
    given = request(turns=100)
    shared.keep("ann", "msg_1", given)
    other = SharedFingerprints(backend, 3600.0)
    try:
        assert await eventually_async_value(other, "ann", "msg_1") == given
        assert await other.get("bob", "msg_1") is None
        assert await other.get("ann", "msg_2") is None
    finally:
        await other.close()


async def eventually_async_value(shared: SharedFingerprints, client: str, message_id: str) -> Fingerprint:
    for _ in range(1000):
        if (found := await shared.get(client, message_id)) is not None:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("it was not kept")


@pytest.mark.parametrize("name", ["", "\x00", "\ud800", "x" * 100_000, "'; drop table messages_fingerprints"])
async def test_names_may_be_anything(shared: SharedFingerprints, name: str) -> None:
    given = request()
    shared.keep(name, name, given)
    assert await eventually_async_value(shared, name, name) == given
    assert await shared.get(name, name + "x") is None


async def test_a_message_is_kept_once_the_last_time(shared: SharedFingerprints) -> None:
    shared.keep("ann", "msg_1", request(turns=1))
    await eventually_async_value(shared, "ann", "msg_1")
    shared.keep("ann", "msg_1", request(turns=2))
    for _ in range(1000):
        if await shared.get("ann", "msg_1") == request(turns=2):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it was not exchanged")


async def test_what_is_old_is_not_found_and_goes(backend: SqlBackend) -> None:
    now = 1_000_000.0
    database = Database(engine_of(backend), lambda: now)
    try:
        store = FingerprintStore(database, 60.0)
        await store.create_schema()
        await store.keep("ann", "msg_1", b"1")
        now += 59
        assert await store.get("ann", "msg_1") == b"1"
        now += 2
        assert await store.get("ann", "msg_1") is None
        for n in range(64):
            await store.keep("bob", f"msg_{n}", b"2")
        assert await rows(database) == 64
    finally:
        await database.close()


async def test_of_one_user_the_newest_are_kept_and_all_of_others(backend: SqlBackend) -> None:
    now = 1_000_000.0
    database = Database(engine_of(backend), lambda: now)
    try:
        store = FingerprintStore(database, 3600.0, most=10)
        await store.create_schema()
        await store.keep("bob", "msg_old", b"0")
        for n in range(64):
            now += 1
            await store.keep("ann", f"msg_{n}", b"1")
        assert await rows(database) == 11
        assert await store.get("bob", "msg_old") == b"0"
        assert [n for n in range(64) if await store.get("ann", f"msg_{n}")] == list(range(54, 64))
    finally:
        await database.close()


async def test_without_its_database_nothing_is_found_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "sql_store.batches.db").write_bytes(b"this is no database" * 100)
    shared = SharedFingerprints(SqliteSqlStoreConfig(db_path=str(tmp_path / "sql_store.db")), 3600.0)
    try:
        for n in range(2 * MAX_WAITING):
            shared.keep("ann", f"msg_{n}", request())
        assert await shared.get("ann", "msg_1") is None
        await eventually_async(lambda: shared.waiting == 0)
    finally:
        await shared.close()
