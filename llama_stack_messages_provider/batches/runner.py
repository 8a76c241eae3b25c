"""Running one request of a batch, and judging how it went."""

import asyncio
import json
import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import orjson

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.identity import Identity, acting_as
from llama_stack_messages_provider.batches.job_queue import Lease, Outcome
from llama_stack_messages_provider.batches.lifecycle import RequestState, retry_delay
from llama_stack_messages_provider.errors import ApiError, InvalidRequestError, MessagesError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.telemetry.instruments import BATCH_REQUESTS
from llama_stack_messages_provider.telemetry.observed import current_batch

__all__ = ["Runner", "run_lease"]

logger = get_logger(name=__name__, category="providers")

WAIT_STATUSES = frozenset({429, 503, 529})
"""The upstream is there for nobody, or for fewer than ask: waiting helps, the request is not at fault."""

RETRY_STATUSES = frozenset({408, 500, 502, 504})
"""Worth another try, but not for ever: it may be this request that the upstream fails on."""

LONGEST_WAIT = 3600.0
"""Seconds; an upstream that asks for more is asked again after this."""


class Runner(Protocol):
    """Runs one non-streaming message with the creator's access."""

    async def __call__(
        self, params: dict[str, Any], identity: Identity | None, headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """The Message as JSON.

        Args:
            params: The request.
            identity: Whose it is.
            headers: Those of the batch's creation.

        Raises:
            MessagesError: What the client would have been told.
        """
        ...


async def run_lease(runner: Runner, lease: Lease, config: BatchesConfig) -> Outcome:
    """Run a request once; the outcome is its result, or that it should be tried again."""
    outcome = await _outcome(runner, lease, config)
    tried_again = outcome.state is RequestState.PENDING
    BATCH_REQUESTS.add(1, {"outcome": "tried_again" if tried_again else outcome.state.value})
    return outcome


async def _outcome(runner: Runner, lease: Lease, config: BatchesConfig) -> Outcome:
    try:
        message = await _run(runner, lease)
        return Outcome(lease, RequestState.SUCCEEDED, encode(message))
    except MessagesError as error:
        return decide_outcome(lease, error, config)
    except asyncio.CancelledError:
        # Unless it is us who are canceled, something below gave up on itself: that must not cost the lease.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return decide_outcome(lease, ApiError("The request was canceled by the server"), config)
    except Exception:
        logger.exception("A batch request failed in an unexpected way", batch=lease.batch_id, at=lease.position)
        return decide_outcome(lease, ApiError(), config)


async def _run(runner: Runner, lease: Lease) -> dict[str, Any]:
    params = orjson.loads(lease.params)
    if not isinstance(params, dict):
        raise InvalidRequestError("params: Input should be an object")
    if params.get("stream"):
        raise InvalidRequestError("stream: streaming is not supported in a batch")
    # The task is this request's own.
    current_batch.set(lease.batch_id)
    with acting_as(lease.owner):
        return await runner(params, lease.owner, lease.headers)


def decide_outcome(lease: Lease, error: MessagesError, config: BatchesConfig) -> Outcome:
    """Whether a failed request is tried again, and when."""
    headers = {name.lower(): value for name, value in error.headers.items()}
    waits = error.status in WAIT_STATUSES
    tries_left = lease.faults + 1 < config.max_attempts
    again = waits or (error.status in RETRY_STATUSES and tries_left)
    if not again or headers.get("x-should-retry") == "false":
        return Outcome(lease, RequestState.ERRORED, encode(error.body()))
    delay = retry_delay(
        lease.attempt,
        base=config.retry_seconds,
        ceiling=config.retry_max_seconds,
        retry_after=_retry_after(headers),
        jitter=random.random(),
    )
    return Outcome(lease, RequestState.PENDING, delay=delay, fault=not waits)


def encode(body: Mapping[str, Any]) -> str:
    """A result as it is stored."""
    try:
        return orjson.dumps(body, default=str).decode()
    except TypeError:  # Half of a surrogate pair, or an integer beyond 64 bits.
        return json.dumps(body, default=str, separators=(",", ":"))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after`, a number or a date; None if there is neither.

    Source: RFC 9110, section 10.2.3.
    """
    value = headers.get("retry-after-ms") or headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value) / (1000 if "retry-after-ms" in headers else 1)
    except ValueError:
        seconds = _seconds_until(value)
    return min(seconds, LONGEST_WAIT) if math.isfinite(seconds) and seconds > 0 else None


def _seconds_until(date: str) -> float:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
