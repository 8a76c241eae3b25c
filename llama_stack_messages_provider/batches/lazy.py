"""Stores beside the batches, in the same database, which are opened at first use."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from llama_stack_messages_provider.batches.database import Database, SqlBackend, engine_of

__all__ = ["LazyStore"]

_NO_WAIT = "PRAGMA synchronous=NORMAL"


class _Store(Protocol):
    async def create_schema(self) -> None: ...


class LazyStore[Store: _Store]:
    """A store of the running loop; a provider is made in another one.

    What it keeps may be lost with the power: waiting for the disk would cost each request some milliseconds.

    Args:
        backend: Where it is.
        make: Makes it.
    """

    def __init__(self, backend: SqlBackend, make: Callable[[Database], Store]) -> None:
        self._backend = backend
        self._make = make
        self._store: tuple[asyncio.AbstractEventLoop, Database, Store] | None = None
        self._opening: asyncio.Lock | None = None

    async def opened(self) -> Store:
        """The store, with its tables there; raises as `Database.write` does."""
        loop = asyncio.get_running_loop()
        if self._store is not None and self._store[0] is loop:
            return self._store[2]
        if self._opening is None or self._store is not None:
            self._store, self._opening = None, asyncio.Lock()
        async with self._opening:
            if self._store is None:
                database = Database(_engine(self._backend))
                store = self._make(database)
                try:
                    await store.create_schema()
                except BaseException:
                    await database.close()
                    raise
                self._store = loop, database, store
        return self._store[2]

    async def close(self) -> None:
        """Close the connections."""
        if self._store is not None and self._store[0] is asyncio.get_running_loop():
            store, self._store = self._store, None
            await store[1].close()


def _engine(backend: SqlBackend) -> AsyncEngine:
    engine = engine_of(backend)
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", lambda connection, _: connection.execute(_NO_WAIT).close())
    return engine
