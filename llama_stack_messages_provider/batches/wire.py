"""Batches and results as clients read them.

Source: `anthropic.types.messages.message_batch` and `.message_batch_individual_response`.
"""

from datetime import UTC, datetime
from typing import Any

from llama_stack_messages_provider.batches.lifecycle import BatchStatus, RequestState, request_counts
from llama_stack_messages_provider.batches.rows import Batch
from llama_stack_messages_provider.batches.store import StoredResult

__all__ = ["message_batch", "message_batch_page", "result_line"]


def message_batch(batch: Batch, public_url: str | None) -> dict[str, Any]:
    """A batch; its `results_url` is there from its end until its results are archived."""
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": str(batch.status),
        "request_counts": request_counts(batch.status, batch.total, batch.tally),
        "ended_at": _rfc3339(batch.ended_at),
        "created_at": _rfc3339(batch.created_at),
        "expires_at": _rfc3339(batch.expires_at),
        "archived_at": _rfc3339(batch.archived_at),
        "cancel_initiated_at": _rfc3339(batch.cancel_initiated_at),
        "results_url": _results_url(batch, public_url),
    }


def message_batch_page(page: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of the list."""
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def result_line(result: StoredResult) -> str:
    """A line of the results; the stored JSON is put in as it is. `custom_id` needs no escaping."""
    return f'{{"custom_id":"{result.custom_id}","result":{_result(result)}}}\n'


def _result(result: StoredResult) -> str:
    match result.state:
        case RequestState.SUCCEEDED:
            return f'{{"type":"succeeded","message":{result.body}}}'
        case RequestState.ERRORED:
            return f'{{"type":"errored","error":{result.body}}}'
        case _:
            return f'{{"type":"{result.state}"}}'


def _results_url(batch: Batch, public_url: str | None) -> str | None:
    if batch.status is not BatchStatus.ENDED or batch.archived_at is not None:
        return None
    # The SDKs join a path to their own base URL, which is right behind any proxy; a Host header may not be.
    return f"{(public_url or '').rstrip('/')}/v1/messages/batches/{batch.id}/results"


def _rfc3339(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
