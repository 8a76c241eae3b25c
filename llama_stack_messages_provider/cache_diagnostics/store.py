"""Fingerprints of requests in the stack's database, for every replica of the server.

A row is of one message: it has digests of the user's and the message's names, and a fingerprint, which holds digests
and sizes. Rows go by their age, and of each user the newest are kept.
"""

from hashlib import blake2b

from sqlalchemy import Column, Double, LargeBinary, MetaData, String, Table, bindparam, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from llama_stack_messages_provider.batches.database import Database

__all__ = ["MAX_OF_ONE_USER", "FingerprintStore"]

MAX_OF_ONE_USER = 4096
"""Messages of one user that are remembered."""

_SWEPT_EACH = 64
_NAME_BYTES = 16

metadata = MetaData()
fingerprints = Table(
    "messages_fingerprints",
    metadata,
    Column("message", String(2 * _NAME_BYTES), primary_key=True),
    Column("principal", String(2 * _NAME_BYTES), nullable=False, index=True),
    Column("kept", Double, nullable=False, index=True),  # seconds since 1970
    Column("body", LargeBinary, nullable=False),
)

# Any number; one that nobody else's advisory lock is likely to have.
_SCHEMA_LOCK = 0x6D73675F66707274


class FingerprintStore:
    """Keeps fingerprints.

    Args:
        database: Where.
        seconds: How long.
        most: How many of one user.
    """

    def __init__(self, database: Database, seconds: float, most: int = MAX_OF_ONE_USER) -> None:
        self._database = database
        self._most = most
        self._seconds = seconds
        self._written = 0
        insert = sqlite.insert if database.engine.dialect.name == "sqlite" else postgresql.insert
        given = insert(fingerprints).values(
            message=bindparam("which"), principal=bindparam("who"), body=bindparam("what"), kept=bindparam("at")
        )
        self._insert = given.on_conflict_do_update(
            index_elements=[fingerprints.c.message], set_={"body": given.excluded.body, "kept": given.excluded.kept}
        )

    async def create_schema(self) -> None:
        """Create the table, unless it is there; raises as `Database.write` does."""
        async with self._database.write() as connection:
            if self._database.engine.dialect.name == "postgresql":
                await connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            await connection.run_sync(lambda sync: metadata.create_all(sync, checkfirst=True))

    async def get(self, principal: str, message_id: str) -> bytes | None:
        """The fingerprint of a user's message, if it is not too old; raises as `Database.read` does."""
        row = fingerprints.c
        wanted = select(row.body).where(
            row.message == _name(principal, message_id), row.kept > self._database.now() - self._seconds
        )
        async with self._database.read() as connection:
            return (await connection.execute(wanted)).scalar()

    async def keep(self, principal: str, message_id: str, body: bytes) -> None:
        """Keep a fingerprint, and let go of what is too old or too much; raises as `Database.write` does."""
        values = {"which": _name(principal, message_id), "who": _name(principal), "what": body}
        self._written += 1
        async with self._database.write() as connection:
            now = float((await connection.execute(select(self._database.now()))).scalar_one())
            await connection.execute(self._insert, {**values, "at": now})
            if self._written % _SWEPT_EACH == 1:
                row = fingerprints.c
                await connection.execute(delete(fingerprints).where(row.kept <= now - self._seconds))
                newest = select(row.kept).where(row.principal == values["who"]).order_by(row.kept.desc())
                last = newest.offset(self._most).limit(1).scalar_subquery()
                await connection.execute(delete(fingerprints).where(row.principal == values["who"], row.kept <= last))


def _name(*parts: str) -> str:
    """What stands for names: of a length that is known, whatever characters they have."""
    digest = blake2b(digest_size=_NAME_BYTES)
    for part in parts:
        data = part.encode(errors="surrogatepass")
        digest.update(b"%d " % len(data) + data)
    return digest.hexdigest()
