"""What was found, in words: a table of models, then what is wrong and what to do about it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.findings import Diagnosis, Finding, Problem, ShieldFinding, ToolFinding

__all__ = ["words_of"]

_MARGIN = 14

_COLUMNS: Mapping[str, Callable[[Finding], str | None]] = {
    "MODEL": lambda found: found.model,
    "STATE": lambda found: found.state,
    "ENGINE": lambda found: found.engine,
    "ROUTE": lambda found: found.route,
    "WINDOW": lambda found: str(found.window) if found.window else None,
    "COUNT": lambda found: found.count,
    "WEB SEARCH": lambda found: found.web_search,
    "FIRST TOKEN": lambda found: f"{found.first_token_seconds:.2f} s" if found.first_token_seconds else None,
}


def words_of(diagnosis: Diagnosis, learned: Sequence[Mapping[str, Any]], *, verbose: bool) -> str:
    """The report.

    Args:
        diagnosis: What was found.
        learned: What a server has learned of its models, as it says it.
        verbose: Whether to tell how each model is used.
    """
    parts = [_table(diagnosis.models)] if diagnosis.models else []
    parts += [_ill(found) for found in diagnosis.models if found.reason and found.state not in ("ok", "keyless")]
    if diagnosis.server_tools:
        parts.append(_server_tools(diagnosis.server_tools))
    if diagnosis.replicas:
        parts.append(_replicas(diagnosis.replicas))
    if diagnosis.shields:
        parts.append(_shields(diagnosis.shields))
    parts += [_problem(problem) for problem in diagnosis.problems]
    parts += [_learned(line) for line in learned]
    if verbose:
        parts += [_details(found) for found in diagnosis.models]
    parts.append(_verdict(diagnosis))
    return "\n\n".join(parts)


def _table(models: Sequence[Finding]) -> str:
    """Columns that say nothing of any model are left out."""
    cells = {title: [get(found) for found in models] for title, get in _COLUMNS.items()}
    columns = [[title, *(cell or "-" for cell in column)] for title, column in cells.items() if any(column)]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _ill(found: Finding) -> str:
    at = f" ({found.upstream})" if found.upstream else ""
    return f"{found.model}{at} is {found.state}: {found.reason}"


def _server_tools(found: Sequence[ToolFinding]) -> str:
    width = max(len(each.tool) for each in found)
    lines = [f"  {each.tool:<{width}}  {each.run_by or 'nobody: named as dropped'}" for each in found]
    return "\n".join(["server tools are run by", *lines])


def _replicas(found: Mapping[str, Sequence[str]]) -> str:
    lines = [f"  {name}: {', '.join(identifiers)}" for name, identifiers in found.items()]
    return "\n".join(["equal replicas, each conversation at its own", *lines])


def _shields(found: Sequence[ShieldFinding]) -> str:
    width = max(len(each.models) for each in found)
    return "\n".join(["shields judge", *(f"  {each.models:<{width}}  {_sides(each)}" for each in found)])


def _sides(found: ShieldFinding) -> str:
    sides = {"input": found.input, "output": found.output}
    named = [f"{side} by {', '.join(ids)}" for side, ids in sides.items() if ids]
    return "; ".join([*named, f"what they cannot judge: {found.when_down}"]) if named else "by none"


def _problem(problem: Problem) -> str:
    remedy = f"\n  {problem.remedy}" if problem.remedy else ""
    return f"{problem.severity}: {problem.what}{remedy}"


def _learned(line: Mapping[str, Any]) -> str:
    lines = [("at", line["upstream"]), ("change", line["change"]), ("for", f"{line['seconds_ago']} s")]
    lines.append(("since it said", " ".join(line["words"].split())))
    return "\n".join([f"learned of {line['model']}", *(_line(name, text) for name, text in lines)])


def _details(found: Finding) -> str:
    lines = [("upstream", found.upstream), ("because", found.reason), ("mended", found.mended)]
    lines.append(("rewritten for", ", ".join(found.rewritten)))
    lines += [("translated for" if not n else "", text) for n, text in enumerate(_gaps(found.gaps))]
    return "\n".join([found.model, *(_line(name, text) for name, text in lines if text)])


def _gaps(gaps: Mapping[str, str]) -> list[str]:
    """The gaps, those together that end alike."""
    return [
        f"{', '.join(name for name in gaps if gaps[name] == what)} ({what})" for what in dict.fromkeys(gaps.values())
    ]


def _line(name: str, text: str) -> str:
    return f"  {name:<{_MARGIN}} {text}"


def _verdict(diagnosis: Diagnosis) -> str:
    usable = sum(found.state == "ok" for found in diagnosis.models)
    if diagnosis.well:
        return f"All is well: {usable} model{'' if usable == 1 else 's'} can be used."
    errors = sum(problem.severity == "error" for problem in diagnosis.problems)
    errors += sum(not found.well for found in diagnosis.models)
    return f"{errors} thing{'' if errors == 1 else 's'} to mend."
