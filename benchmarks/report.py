"""The results as a table in the terminal, as JSON, and as a picture."""

import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import orjson

from benchmarks.measures import BOUNDS, FIGURES, MEASURES, ROWS, Check, Figure, Figures, Rounds, figure_values
from benchmarks.payloads import Json
from benchmarks.targets import TARGETS

NOTES = (
    "one process for each server; servers on one core, load and upstream on another; all on 127.0.0.1",
    "every stack-based server and LiteLLM log requests as JSON; none checks API keys",
    "Llama Stack and OGX do not write to their inference stores (benchmarks/stack_server.py, enabled: false)",
    "every answer was verified: text, tool calls, number of events, end; rounds interleaved, medians shown",
    "'added' is the median latency minus that of the upstream hit directly, in the same round",
)


def printed(value: float | None) -> str:
    """A number with three digits that matter."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures: Figures) -> str:
    """All figures, a column for each target."""
    names = list(figures)
    lines = [f"{'':46}" + "".join(f"{TARGETS[name].title:>21}" for name in names)]
    for figure in FIGURES:
        if not any(figure.name in found for found in figures.values()):
            continue
        title = f"{figure.title}, {figure.unit}" if figure.unit else figure.title
        cells = [f"{printed(figures[name].get(figure.name)):>21}" for name in names]
        lines.append(f"{title:46}" + "".join(cells))
    return "\n".join(lines)


def check_table(checks: list[Check]) -> str:
    """Each bound, what was found, and whether it holds."""
    titles = {figure.name: figure.title for figure in FIGURES}
    lines = [f"{'route':18}{'figure':44}{'against':22}{'found':>8}{'bound':>8}"]
    for check in checks:
        bound = check.bound
        peer = f"x {TARGETS[bound.peer].title}" if bound.peer else "seconds"
        names = f"{TARGETS[bound.ours].title:18}{titles[bound.figure]:44}{peer:22}"
        lines.append(f"{names}{check.found:8.2f}{bound.limit:8.2f}  {'ok' if check.kept else 'MISSED'}")
    kept = sum(check.kept for check in checks)
    lines.append(f"{kept} of {len(checks)} kept, {len(BOUNDS) - len(checks)} not measured")
    return "\n".join(lines)


def failures(rounds: Rounds) -> list[str]:
    """What went wrong in the runs."""
    return [
        f"{target} {measure}: {'; '.join(run.failures)[:500]}"
        for target, results in rounds.items()
        for measure, runs in results.items()
        for run in runs
        if run.failures
    ]


def document(rounds: Rounds, figures: Figures, checks: list[Check], versions: dict[str, str]) -> Json:
    """Everything, as JSON."""
    direct = rounds.get("direct", {})
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release()},
        "versions": versions,
        "notes": NOTES,
        "measures": [asdict(measure) for measure in MEASURES],
        "units": {figure.name: f"{figure.title} {figure.unit}".strip() for figure in FIGURES},
        "medians": figures,
        "rounds": {
            target: {figure.name: figure_values(figure, results, direct) for figure in FIGURES}
            for target, results in rounds.items()
        },
        "bounds": [{**asdict(check.bound), "found": check.found, "kept": check.kept} for check in checks],
        "failures": failures(rounds),
    }


def cpu_model() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


# --- the picture --------------------------------------------------------------------------------------

HEADING = "What a server in between costs: shorter is better"
COLOURS = {"ours": "#0f766e", "host": "#b45309", "ogx": "#6b7280", "litellm": "#a8b0bb", "direct": "#cbd5e1"}
WIDTH, PANEL, ROW, TOP, GAP = 880, 420, 17, 64, 40
LABEL, BAR = 124, 210


def text(x: float, y: float, content: str, style: str = "") -> str:
    """A line of text; ``style`` is more attributes."""
    return f'<text x="{x:g}" y="{y:g}"{style}>{escape(content)}</text>'


def panel(figure: Figure, figures: Figures, x: int, y: int) -> list[str]:
    """One figure as bars, a row for each target."""
    bars = [(name, figures[name][figure.name]) for name in figures if figure.name in figures[name]]
    bars = [(name, value) for name, value in bars if not (figure.added and name == "direct")]
    longest = max((value for _, value in bars), default=0.0) or 1.0
    out = [text(x, y, f"{figure.title} ({figure.unit})", ' font-weight="600" fill="#111827"')]
    for row, (name, value) in enumerate(bars):
        top = y + 8 + row * ROW
        target = TARGETS[name]
        weight = ' font-weight="600"' if target.group == "ours" else ""
        length = max(value / longest * BAR, 1)
        bar = f'width="{length:.1f}" height="{ROW - 4}" rx="2" fill="{COLOURS[target.group]}"'
        out.append(text(x + LABEL - 6, top + 10.5, target.title, f' text-anchor="end"{weight}'))
        out.append(f'<rect x="{x + LABEL}" y="{top}" {bar}/>')
        out.append(text(x + LABEL + length + 5, top + 10.5, printed(value), weight))
    return out


def picture(figures: Figures, subtitle: str) -> str:
    """The figures that matter, as an SVG document on a background of its own."""
    height_of_panel = 8 + ROW * len(figures) + GAP
    shown = [figure for figure in FIGURES if figure.name in ROWS]
    height = TOP + height_of_panel * ((len(shown) + 1) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" font-family="system-ui, sans-serif" font-size="11" fill="#374151" role="img">',
        f"<title>{HEADING}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        text(20, 26, HEADING, ' font-size="15" font-weight="600"'),
        text(20, 43, subtitle),
    ]
    for index, figure in enumerate(shown):
        x, y = 20 + index % 2 * PANEL, TOP + 12 + index // 2 * height_of_panel
        parts.extend(panel(figure, figures, x, y))
    return "\n".join([*parts, "</svg>\n"])


def save(folder: Path, contents: Json) -> None:
    """Write ``latest.json`` and ``latest.svg``."""
    folder.mkdir(exist_ok=True)
    (folder / "latest.json").write_bytes(orjson.dumps(contents, option=orjson.OPT_INDENT_2) + b"\n")
    versions = ", ".join(f"{name} {number}" for name, number in contents["versions"].items())
    subtitle = f"{contents['date']} · {contents['machine']['cpu']} · {versions}"
    (folder / "latest.svg").write_text(picture(contents["medians"], subtitle))
