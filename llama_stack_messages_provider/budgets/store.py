"""The counts of budgets: a row for each user, model and length of time, which is counted by one statement.

Minutes and days are those of UTC, by the database's clock. A row is of the newest one that anybody asked in, so that
there are never more rows than users and models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table, Text, case, cast, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack_messages_provider.batches.database import Database

__all__ = ["PERIODS", "BudgetStore", "Count", "Limits"]

PERIODS: Mapping[str, int] = {"minute": 60, "day": 86_400}
"""Their seconds."""

metadata = MetaData()
counts = Table(
    "messages_budgets",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("period", String(8), primary_key=True),
    Column("began", Float(53), nullable=False),  # seconds since 1970
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)

# Any number; one that nobody else's advisory lock is likely to have.
_SCHEMA_LOCK = 0x6D73675F62756467
_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one period; None is none."""

    requests: int | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted in a period.

    Args:
        limits: Its limits.
        requests: Requests in it.
        tokens: Tokens in it.
        ends: When it ends, in seconds since 1970.
        left: Seconds until then.
    """

    limits: Limits
    requests: int
    tokens: int
    ends: float
    left: float


class _NoRoomError(Exception):
    """A period has no room for a request."""


class BudgetStore:
    """Counts.

    Args:
        database: Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        is_sqlite = database.engine.dialect.name == "sqlite"
        self._insert: Any = sqlite.insert if is_sqlite else postgresql.insert
        # SQLite need not have `floor`, and PostgreSQL's `cast` rounds.
        self._whole: Any = (lambda number: cast(number, BigInteger)) if is_sqlite else func.floor

    async def create_schema(self) -> None:
        """Create the table, unless it is there; raises as `Database.write` does."""
        async with self._database.write() as connection:
            if self._database.engine.dialect.name == "postgresql":
                await connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            await connection.run_sync(lambda sync: metadata.create_all(sync, checkfirst=True))

    async def admit(self, principal: str, model: str, limits: Mapping[str, Limits]) -> tuple[list[Count], bool]:
        """Count a request where every period has room for it, and none of them otherwise.

        Args:
            principal: Whose it is.
            model: What it asks.
            limits: Of the periods.

        Returns:
            What was counted; whether the request is one of that.
        """
        try:
            async with self._database.write() as connection:
                # In one order, so that two requests never wait for each other.
                return [
                    await self._one(connection, principal, model, period, limits[period]) for period in sorted(limits)
                ], True
        except _NoRoomError:  # which has undone what was counted in other periods
            return await self._read(principal, model, limits), False

    async def _one(self, connection: AsyncConnection, principal: str, model: str, period: str, limits: Limits) -> Count:
        row = (await connection.execute(self._count(principal, model, period, limits))).first()
        if row is None:
            raise _NoRoomError
        return _counted(row, period, limits)

    async def charge(self, principal: str, model: str, periods: Mapping[str, Limits], tokens: int) -> None:
        """Count tokens, in the periods that are now."""
        async with self._database.write() as connection:
            for period in sorted(periods):
                await connection.execute(self._count(principal, model, period, None, requests=0, tokens=tokens))

    def _count(
        self, principal: str, model: str, period: str, limits: Limits | None, *, requests: int = 1, tokens: int = 0
    ) -> Any:
        seconds = PERIODS[period]
        began = self._whole(self._database.now() / seconds) * seconds
        statement = self._insert(counts).values(
            principal=principal, model=model, period=period, began=began, requests=requests, tokens=tokens
        )
        given, old = statement.excluded, counts.c
        is_new = old.began < given.began
        room = None
        if limits is not None:
            most_requests, most_tokens = limits.requests or _NO_LIMIT, limits.tokens or _NO_LIMIT
            room = is_new | ((old.requests < most_requests) & (old.tokens < most_tokens))
        return statement.on_conflict_do_update(
            index_elements=[old.principal, old.model, old.period],
            set_={
                "began": case((is_new, given.began), else_=old.began),
                "requests": case((is_new, given.requests), else_=old.requests + given.requests),
                "tokens": case((is_new, given.tokens), else_=old.tokens + given.tokens),
            },
            where=room,
        ).returning(old.period, old.requests, old.tokens, old.began, self._database.now().label("now"))

    async def _read(self, principal: str, model: str, limits: Mapping[str, Limits]) -> list[Count]:
        old = counts.c
        wanted = select(old.period, old.requests, old.tokens, old.began, self._database.now().label("now")).where(
            old.principal == principal, old.model == model
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(wanted)).all()
        return [_counted(row, row.period, limits[row.period]) for row in rows if row.period in limits]


def _counted(row: Any, period: str, limits: Limits) -> Count:
    ends = row.began + PERIODS[period]
    return Count(limits, row.requests, row.tokens, ends, max(0.0, ends - float(row.now)))
