"""What may happen to a batch and to its requests, as tables. Pure: no IO, no clock.

```
batch     creating ── publish ──> in_progress ── cancel ──> canceling
              │                       │                         │
              │                       └─────── nothing left ────┴──> ended
              └── creation failed ──> deleting <── delete ─────────────┘

request   pending ── claim ──> leased ── record ──> succeeded | errored
             │  ^                │
             │  └── lease lost ──┤  retry, release: pending again, unless the batch is over:
             └───────────────────┴──> canceled (the batch is canceling) | expired (its time is up)
```

`creating` and `deleting` are ours: nobody sees such a batch. A batch that expires stays `in_progress` until
its leased requests are done. Every change to a request happens under the lock of its batch's row, so that the
counts of an ended batch add up to its total.

Source: https://platform.claude.com/docs/en/build-with-claude/batch-processing and
`anthropic.types.messages.message_batch`.
"""

from collections.abc import Mapping
from enum import StrEnum

__all__ = [
    "BATCH_MOVES",
    "REQUEST_MOVES",
    "TERMINAL",
    "VISIBLE",
    "BatchStatus",
    "RequestState",
    "request_counts",
    "retry_delay",
    "sources",
    "unfinished_becomes",
]


class BatchStatus(StrEnum):
    """`processing_status`, and the two states that no client sees."""

    CREATING = "creating"
    IN_PROGRESS = "in_progress"
    CANCELING = "canceling"
    ENDED = "ended"
    DELETING = "deleting"


class RequestState(StrEnum):
    """The state of one request; the terminal ones are the types of its result."""

    PENDING = "pending"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    ERRORED = "errored"
    CANCELED = "canceled"
    EXPIRED = "expired"


BATCH_MOVES: Mapping[BatchStatus, frozenset[BatchStatus]] = {
    BatchStatus.CREATING: frozenset({BatchStatus.IN_PROGRESS, BatchStatus.DELETING}),
    BatchStatus.IN_PROGRESS: frozenset({BatchStatus.CANCELING, BatchStatus.ENDED}),
    BatchStatus.CANCELING: frozenset({BatchStatus.ENDED}),
    BatchStatus.ENDED: frozenset({BatchStatus.DELETING}),
    BatchStatus.DELETING: frozenset(),
}

REQUEST_MOVES: Mapping[RequestState, frozenset[RequestState]] = {
    RequestState.PENDING: frozenset({RequestState.LEASED, RequestState.CANCELED, RequestState.EXPIRED}),
    RequestState.LEASED: frozenset(
        {
            RequestState.PENDING,
            RequestState.SUCCEEDED,
            RequestState.ERRORED,
            RequestState.CANCELED,
            RequestState.EXPIRED,
        }
    ),
    RequestState.SUCCEEDED: frozenset(),
    RequestState.ERRORED: frozenset(),
    RequestState.CANCELED: frozenset(),
    RequestState.EXPIRED: frozenset(),
}

VISIBLE = frozenset({BatchStatus.IN_PROGRESS, BatchStatus.CANCELING, BatchStatus.ENDED})
TERMINAL = frozenset(state for state, moves in REQUEST_MOVES.items() if not moves)


def sources(target: BatchStatus) -> frozenset[BatchStatus]:
    """The states from which a batch may move to `target`: the guard of the update that does it."""
    return frozenset(status for status, moves in BATCH_MOVES.items() if target in moves)


def unfinished_becomes(status: BatchStatus, *, expired: bool) -> RequestState:
    """What becomes of a request that has no result and is not being run: it waits, or its batch is over."""
    if status is BatchStatus.CANCELING:
        return RequestState.CANCELED
    return RequestState.EXPIRED if expired else RequestState.PENDING


def request_counts(status: BatchStatus, total: int, tally: Mapping[RequestState, int] | None = None) -> dict[str, int]:
    """`request_counts` as the client reads them: all `processing` until the batch has ended."""
    ended = status is BatchStatus.ENDED
    counts = {str(state): (tally or {}).get(state, 0) if ended else 0 for state in sorted(TERMINAL)}
    return {"processing": 0 if ended else total, **counts}


def retry_delay(attempt: int, *, base: float, ceiling: float, retry_after: float | None, jitter: float) -> float:
    """Seconds until the next try of a request that has been tried `attempt` times.

    Args:
        attempt: Tries so far, at least 1.
        base: Seconds after the first try; doubled for each further one.
        ceiling: The most that doubling leads to. What the upstream asks for may be longer.
        retry_after: What the upstream asks for; never less than this.
        jitter: A number in [0, 1) that spreads the tries of many requests.
    """
    backoff = min(ceiling, base * 2.0 ** min(attempt - 1, 32))
    spread = backoff * (0.5 + jitter / 2)
    return spread if retry_after is None else max(retry_after, spread)
