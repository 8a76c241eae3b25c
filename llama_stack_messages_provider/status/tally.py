"""What was counted in this process lately: an hour of minutes, of each model, and the last failures.

It is fed where metrics are recorded (`metrics.py`, `status.noted`), and holds numbers and names, no words of anybody's.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llama_stack_messages_provider.telemetry.answers import AnswerReader

__all__ = [
    "MAX_FAILURES",
    "MAX_MODELS",
    "MAX_NAME",
    "MAX_NAMES",
    "MINUTES",
    "NO_MODEL",
    "TALLY",
    "Failure",
    "Figures",
    "Tally",
]

MINUTES: int = 60
MAX_MODELS: int = 200
"""Models that are told apart in a minute."""
MAX_NAMES: int = 100
"""Names of parts that were dropped, and of changes."""
MAX_FAILURES: int = 50
MAX_NAME: int = 200
"""Characters of a name that somebody else chose."""

NO_MODEL = "no model"
"""Stands for the models of requests for which none was found."""

_OTHER = "other"


@dataclass(slots=True)
class Figures:
    """Sums of a minute or an hour.

    Args:
        requests: Messages that came to an end, those of batches too.
        failures: Those that failed; not those that their client gave up.
        input_tokens: Tokens of prompts, wherever they were read from.
        cached_tokens: Those of them that were read from a cache.
        output_tokens: Tokens that were generated.
        first_tokens: Streams that had a piece of content.
        first_token_seconds: How long all of these took to get there.
    """

    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    first_tokens: int = 0
    first_token_seconds: float = 0.0

    def add(self, other: "Figures") -> None:
        """Add another's."""
        self.requests += other.requests
        self.failures += other.failures
        self.input_tokens += other.input_tokens
        self.cached_tokens += other.cached_tokens
        self.output_tokens += other.output_tokens
        self.first_tokens += other.first_tokens
        self.first_token_seconds += other.first_token_seconds


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed.

    Args:
        at: When, in seconds since 1970.
        request_id: What its client was told.
        model: The model's name; the one that was asked for, where there is no such model.
        status: The status of its answer; of one that had begun, what it would have been.
        error: Anthropic's error type, or the name of an exception of ours.
        streamed: Whether its answer was a stream.
        batch: The batch that it was one of.
    """

    at: float
    request_id: str
    model: str
    status: int
    error: str
    streamed: bool = False
    batch: str | None = None


class Tally:
    """Counts.

    Args:
        clock: Seconds since 1970.

    Attributes:
        running: Messages that are being answered.
        on: Whether requests are counted.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._started = clock()
        self._minutes: deque[tuple[int, dict[str, Figures]]] = deque(maxlen=MINUTES)
        self._minute = -1
        self._now: dict[str, Figures] = {}
        self._dropped: Counter[str] = Counter()
        self._adapted: dict[str, Counter[str]] = {}
        self._failures: deque[Failure] = deque(maxlen=MAX_FAILURES)
        self.running = 0
        self.on = True

    def figures(self, model: str) -> Figures:
        """The sums of a model in this minute, to be added to."""
        minute = int(self._clock() // 60)
        if minute != self._minute:
            self._minute, self._now = minute, {}
            self._minutes.append((minute, self._now))
        found = self._now.get(model)
        if found is None:
            name = model[:MAX_NAME] if len(self._now) < MAX_MODELS else _OTHER
            found = self._now.setdefault(name, Figures())
        return found

    def spend(self, model: str, reader: AnswerReader) -> None:
        """Add what an answer cost."""
        if reader.told:
            figures = self.figures(model)
            figures.input_tokens += reader.input_tokens
            figures.cached_tokens += reader.cached().get("read", 0)
            figures.output_tokens += reader.output_tokens

    def drop(self, part: str) -> None:
        """A part of a request did not reach its model."""
        _count(self._dropped, part)

    def adapt(self, model: str, change: str) -> None:
        """A request was changed until its upstream took it."""
        known = self._adapted.get(model)
        if known is None and len(self._adapted) < MAX_MODELS:
            known = self._adapted[model] = Counter()
        if known is not None:
            _count(known, change)

    def fail(self, request_id: str, model: str, status: int, error: str, streamed: bool, batch: str | None) -> None:
        """A request failed."""
        named = model[:MAX_NAME]
        self._failures.append(Failure(self._clock(), request_id, named, status, error, streamed, batch))

    def report(self) -> dict[str, Any]:
        """All of it as JSON; `minutes` are the last hour's, without those in which nothing was counted."""
        now = self._clock()
        since = int(now // 60) - MINUTES
        minutes = [(minute, models) for minute, models in self._minutes if minute > since]
        return {
            "now": now,
            "started_at": self._started,
            "running": self.running,
            "minutes": [{"at": minute * 60, **asdict(_sum(models))} for minute, models in minutes],
            "usage": _by_model([models for _, models in minutes]),
            "dropped": dict(self._dropped.most_common()),
            "adapted": {model: dict(changes) for model, changes in self._adapted.items()},
            "failures": [asdict(failure) for failure in reversed(self._failures)],
        }


def _count(counter: Counter[str], name: str) -> None:
    counter[name[:MAX_NAME] if name in counter or len(counter) < MAX_NAMES else _OTHER] += 1


def _sum(models: Mapping[str, Figures]) -> Figures:
    total = Figures()
    for figures in models.values():
        total.add(figures)
    return total


def _by_model(minutes: list[dict[str, Figures]]) -> dict[str, dict[str, Any]]:
    found: dict[str, Figures] = {}
    for models in minutes:
        for model, figures in models.items():
            name = model if model in found or len(found) < MAX_MODELS else _OTHER
            found.setdefault(name, Figures()).add(figures)
    return {model: asdict(figures) for model, figures in found.items()}


TALLY = Tally()
"""This process's, as its metrics are."""
