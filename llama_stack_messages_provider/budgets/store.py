"""The counts of budgets: a row for each user, model and length of time, which is counted by one statement.

Minutes and days are those of UTC, by the database's clock. A row is of the newest one that anybody asked in, so that
there are never more rows than users and models.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Float,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    case,
    cast,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

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
        self._is_sqlite = database.engine.dialect.name == "sqlite"
        self._insert: Any = sqlite.insert if self._is_sqlite else postgresql.insert
        # A SQLite file is on this machine: its clock is ours.
        self._now: Any = bindparam("now", type_=Double) if self._is_sqlite else database.now()
        self._statements = {period: self._statement(period) for period in PERIODS}

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
        counted = []
        try:
            async with self._database.write() as connection:
                # In one order, so that two requests never wait for each other.
                for period in sorted(limits):
                    values = self._values(principal, model, limits[period], requests=1)
                    row = (await connection.execute(self._statements[period], values)).first()
                    if row is None:
                        raise _NoRoomError
                    counted.append(_counted(row, limits[period]))
        except _NoRoomError:  # which has undone what was counted in other periods
            return await self._read(principal, model, limits), False
        return counted, True

    async def charge(self, principal: str, model: str, limits: Mapping[str, Limits], tokens: int) -> None:
        """Count tokens, in the periods that are now, whatever their limits."""
        values = self._values(principal, model, Limits(None, None), tokens=tokens)
        async with self._database.write() as connection:
            for period in sorted(limits):
                await connection.execute(self._statements[period], values)

    def _values(
        self, principal: str, model: str, limits: Limits, *, requests: int = 0, tokens: int = 0
    ) -> dict[str, Any]:
        most = {"most_requests": limits.requests or _NO_LIMIT, "most_tokens": limits.tokens or _NO_LIMIT}
        clock = {"now": time.time()} if self._is_sqlite else {}
        return {"who": principal, "what": model, "more_requests": requests, "more_tokens": tokens, **most, **clock}

    def _statement(self, period: str) -> Any:
        """Counts in a period. It is made once: that costs more than to run it."""
        seconds = PERIODS[period]
        # SQLite need not have `floor`, and PostgreSQL's `cast` rounds.
        number = cast(self._now / seconds, BigInteger) if self._is_sqlite else func.floor(self._now / seconds)
        statement = self._insert(counts).values(
            principal=bindparam("who", type_=Text),
            model=bindparam("what", type_=Text),
            period=period,
            began=number * seconds,
            requests=_whole("more_requests"),
            tokens=_whole("more_tokens"),
        )
        given, old = statement.excluded, counts.c
        is_new = old.began < given.began
        return statement.on_conflict_do_update(
            index_elements=[old.principal, old.model, old.period],
            set_={
                "began": case((is_new, given.began), else_=old.began),
                "requests": case((is_new, given.requests), else_=old.requests + given.requests),
                "tokens": case((is_new, given.tokens), else_=old.tokens + given.tokens),
            },
            where=is_new | ((old.requests < _whole("most_requests")) & (old.tokens < _whole("most_tokens"))),
        ).returning(old.period, old.requests, old.tokens, old.began, self._now.label("now"))

    async def _read(self, principal: str, model: str, limits: Mapping[str, Limits]) -> list[Count]:
        old = counts.c
        wanted = select(old.period, old.requests, old.tokens, old.began, self._database.now().label("now")).where(
            old.principal == principal, old.model == model
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(wanted)).all()
        return [_counted(row, limits[row.period]) for row in rows if row.period in limits]


def _whole(name: str) -> Any:
    return bindparam(name, type_=BigInteger)


def _counted(row: Any, limits: Limits) -> Count:
    ends = row.began + PERIODS[row.period]
    return Count(limits, row.requests, row.tokens, ends, max(0.0, ends - float(row.now)))
