"""The stack's SQL backend, as batches use it: PostgreSQL as it is configured, SQLite in a file of our own.

The host's `SqlStore` offers single-statement inserts and updates on a table; claiming rows takes transactions
and row locks, so this is an engine of our own with the backend's settings.

SQLite has one writer per file. The host's inference store writes every chat completion to the backend's file
and gives up after five seconds of waiting, and a batch writes thousands of rows a second: each gets its file,
`sql_store.db` and `sql_store.batches.db`. Ours is in WAL mode with `synchronous=FULL`: an accepted batch
survives the loss of power, too.
"""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Double, event, extract, func, literal
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from llama_stack_messages_provider.batches.tables import create_schema
from llama_stack_messages_provider.errors import ApiError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.storage import SqlBackend, SqliteSqlStoreConfig, sql_backends

__all__ = ["BackendError", "Database", "SqlBackend", "StorageError", "batches_file", "engine_of", "find_backend"]

logger = get_logger(name=__name__, category="providers")

BUSY_SECONDS = 30.0
"""How long a SQLite connection waits for the writer of another process."""

SQLITE_CONNECTIONS = 4
"""One writes at a time, and the others read; each has a thread and a cache."""

SQLITE_CACHE_KILOBYTES = 8192

CREATE_TRIES = 20
"""Several processes that start at once contend for a new SQLite file before its busy handler is at work."""


class BackendError(ValueError):
    """`batches.backend` does not name a backend that batches can be kept in."""


class StorageError(ApiError):
    """The database cannot do its part now: its disk is full, or nobody answers. Worth another try later."""

    status, default_message = 503, "The database of message batches is not available"


def find_backend(name: str, setting: str = "batches.backend") -> SqlBackend:
    """The stack's SQL backend of that name, as `storage.backends` configures it.

    Args:
        name: The name.
        setting: The setting that has it.

    Raises:
        BackendError: There is none of that name, or it is not an SQL one, or it is SQLite in memory.
    """
    backends = sql_backends()
    config = backends.get(name)
    if config is None:
        known = ", ".join(sorted(backends)) or "none"
        raise BackendError(f"{setting}: no SQL backend {name!r} in storage.backends (SQL backends: {known})")
    if isinstance(config, SqliteSqlStoreConfig) and ":memory:" in config.db_path:
        raise BackendError(f"{setting}: {name!r} is in memory, where nothing outlives the process")
    return config


def engine_of(config: SqlBackend) -> AsyncEngine:
    """An engine with the backend's settings; it connects at first use, in the running event loop."""
    if isinstance(config, SqliteSqlStoreConfig):
        return _sqlite_engine(batches_file(config.db_path))
    url = URL.create("postgresql+asyncpg", config.user, config.password, config.host, int(config.port), config.db)
    return create_async_engine(
        url,
        pool_size=config.pool_size,
        max_overflow=config.max_overflow,
        pool_recycle=config.pool_recycle,
        pool_pre_ping=config.pool_pre_ping,
        connect_args={"timeout": 10, "command_timeout": 60},
    )


def batches_file(db_path: str) -> Path:
    """The file beside the backend's: `sql_store.db` gives `sql_store.batches.db`."""
    path = Path(db_path).expanduser()
    return path.with_name(f"{path.stem}.batches{path.suffix}")


def _sqlite_engine(file: Path) -> AsyncEngine:
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file)),
        pool_size=SQLITE_CONNECTIONS,
        max_overflow=0,
        connect_args={"timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver would begin transactions of its own, and deferred ones: two of them can deadlock.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"cache_size=-{SQLITE_CACHE_KILOBYTES}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("batches_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


class Database:
    """Connections, transactions and the clock.

    Args:
        engine: One of `engine_of`.
        clock: Seconds since 1970, in place of the database's clock; for tests.
    """

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] | None = None) -> None:
        self.engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        # A SQLite file is on this machine: its clock is ours. Replicas share only PostgreSQL's clock.
        self._clock = time.time if clock is None and self._is_sqlite else clock
        self._writer = asyncio.Lock()

    async def create_schema(self) -> None:
        """Create the tables, unless they are there."""
        for attempt in range(CREATE_TRIES):
            try:
                async with self.write() as connection:
                    await connection.run_sync(create_schema)
                return
            except StorageError as error:
                if attempt == CREATE_TRIES - 1 or not isinstance(error.__cause__, OperationalError):
                    raise
                await asyncio.sleep(0.05 * (attempt + 1))

    async def close(self) -> None:
        """Close the connections."""
        await self.engine.dispose()

    def now(self) -> ColumnElement[float]:
        """The time, as an expression for a statement."""
        if self._clock is not None:
            return literal(self._clock(), Double)
        return extract("epoch", func.clock_timestamp()).cast(Double)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes nothing.

        Raises:
            StorageError: The database is not available.
        """
        with _storage_errors():
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes. On SQLite there is one at a time, from its beginning on.

        Raises:
            StorageError: The database is not available, or its disk is full.
        """
        with _storage_errors():
            if not self._is_sqlite:
                async with self.engine.begin() as connection:
                    yield connection
                return
            # Queueing here is fair and costs nothing; waiting in SQLite is neither.
            async with self._writer, self.engine.connect() as plain:
                connection = await plain.execution_options(batches_write=True)
                async with connection.begin():
                    yield connection


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Faults of the database's, and no bugs of ours, become a `StorageError`."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        mapped = _storage_error(error)
        if mapped is None:
            raise
        logger.error("The database of message batches failed", error=str(error).partition("\n")[0])
        raise mapped from error


def _storage_error(error: Exception) -> StorageError | None:
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = str(getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or "")
    if code in ("SQLITE_FULL", "53100") or getattr(cause, "errno", None) == errno.ENOSPC:
        return StorageError("Message batches cannot be stored: the disk of the server's database is full")
    lost = isinstance(error, OSError | OperationalError | PoolTimeoutError)
    if lost or (isinstance(error, DBAPIError) and error.connection_invalidated) or code[:2] in _UNAVAILABLE:
        return StorageError()
    return None


_UNAVAILABLE = ("08", "53", "57", "58")
"""Classes of SQLSTATE: connections, resources, an operator's intervention, the system."""
