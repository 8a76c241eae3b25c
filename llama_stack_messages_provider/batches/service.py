"""Message Batches as the routes call them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.identity import (
    AccessRule,
    Action,
    Identity,
    allowed,
    refuse_credentials,
)
from llama_stack_messages_provider.batches.ids import is_id, new_batch_id
from llama_stack_messages_provider.batches.intake import Keep
from llama_stack_messages_provider.batches.lifecycle import BatchStatus, RequestState
from llama_stack_messages_provider.batches.rows import Batch
from llama_stack_messages_provider.batches.runtime import BatchRuntime
from llama_stack_messages_provider.batches.upload import upload
from llama_stack_messages_provider.batches.wire import message_batch, message_batch_page, result_line
from llama_stack_messages_provider.errors import (
    ApiError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)

__all__ = ["BatchService"]

PAGE_CHARACTERS = 1_000_000
PAGE_ROWS = 1000
"""Results are read in pages of about this much: memory does not grow with the batch."""

MAX_LIMIT = 1000


class BatchService:
    """Accepts batches and answers for them; whose they are is checked here.

    Args:
        config: The settings.
        runtime: The database, and the worker that runs requests.
        policy: The host's access policy.
        keeps: Makes what says what is kept of the requests of the current user.
    """

    def __init__(
        self,
        config: BatchesConfig,
        runtime: BatchRuntime,
        policy: Sequence[AccessRule] = (),
        keeps: Callable[[], Awaitable[Keep]] | None = None,
    ) -> None:
        self._keeps = keeps
        self._config = config
        self.runtime = runtime
        self._policy = policy

    async def create(
        self, body: AsyncIterator[bytes], identity: Identity | None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """A batch of the requests in the body, which is read as it arrives.

        Args:
            body: The bytes of `{"requests": [{"custom_id": ..., "params": {...}}, ...]}`.
            identity: Whose batch it is, and with whose access its requests run.
            headers: Headers that go with each of its requests.

        Raises:
            InvalidRequestError: The body breaks a rule, or the request carries provider credentials.
            RequestTooLargeError: It is too large.
            PermissionDeniedError: The host's access policy.
        """
        refuse_credentials()
        batch_id = new_batch_id()
        if not allowed(self._policy, Action.CREATE, batch_id, identity, identity):
            raise PermissionDeniedError("The access policy does not let you create message batches")
        keep = await self._keeps() if self._keeps is not None else None
        running = await self.runtime.running()
        await running.store.begin(
            batch_id,
            identity,
            lease_seconds=self._config.lease_seconds,
            expires_after=self._config.expires_after_hours * 3600,
            headers=headers,
        )
        try:
            batch = await upload(running.store, batch_id, body, self._config, keep)
        except BaseException:
            running.worker.wake_sweep()
            raise
        running.worker.wake()
        return self._wire(batch)

    async def retrieve(self, batch_id: str, identity: Identity | None) -> dict[str, Any]:
        """The batch.

        Raises:
            NotFoundError: There is none of that id that is one's own.
        """
        return self._wire(await self._own(batch_id, identity))

    async def progress(self, batch_id: str, identity: Identity | None) -> tuple[int, int]:
        """How many requests of the batch are done, and of how many; its counts do not tell before its end."""
        batch = await self._own(batch_id, identity)
        if batch.status is BatchStatus.ENDED:
            return batch.total, batch.total
        running = await self.runtime.running()
        return batch.total - await running.store.unfinished(batch_id), batch.total

    async def overview(self, limit: int) -> Sequence[dict[str, Any]]:
        """Batches of everybody for an administrator, without what says whose they are: those that have not ended
        first, then the newest. Times are seconds since 1970.

        Raises:
            StorageError: There is no database at present.
        """
        running = await self.runtime.running()
        return [
            {
                "id": batch.id,
                "status": str(batch.status),
                "created_at": batch.created_at,
                "ended_at": batch.ended_at,
                "done": batch.total - left,
                "total": batch.total,
                "failed": sum(n for state, n in batch.tally.items() if state is not RequestState.SUCCEEDED),
            }
            for batch, left in await running.store.newest(limit)
        ]

    async def list(
        self,
        identity: Identity | None,
        *,
        limit: int = 20,
        after_id: str | None = None,
        before_id: str | None = None,
    ) -> dict[str, Any]:
        """A page of one's own batches, newest first.

        Args:
            identity: Who asks.
            limit: 1 to 1000.
            after_id: The page that follows this batch.
            before_id: The page that comes just before this batch; with `after_id`, no further than that.

        Raises:
            InvalidRequestError: `limit` is out of range, or a cursor is no id.
        """
        for name, cursor in (("after_id", after_id), ("before_id", before_id)):
            if cursor is not None and not is_id(cursor):
                raise InvalidRequestError(f"{name}: Input should be the id of a message batch")
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequestError(f"limit: Input should be between 1 and {MAX_LIMIT}")
        running = await self.runtime.running()
        found: list[Batch] = []
        while len(found) <= limit:
            page = await running.store.page(identity, limit + 1, after_id=after_id, before_id=before_id)
            mine = [batch for batch in page if self._may(Action.READ, batch, identity)]
            found = found + mine if before_id is None else mine + found
            if len(page) <= limit:
                break
            after_id, before_id = (page[-1].id, None) if before_id is None else (after_id, page[0].id)
        has_more = len(found) > limit
        kept = found[:limit] if before_id is None else found[-limit:]
        return message_batch_page([self._wire(batch) for batch in kept], has_more=has_more)

    async def cancel(self, batch_id: str, identity: Identity | None) -> dict[str, Any]:
        """The batch, which runs no more requests from now on. Without effect if it has ended.

        Raises:
            NotFoundError: There is none of that id that is one's own.
            PermissionDeniedError: The host's access policy.
        """
        await self._own(batch_id, identity, Action.UPDATE)
        running = await self.runtime.running()
        batch = await running.store.cancel(batch_id)
        if batch is None:
            raise _not_found(batch_id)
        running.worker.wake_sweep()
        return self._wire(batch)

    async def delete(self, batch_id: str, identity: Identity | None) -> dict[str, Any]:
        """Remove a batch that has ended, with its results.

        Raises:
            NotFoundError: There is none of that id that is one's own.
            PermissionDeniedError: The host's access policy.
            InvalidRequestError: It has not ended.
        """
        await self._own(batch_id, identity, Action.DELETE)
        running = await self.runtime.running()
        if not await running.store.discard(batch_id):
            raise InvalidRequestError(f"Message batch {batch_id} has not ended yet: cancel it before deleting it")
        running.worker.wake_sweep()
        return {"id": batch_id, "type": "message_batch_deleted"}

    async def results(self, batch_id: str, identity: Identity | None) -> AsyncIterator[bytes]:
        """The results as JSON lines, in the order of the requests. Raises before the first line, if at all.

        Raises:
            NotFoundError: There is none of that id that is one's own, or its results have been removed.
            InvalidRequestError: It has not ended.
        """
        batch = await self._own(batch_id, identity)
        if batch.status is not BatchStatus.ENDED:
            raise InvalidRequestError(f"Message batch {batch_id} has not ended yet: it has no results")
        if batch.archived_at is not None:
            raise NotFoundError(f"The results of message batch {batch_id} are no longer available")
        return self._lines(batch)

    async def _lines(self, batch: Batch) -> AsyncIterator[bytes]:
        store = (await self.runtime.running()).store
        position, rows = -1, 32
        while position + 1 < batch.total:
            page = await store.results(batch.id, after=position, limit=rows)
            if not page:
                # Deleted by another request; a file that ends early must not look complete.
                raise ApiError(f"Message batch {batch.id} was removed while its results were read")
            lines = "".join(map(result_line, page))
            yield lines.encode()
            position = page[-1].position
            rows = max(1, min(PAGE_ROWS, PAGE_CHARACTERS * len(page) // len(lines)))

    # --- whose it is ---

    async def _own(self, batch_id: str, identity: Identity | None, action: Action = Action.READ) -> Batch:
        if not is_id(batch_id):
            raise NotFoundError("Message batch not found: no batch has such an id")
        running = await self.runtime.running()
        batch = await running.store.get(batch_id)
        if batch is None or not self._may(Action.READ, batch, identity):
            raise _not_found(batch_id)
        if not self._may(action, batch, identity):
            raise PermissionDeniedError(f"The access policy does not let you {action} message batch {batch_id}")
        return batch

    def _may(self, action: Action, batch: Batch, identity: Identity | None) -> bool:
        return allowed(self._policy, action, batch.id, batch.owner, identity)

    def _wire(self, batch: Batch) -> dict[str, Any]:
        return message_batch(batch, self._config.public_url)


def _not_found(batch_id: str) -> NotFoundError:
    return NotFoundError(f"Message batch {batch_id} not found")
