"""`llama-stack-messages`: what an operator needs beside the server."""

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["apis_dir", "main"]


def apis_dir() -> Path:
    """The folder for `external_apis_dir` of a run configuration."""
    return Path(__file__).parents[1] / "apis.d"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="llama-stack-messages", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("apis-dir", help="print the folder for external_apis_dir")
    parser.parse_args(arguments)
    print(apis_dir())
    return 0
