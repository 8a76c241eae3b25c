"""What is measured, the figures made of it, and the bounds that the figures must keep."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load import Result

Runs = dict[str, list[Result]]
"""Results by measure, one a round."""
Rounds = dict[str, Runs]
"""Results by target and measure."""
Figures = dict[str, dict[str, float]]
"""Medians over the rounds by target and figure; a figure without a correct run is missing."""


@dataclass(frozen=True)
class Measure:
    """A case under a load: for ``seconds``, or one request a client if that is 0; first after so many rounds."""

    name: str
    case: str
    concurrency: int
    seconds: float = 0.0
    stagger: float = 0.0
    warm: int = 0
    rounds: int = 5
    after: int = 0


MEASURES = (
    Measure("plain_1", "bench-plain", 1, seconds=1.0, warm=5),
    Measure("plain_16", "bench-plain", 16, seconds=1.5, warm=16),
    Measure("plain_64", "bench-plain", 64, seconds=1.5, warm=16),
    Measure("first", "bench-first", 1, seconds=1.0, warm=2),
    Measure("saturated", "bench-saturated", 4, seconds=1.0, warm=1),
    Measure("paced", "bench-paced", 16, stagger=0.020),
    Measure("agent", "bench-agent", 8, seconds=1.5, warm=2),
    Measure("slow", "bench-slow", 500, rounds=3),
    Measure("agents", "bench-agents", 150, stagger=3.0, rounds=2, after=3),  # what it leaves is not "slow"'s
)


@dataclass(frozen=True)
class Figure:
    """A number made of a measure's result; ``added`` is what it is above the upstream hit directly."""

    name: str
    title: str
    unit: str
    measure: str
    value: Callable[[Result], float]
    added: bool = False
    more_is_better: bool = False


def per_thousand_requests(result: Result) -> float:
    """CPU seconds."""
    return result.cpu / result.requests * 1e3


def per_million_events(result: Result) -> float:
    """CPU seconds."""
    return result.cpu / result.events * 1e6


def requests_per_second(result: Result) -> float:
    """Requests a second over the whole run."""
    return result.requests / result.wall


def latency_ms(result: Result) -> float:
    """Median latency."""
    return result.latency * 1e3


def first_ms(result: Result) -> float:
    """Median time to the first event with text."""
    return result.first * 1e3


FIGURES = (
    Figure("cpu_plain", "CPU per 1,000 plain requests", "s", "plain_16", per_thousand_requests),
    Figure("cpu_agent", "CPU per 1,000 agent requests of 150 kB", "s", "agent", per_thousand_requests),
    Figure("cpu_saturated", "CPU per million stream events, saturated", "s", "saturated", per_million_events),
    Figure("cpu_paced", "CPU per million stream events, 20 ms apart", "s", "paced", per_million_events),
    Figure("added_1", "added latency, concurrency 1", "ms", "plain_1", latency_ms, added=True),
    Figure("added_16", "added latency, concurrency 16", "ms", "plain_16", latency_ms, added=True),
    Figure("added_64", "added latency, concurrency 64", "ms", "plain_64", latency_ms, added=True),
    Figure("added_first", "added time to the first event", "ms", "first", first_ms, added=True),
    Figure("rps_1", "requests/s, concurrency 1", "", "plain_1", requests_per_second, more_is_better=True),
    Figure("rps_16", "requests/s, concurrency 16", "", "plain_16", requests_per_second, more_is_better=True),
    Figure("rps_64", "requests/s, concurrency 64", "", "plain_64", requests_per_second, more_is_better=True),
    Figure("events", "stream events/s", "", "saturated", lambda r: r.events / r.wall, more_is_better=True),
    Figure("slow_wall", "500 streams of 5 s at once: wall time", "s", "slow", lambda r: r.wall),
    Figure("slow_peak", "500 streams: peak memory", "MiB", "slow", lambda r: r.peak / 2**20),
    Figure("agents_peak", "150 agents' streams behind 150 kB: peak memory", "MiB", "agents", lambda r: r.peak / 2**20),
)


