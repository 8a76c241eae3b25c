"""The creation of a batch while its body arrives: a batch that nobody sees yet, under a lease of its own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.database import StorageError
from llama_stack_messages_provider.batches.intake import Intake, Keep, read_requests
from llama_stack_messages_provider.batches.rows import Batch
from llama_stack_messages_provider.batches.store import BatchStore, NewRequest
from llama_stack_messages_provider.batches.worker import wait_for
from llama_stack_messages_provider.errors import ApiError
from llama_stack_messages_provider.host.tasks import create_detached_background_task

__all__ = ["upload"]

INSERT_ROWS = 1000
INSERT_CHARACTERS = 4_000_000
"""A batch is written in transactions of about this much."""


async def upload(
    store: BatchStore,
    batch_id: str,
    body: AsyncIterator[bytes],
    config: BatchesConfig,
    keep: Keep | None = None,
) -> Batch:
    """Write the requests of a body as they arrive, then publish the batch.

    Args:
        store: Where the batch has begun.
        batch_id: The batch; nothing of it remains where this fails, or the client leaves.
        body: The bytes of `{"requests": [{"custom_id": ..., "params": {...}}, ...]}`.
        config: The limits, and how long the lease holds.
        keep: Makes of the parameters of a request what may be kept, or refuses them.

    Raises:
        InvalidRequestError: The body breaks a rule.
        RequestTooLargeError: It is too large.
        ApiError: The batch was taken for abandoned.
    """
    try:
        async with _lease(store, batch_id, config.lease_seconds):
            return await _receive(store, batch_id, body, Intake(config, keep))
    except BaseException:
        # Even if it is the client that left: nothing may remain. What cannot be removed now is when its lease ends.
        with suppress(StorageError):
            await asyncio.shield(store.discard(batch_id))
        raise


async def _receive(store: BatchStore, batch_id: str, body: AsyncIterator[bytes], intake: Intake) -> Batch:
    rows: list[NewRequest] = []
    characters = 0
    async with aclosing(read_requests(intake, body)) as found:
        async for piece in found:
            rows += piece
            characters += sum(len(row.params) for row in piece)
            if len(rows) >= INSERT_ROWS or characters >= INSERT_CHARACTERS:
                await _write(store, batch_id, rows)
                rows, characters = [], 0
    await _write(store, batch_id, rows)
    batch = await store.get(batch_id) if await store.publish(batch_id, intake.total) else None
    if batch is None:
        raise ApiError("The batch was lost while it was created")
    return batch


@asynccontextmanager
async def _lease(store: BatchStore, batch_id: str, lease_seconds: float) -> AsyncIterator[None]:
    """Within it the lease of a batch that is being created holds, in processes that run no requests as well."""
    done = asyncio.Event()

    async def renew() -> None:
        while not await wait_for(done, lease_seconds / 3):
            with suppress(StorageError):
                await store.renew(batch_id, lease_seconds)

    renewing = create_detached_background_task(renew())
    try:
        yield
    finally:
        done.set()
        await asyncio.gather(renewing, return_exceptions=True)


async def _write(store: BatchStore, batch_id: str, rows: Sequence[NewRequest]) -> None:
    if rows and not await store.append(batch_id, rows):
        raise ApiError("The batch was lost while it was created")
