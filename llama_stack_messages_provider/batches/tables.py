"""The rows that batches are kept in, and how they come to exist.

```
messages_schema           one row: the version of these tables
messages_batches          a batch, its owner, its state, its times, and its counts once it has ended
messages_batch_requests   a request of a batch: what to run, its state, its lease
messages_batch_results    the Message or the error of a request that has been run
messages_batch_workers    a running process, and until when its leases hold; likewise each body that arrives
```

A request's lease is its `lease_owner`, a worker whose own row has not run out: renewing all leases of a
process is one update of one row. `attempts` counts the claims, and is the fencing token of the lease: what an
earlier claim has to say is not heard. Times are seconds since 1970, by the clock of the database.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
    text,
)

__all__ = ["VERSION", "batches", "create_schema", "requests", "results", "workers"]

VERSION = 2

metadata = MetaData()

# Ids are compared by their bytes, whatever the collation of the database.
_Id = String(64).with_variant(String(64, collation="C"), "postgresql")
_Time = Float(53)

schema = Table("messages_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

batches = Table(
    "messages_batches",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("owner_principal", Text),
    Column("owner_attributes", Text),
    Column("headers", Text, nullable=False),  # JSON: those of the creation that go with each of its requests
    Column("status", String(16), nullable=False),
    Column("creator", _Id, nullable=False),  # whose lease keeps it while its body arrives: its own id among the workers
    Column("created_at", _Time, nullable=False),
    Column("expires_at", _Time, nullable=False),
    Column("cancel_initiated_at", _Time),
    Column("ended_at", _Time),
    Column("archived_at", _Time),
    Column("served_at", _Time, nullable=False),  # when rows were last claimed: the longest waiting batch is next
    Column("total", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("errored", Integer, nullable=False),
    Column("canceled", Integer, nullable=False),
    Column("expired", Integer, nullable=False),
)
Index("messages_batches_by_owner", batches.c.owner_principal, batches.c.id)
Index("messages_batches_by_status", batches.c.status)

requests = Table(
    "messages_batch_requests",
    metadata,
    Column("batch_id", _Id, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("custom_id", String(64), nullable=False),
    Column("params", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("not_before", _Time, nullable=False),  # 0 until the first try
    Column("attempts", Integer, nullable=False),
    Column("faults", Integer, nullable=False),  # failures of this request's own
    Column("lease_owner", _Id),
)
_pending = text("state = 'pending'")
_leased = text("state = 'leased'")
Index(
    "messages_batch_requests_pending",
    requests.c.batch_id,
    requests.c.not_before,
    requests.c.position,
    sqlite_where=_pending,
    postgresql_where=_pending,
)
Index(
    "messages_batch_requests_leased",
    requests.c.batch_id,
    requests.c.lease_owner,
    sqlite_where=_leased,
    postgresql_where=_leased,
)

results = Table(
    "messages_batch_results",
    metadata,
    Column("batch_id", _Id, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("body", Text, nullable=False),  # JSON: a Message, or an error response
)

workers = Table(
    "messages_batch_workers",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("expires_at", _Time, nullable=False),
    Column("process", BigInteger, nullable=False),  # for the operator who looks
)


class SchemaVersionError(RuntimeError):
    """The tables were made by another version of this package."""


# Any number; one that nobody else's advisory lock is likely to have.
_SCHEMA_LOCK = 0x6D73675F62617463


def create_schema(connection: Connection) -> None:
    """Create what is missing, in a transaction that only one process at a time can be in.

    Raises:
        SchemaVersionError: The tables are there, in a version that this package does not know.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
    metadata.create_all(connection, checkfirst=True)
    version = connection.scalar(select(schema.c.version))
    if version is None:
        connection.execute(insert(schema).values(version=VERSION))
    elif version != VERSION:
        raise SchemaVersionError(
            f"The tables messages_batch_* are of version {version}; this package knows version {VERSION}"
        )
