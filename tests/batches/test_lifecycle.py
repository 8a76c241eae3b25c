from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.batches.ids import new_batch_id
from llama_stack_messages_provider.batches.lifecycle import (
    BATCH_MOVES,
    REQUEST_MOVES,
    TERMINAL,
    BatchStatus,
    RequestState,
    request_counts,
    retry_delay,
    sources,
    unfinished_becomes,
)


def test_every_state_has_its_moves() -> None:
    assert set(BATCH_MOVES) == set(BatchStatus)
    assert set(REQUEST_MOVES) == set(RequestState)


def test_the_results_are_those_of_the_documentation() -> None:
    assert {"succeeded", "errored", "canceled", "expired"} == TERMINAL


def test_every_batch_can_end_and_be_removed() -> None:
    for status in BatchStatus:
        reached, frontier = {status}, [status]
        while frontier:
            frontier = [target for source in frontier for target in BATCH_MOVES[source] if target not in reached]
            reached.update(frontier)
        assert BatchStatus.DELETING in reached


def test_sources_are_the_moves_read_backwards() -> None:
    for source, target in product(BatchStatus, BatchStatus):
        assert (source in sources(target)) == (target in BATCH_MOVES[source])


@pytest.mark.parametrize(
    ("status", "expired", "state"),
    [
        (BatchStatus.IN_PROGRESS, False, RequestState.PENDING),
        (BatchStatus.IN_PROGRESS, True, RequestState.EXPIRED),
        (BatchStatus.CANCELING, False, RequestState.CANCELED),
        (BatchStatus.CANCELING, True, RequestState.CANCELED),
    ],
)
def test_a_request_given_back_waits_unless_its_batch_is_over(
    status: BatchStatus, expired: bool, state: RequestState
) -> None:
    assert unfinished_becomes(status, expired=expired) is state
    assert state in REQUEST_MOVES[RequestState.LEASED] | {RequestState.PENDING}


tallies = st.dictionaries(st.sampled_from(sorted(TERMINAL)), st.integers(0, 100_000))


@given(tallies, st.sampled_from([BatchStatus.IN_PROGRESS, BatchStatus.CANCELING]))
def test_everything_counts_as_processing_until_the_end(tally: dict[RequestState, int], status: BatchStatus) -> None:
    total = sum(tally.values())

    counts = request_counts(status, total, tally)

    assert counts == {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}


@given(tallies)
def test_the_counts_of_an_ended_batch_add_up(tally: dict[RequestState, int]) -> None:
    counts = request_counts(BatchStatus.ENDED, sum(tally.values()), tally)

    assert counts["processing"] == 0
    assert sum(counts.values()) == sum(tally.values())


@given(
    st.integers(1, 10_000),
    st.floats(0.01, 10),
    st.floats(10, 600),
    st.none() | st.floats(0, 3600),
    st.floats(0, 1, exclude_max=True),
)
def test_a_retry_waits_at_least_as_long_as_the_upstream_asks(
    attempt: int, base: float, ceiling: float, retry_after: float | None, jitter: float
) -> None:
    delay = retry_delay(attempt, base=base, ceiling=ceiling, retry_after=retry_after, jitter=jitter)

    assert delay >= (retry_after or 0)
    assert 0 < delay <= max(ceiling, retry_after or 0)


def test_backoff_doubles_up_to_its_ceiling() -> None:
    delays = [retry_delay(n, base=1, ceiling=60, retry_after=None, jitter=1) for n in range(1, 9)]

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_ids_sort_by_their_creation() -> None:
    ids = [new_batch_id() for _ in range(2000)]

    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(len(batch_id) == len("msgbatch_") + 26 for batch_id in ids)
