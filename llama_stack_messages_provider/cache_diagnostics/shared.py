"""What replicas of the server tell each other of requests: fingerprints, by way of the stack's database."""

import asyncio
from dataclasses import fields

import orjson
from sqlalchemy.exc import SQLAlchemyError

from llama_stack_messages_provider.batches.database import SqlBackend, StorageError
from llama_stack_messages_provider.batches.lazy import LazyStore
from llama_stack_messages_provider.cache_diagnostics.fingerprint import Fingerprint
from llama_stack_messages_provider.cache_diagnostics.store import FingerprintStore
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tasks import create_detached_background_task

__all__ = ["MAX_WAITING", "SharedFingerprints"]

logger = get_logger(name=__name__, category="providers")

MAX_WAITING = 256
"""Fingerprints that wait to be written; any more are not."""

_READ_SECONDS = 1.0
_BYTES, _SEQUENCES = ("tools", "system", "others"), ("counts", "prefixes", "tokens")
# Of a file that is no database, SQLAlchemy says so in its own words.
_FAILURES = (StorageError, SQLAlchemyError)


class SharedFingerprints:
    """Fingerprints in a database. Where it fails, requests go on: a message is then not found.

    Args:
        backend: The database.
        seconds: How long they are kept.

    Attributes:
        waiting: How many wait to be written.
    """

    def __init__(self, backend: SqlBackend, seconds: float) -> None:
        self._store = LazyStore(backend, lambda database: FingerprintStore(database, seconds))
        self.waiting = 0

    async def get(self, client: str, message_id: str) -> Fingerprint | None:
        """The fingerprint of a client's message; None if it is not known, or nobody can tell in time."""
        try:
            async with asyncio.timeout(_READ_SECONDS):
                body = await (await self._store.opened()).get(client, message_id)
        except (*_FAILURES, TimeoutError) as exc:
            logger.warning("A request of another replica cannot be looked up", reason=str(exc) or "it took too long")
            return None
        return None if body is None else _decoded(body)

    def keep(self, client: str, message_id: str, request: Fingerprint) -> None:
        """Keep a fingerprint, behind the back of the answer."""
        if self.waiting < MAX_WAITING:
            self.waiting += 1
            create_detached_background_task(self._keep(client, message_id, _encoded(request)))

    async def _keep(self, client: str, message_id: str, body: bytes) -> None:
        try:
            await (await self._store.opened()).keep(client, message_id, body)
        except _FAILURES as exc:
            logger.warning("A request is not remembered for other replicas", reason=str(exc))
        finally:
            self.waiting -= 1

    async def close(self) -> None:
        """Close the connections."""
        await self._store.close()


def _encoded(request: Fingerprint) -> bytes:
    values = {each.name: getattr(request, each.name) for each in fields(request)}
    values |= {name: values[name].hex() for name in _BYTES}
    values["prefixes"] = [prefix.hex() for prefix in request.prefixes]
    values |= {name: list(values[name]) for name in ("counts", "tokens")}
    return orjson.dumps(values)


def _decoded(body: bytes) -> Fingerprint | None:
    """A fingerprint; None if another version of this package has written it in another way."""
    try:
        values = orjson.loads(body)
        values |= {name: bytes.fromhex(values[name]) for name in _BYTES}
        values["prefixes"] = map(bytes.fromhex, values["prefixes"])
        values |= {name: tuple(values[name]) for name in _SEQUENCES}
        return Fingerprint(**values)
    except (ValueError, TypeError, KeyError):
        return None
