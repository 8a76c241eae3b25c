"""`llama-stack-messages`: what an operator needs beside the server."""

import argparse
import sys
from collections.abc import Sequence

from llama_stack_messages_provider.cli import batches, doctor, enable, folders, launch

__all__ = ["main", "parser"]

# What a run configuration points at, by the command that prints it.
FOLDERS = {
    "apis-dir": (folders.APIS_DIR, "external_apis_dir"),
    "providers-dir": (folders.PROVIDERS_DIR, "external_providers_dir"),
}


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`."""
    made = argparse.ArgumentParser(prog="llama-stack-messages", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True)
    enable.register(commands)
    doctor.register(commands)
    launch.register(commands)
    batches.register(commands)
    for command, (_, key) in FOLDERS.items():
        commands.add_parser(command, help=f"print the folder for {key} of a run configuration").set_defaults(
            run=_folder
        )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    rest: list[str] = []
    if given[:1] == ["launch"] and "--" in given:  # what follows is another program's
        at = given.index("--")
        given, rest = given[:at], given[at + 1 :]
    parsed = parser().parse_args(given)
    parsed.rest = rest
    status: int = parsed.run(parsed)
    return status


def _folder(parsed: argparse.Namespace) -> int:
    print(FOLDERS[parsed.command][0])
    return 0
