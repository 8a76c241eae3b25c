"""The command: what to look at, and the exit status."""

import argparse
import asyncio
import json
import os
import sys
from dataclasses import replace
from typing import Any

from llama_stack_messages_provider.cli.doctor.report import words_of
from llama_stack_messages_provider.cli.running_server import add_options
from llama_stack_messages_provider.findings import Diagnosis

__all__ = ["register"]

# Statuses of the command: all is well; something is not; the Messages API is not there at all.
_WELL, _ILL, _NOT_THERE = 0, 1, 2
_PORT = 8321


class NotThereError(Exception):
    """The stack cannot be looked at; the message is a sentence."""


def register(commands: Any) -> None:
    """Add the command to an `argparse` parser's subcommands."""
    parser = commands.add_parser(
        "doctor",
        help="say whether a configuration or a running server answers, and what is wrong",
        description="Builds the stack of a run configuration in this process, or asks a running server, and says of "
        "every model how it is used. Status 0: all is well; 1: something is not; 2: nothing is served.",
    )
    parser.add_argument("--config", help="a run configuration or a distribution (default: run.yaml)")
    add_options(parser)
    parser.set_defaults(url=None)
    parser.add_argument("--port", type=int, help=f"where it is to serve (default: $LLAMA_STACK_PORT, or {_PORT})")
    parser.add_argument("--live", action="store_true", help="send each model a message, and time the first token")
    parser.add_argument("--model", action="append", default=[], help="with --live: only this one; several times")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what is rewritten, mended and translated")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    if parsed.url and parsed.config:
        print("doctor: it is either --config or --url", file=sys.stderr)
        return _NOT_THERE
    learned: list[Any] = []
    try:
        if parsed.url:
            from llama_stack_messages_provider.cli.doctor.server import examine_server

            diagnosis, learned = examine_server(parsed)
            served = True
        else:
            from llama_stack_messages_provider.cli.doctor.config import examine_config

            port = parsed.port or int(os.environ.get("LLAMA_STACK_PORT") or _PORT)
            diagnosis, served = asyncio.run(examine_config(parsed.config or "run.yaml", port, parsed))
    except NotThereError as exc:
        if parsed.json:
            print(json.dumps({"ok": False, "error": str(exc), "models": [], "problems": []}, indent=2))
        else:
            print(f"doctor: {exc}", file=sys.stderr)
        return _NOT_THERE
    _tell(parsed, diagnosis, learned)
    return _NOT_THERE if not served else _WELL if diagnosis.well else _ILL


def _tell(parsed: argparse.Namespace, diagnosis: Diagnosis, learned: list[Any]) -> None:
    if parsed.json:
        print(json.dumps({**diagnosis.to_json(), **({"learned": learned} if parsed.url else {})}, indent=2))
    else:
        shown = replace(diagnosis, models=sorted(diagnosis.models, key=lambda finding: finding.model))
        print(words_of(shown, learned, verbose=parsed.verbose))