def figures_of(rounds: Rounds) -> Figures:
    """Medians over the rounds; what is added is taken within each round, where both ran side by side."""
    return {
        target: {
            figure.name: statistics.median(values)
            for figure in FIGURES
            if (values := figure_values(figure, results, rounds.get("direct", {})))
        }
        for target, results in rounds.items()
    }


def figure_values(figure: Figure, results: Runs, direct: Runs) -> list[float]:
    """The figure in each round; empty if any round failed, or nothing tells what is added."""
    runs = results.get(figure.measure, [])
    if any(run.failures for run in runs):
        return []
    if not figure.added:
        return [figure.value(run) for run in runs]
    floors = direct.get(figure.measure, [])
    return [figure.value(run) - figure.value(floor) for run, floor in zip(runs, floors, strict=False)]


# --- the bounds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """``figure`` of ``ours`` is at most ``limit`` times the ``peer``'s; without a peer, at most ``limit``."""

    ours: str
    figure: str
    peer: str | None
    limit: float


ROWS = (
    "cpu_plain",
    "added_1",
    "added_first",
    "cpu_saturated",
    "cpu_paced",
    "cpu_agent",
    "slow_wall",
    "slow_peak",
)
NATIVE, TRANSLATED = "ours_native", "ours_translated"
BOUNDS = (
    Bound(NATIVE, "cpu_plain", "ogx_native", 0.35),
    Bound(NATIVE, "cpu_plain", "host", 0.18),
    Bound(NATIVE, "added_1", "ogx_native", 0.4),
    Bound(NATIVE, "added_first", "ogx_native", 0.45),
    Bound(NATIVE, "cpu_saturated", "ogx_native", 0.2),
    Bound(NATIVE, "cpu_saturated", "direct", 2.5),
    Bound(NATIVE, "cpu_paced", "ogx_native", 0.45),
    Bound(NATIVE, "cpu_agent", "ogx_native", 0.4),
    Bound(NATIVE, "slow_wall", None, 6.3),
    Bound(NATIVE, "slow_peak", "ogx_native", 1.0),
    Bound(NATIVE, "agents_peak", "ogx_native", 0.8),
    Bound(TRANSLATED, "cpu_plain", "host", 0.8),
    Bound(TRANSLATED, "cpu_plain", "ogx_translated", 1.2),
    Bound(TRANSLATED, "cpu_saturated", "host", 0.8),
    Bound(TRANSLATED, "cpu_saturated", "ogx_translated", 0.9),
    Bound(TRANSLATED, "cpu_paced", "host", 0.8),
    Bound(TRANSLATED, "cpu_paced", "ogx_translated", 0.9),
    Bound(TRANSLATED, "cpu_agent", "host", 0.7),
    Bound(TRANSLATED, "cpu_agent", "ogx_translated", 0.9),
    Bound(TRANSLATED, "slow_wall", "ogx_translated", 1.0),
    Bound(TRANSLATED, "slow_peak", "ogx_translated", 1.0),
    Bound(TRANSLATED, "agents_peak", "ogx_translated", 0.8),
    *(Bound(NATIVE, row, "litellm_native", 1.0) for row in ROWS),
    *(Bound(TRANSLATED, row, "litellm_translated", 1.0) for row in ROWS),
)


@dataclass(frozen=True)
class Check:
    """A bound and what was found."""

    bound: Bound
    found: float

    @property
    def kept(self) -> bool:
        """Whether the bound holds."""
        return self.found <= self.bound.limit


def check_bounds(figures: Figures) -> list[Check]:
    """The bounds of all that was measured."""
    checks = []
    for bound in BOUNDS:
        value = figures.get(bound.ours, {}).get(bound.figure)
        base = figures.get(bound.peer, {}).get(bound.figure) if bound.peer else 1.0
        if value is not None and base:
            checks.append(Check(bound, value / base))
    return checks
