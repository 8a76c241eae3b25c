"""Writes the parts of docs/ that come from the code: `python scripts/docs.py`, or `--check`.

Each part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opentelemetry.metrics import Counter, Instrument
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llama_stack_messages_provider import metrics as own_metrics
from llama_stack_messages_provider.api_support import SUPPORT, Kind, Support
from llama_stack_messages_provider.config import MessagesConfig
from llama_stack_messages_provider.host import telemetry as host_metrics
from llama_stack_messages_provider.telemetry import instruments

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripts.compare_spec import REFERENCE, compare, score_line

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "latest.json"
DOCS = Path(__file__).parents[1] / "docs"


def configuration_table() -> str:
    """Every setting of `inline::messages`, with its default and meaning."""
    rows = [f"| `{name}` | `{default}` | {text} |" for name, default, text in _settings(MessagesConfig)]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _settings(nested, f"{prefix}{name}.")
        else:
            yield prefix + name, _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, SecretStr):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | dict | list):
        return repr(value).replace("'", '"')
    return f"{value:g}" if value < 1e6 else str(value)


def conformance() -> str:
    """How far our OpenAPI document is Anthropic's."""
    return f"Of Anthropic's published API, {score_line(compare(json.loads(REFERENCE.read_text())))}."


SPEED_TARGETS = {
    "ours_native": "ours, native",
    "ogx_native": "OGX, native",
    "litellm_native": "LiteLLM, native",
    "ours_translated": "ours, translated",
    "ogx_translated": "OGX, translated",
    "litellm_translated": "LiteLLM, translated",
    "host": "host's chat route",
}
SPEED_ROWS = {
    "cpu_plain": "CPU for a plain request, ms",
    "cpu_agent": "CPU for an agent's request of 150 kB, ms",
    "cpu_saturated": "CPU for a million stream events, saturated, s",
    "cpu_paced": "the same, 20 ms apart, s",
    "added_1": "added latency, one client, ms",
    "added_first": "added time to the first event, ms",
    "slow_wall": "500 streams of 5 s at once, s",
    "slow_peak": "their peak memory, MiB",
    "agents_peak": "150 agents' streams behind 150 kB each, peak memory, MiB",
}
RIVALS = {
    "ours_native": ("ogx_native", "litellm_native", "host"),
    "ours_translated": ("ogx_translated", "litellm_translated", "host"),
}


def speed() -> str:
    """The last full run of the benchmarks: its medians, and ours as ratios of the others'."""
    medians = json.loads(RESULTS.read_text())["medians"]
    figures = [[title, *(_figure(medians[each][name]) for each in SPEED_TARGETS)] for name, title in SPEED_ROWS.items()]
    pairs = [(ours, peer) for ours, peers in RIVALS.items() for peer in peers]
    ratios = [
        [title.rpartition(", ")[0], *(f"{medians[ours][name] / medians[peer][name]:.2f}" for ours, peer in pairs)]
        for name, title in SPEED_ROWS.items()
    ]
    direct = medians["ours_native"]["cpu_saturated"] / medians["direct"]["cpu_saturated"]
    return "\n".join(
        [
            *_table(["", *SPEED_TARGETS.values()], figures),
            "",
            "Ratio (ours / theirs):",
            "",
            *_table(["", *(f"{_name(ours)} : {_name(peer)}" for ours, peer in pairs)], ratios),
            "",
            f"A saturated native event costs {direct:.1f} times what it costs the upstream to send it.",
        ]
    )


def _name(target: str) -> str:
    return SPEED_TARGETS[target].removeprefix("ours, ").split(",")[0]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in rows)]


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


_HEADINGS: Mapping[Kind, str] = {
    "parameter": "Parameters",
    "batch parameter": "Parameters of batches",
    "setting": "Fields of parameters and messages",
    "header": "Headers",
    "block": "Content blocks of requests",
    "block field": "Optional fields of blocks",
    "source": "Sources of images and documents",
    "tool": "Tools",
    "tool field": "Optional fields of tools",
    "tool choice": "Tool choices",
    "response block": "Content blocks of answers",
    "delta": "Deltas of streams",
    "event": "Events of streams",
    "stop reason": "Stop reasons",
    "error": "Error types",
}


def feature_table() -> str:
    """The table in Markdown, a section a kind, equal rows joined: what README shows."""
    return "\n\n".join(_section(kind) for kind in SUPPORT)


def _section(kind: Kind) -> str:
    rows: dict[Support, list[str]] = {}
    for name, support in SUPPORT[kind].items():
        rows.setdefault(support, []).append(f"`{name}`")
    lines = [f"| {', '.join(names)} | {support.translated} | {support.reason} |" for support, names in rows.items()]
    return "\n".join([f"### {_HEADINGS[kind]}", "", "| what | under translation | how |", "|---|---|---|", *lines])


def metric_rows() -> list[tuple[str, str, str]]:
    """Every metric: its name, its name in Prometheus, its meaning."""
    found: dict[str, Any] = {
        each._name: each  # type: ignore[attr-defined]
        for module in (instruments, own_metrics, host_metrics)
        for each in vars(module).values()
        if isinstance(each, Instrument)
    }
    return [(name, prometheus_name(each), each._description) for name, each in sorted(found.items())]


def prometheus_name(instrument: Any) -> str:
    """The name that the OpenTelemetry Collector and Prometheus's own OTLP receiver give a metric.

    Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-metadata-1
    """
    name = instrument._name.replace(".", "_")
    is_counter = isinstance(instrument, Counter)
    name = name.removesuffix("_total") if is_counter else name
    if instrument._unit == "s" and not name.endswith("_seconds"):
        name += "_seconds"
    return f"{name}_total" if is_counter else name


def metrics_table() -> str:
    """Every metric that requests are in."""
    rows = [f"| `{name}` | `{prometheus}` | {meaning} |" for name, prometheus, meaning in metric_rows()]
    return "\n".join(["| metric | in Prometheus | meaning |", "|---|---|---|", *rows])


PARTS: dict[str, Callable[[], str]] = {
    "configuration": configuration_table,
    "conformance": conformance,
    "features": feature_table,
    "metrics": metrics_table,
    "speed": speed,
}


def written(text: str) -> str:
    """A page with its generated parts made anew."""
    for name, make in PARTS.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(pattern, lambda found, make=make: f"{found[1]}\n{make()}\n\n{found[2]}", text, flags=re.DOTALL)
    return text


def main() -> int:
    """Write, or check."""
    old = {page: page.read_text() for page in DOCS.glob("*.md")}
    new = {page: written(text) for page, text in old.items()}
    if "--check" in sys.argv:
        return int(old != new)
    for page, text in new.items():
        page.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
