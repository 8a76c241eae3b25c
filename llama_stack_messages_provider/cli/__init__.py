"""`llama-stack-messages`: what an operator needs beside the server."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from llama_stack_messages_provider.cli import batches, doctor

__all__ = ["main"]

# What a run configuration points at, by the command that prints it.
FOLDERS = {
    "apis-dir": ("apis.d", "external_apis_dir"),
    "providers-dir": ("providers.d", "external_providers_dir"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="llama-stack-messages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command, (_, key) in FOLDERS.items():
        commands.add_parser(command, help=f"print the folder for {key} of a run configuration").set_defaults(
            run=_folder
        )
    doctor.add_command(commands)
    batches.register(commands)
    parsed = parser.parse_args(arguments)
    status: int = parsed.run(parsed)
    return status


def _folder(parsed: argparse.Namespace) -> int:
    print(Path(__file__).parents[1] / FOLDERS[parsed.command][0])
    return 0
