"""`llama-stack-messages batches`: what became of one's batches, asked of a running server over its HTTP API."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llama_stack_messages_provider.cli.running_server import DEFAULT_URL, RunningServer, ServerError

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types.messages import MessageBatch

__all__ = ["register"]

PROGRESS_HEADER = "x-messages-batch-progress"
"""`<done>/<total>`: the counts of a batch tell nothing until it has ended."""

Command = Callable[["Anthropic", argparse.Namespace], int]


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `batches` and its commands; each sets `run`, which takes the parsed arguments and returns the status."""
    batches = commands.add_parser("batches", help="list, show and wait for message batches, read results")
    actions = batches.add_subparsers(dest="action", required=True)
    listing = _add(actions, "list", _list, "one's batches, newest first")
    listing.add_argument("--limit", type=int, default=20, help="how many (default: 20)")
    _add(actions, "show", _show, "a batch, as JSON").add_argument("id")
    waiting = _add(actions, "wait", _wait, "wait for the end of a batch")
    waiting.add_argument("id")
    waiting.add_argument("--interval", type=float, default=1.0, help="seconds between two looks (default: 1)")
    results = _add(actions, "results", _results, "the results of a batch, as JSON lines")
    results.add_argument("id")
    results.add_argument("-o", "--output", type=Path, help="a file, in place of the standard output")


def _add(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, command: Command, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text)
    parser.add_argument(
        "--base-url",
        "--url",
        default=os.environ.get("ANTHROPIC_BASE_URL", DEFAULT_URL),
        help=f"the server (default: $ANTHROPIC_BASE_URL, or {DEFAULT_URL})",
    )
    parser.add_argument(
        "--api-key",
        "--token",
        default=os.environ.get("ANTHROPIC_AUTH_TOKEN") or os.environ.get("ANTHROPIC_API_KEY") or "none",
        help="a token of the server (default: $ANTHROPIC_AUTH_TOKEN, or $ANTHROPIC_API_KEY)",
    )
    parser.set_defaults(run=lambda given: _run(command, given))
    return parser


def _run(command: Command, given: argparse.Namespace) -> int:
    from anthropic import Anthropic, APIError

    try:
        RunningServer(given.base_url, given.api_key).check()
        with Anthropic(base_url=given.base_url, api_key=given.api_key) as client:
            return command(client, given)
    except ServerError as error:
        print(f"batches: {error}", file=sys.stderr)
        return 1
    except APIError as error:
        print(f"{given.base_url}: {_text_of(error.body) or error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _text_of(body: object) -> str | None:
    """The message in an error's body."""
    match body:
        case {"error": {"message": str(text)}}:
            return text
        case _:
            return None


def _list(client: "Anthropic", given: argparse.Namespace) -> int:
    page = client.messages.batches.list(limit=given.limit)
    print(f"{'ID':35} {'STATUS':12} {'CREATED':20} {'REQUESTS':>8}  RESULTS")
    for batch in page.data:
        created = f"{batch.created_at:%Y-%m-%d %H:%M:%S}"
        total = sum(batch.request_counts.model_dump().values())
        print(f"{batch.id:35} {batch.processing_status:12} {created:20} {total:>8}  {_outcome(batch)}")
    return 0


def _show(client: "Anthropic", given: argparse.Namespace) -> int:
    print(client.messages.batches.retrieve(given.id).model_dump_json(indent=2))
    return 0


def _wait(client: "Anthropic", given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(given.id, total=None)
        while True:
            batch, done, total = _look(client, given.id)
            bar.update(task, description=batch.processing_status, completed=done, total=total)
            if batch.processing_status == "ended":
                break
            time.sleep(given.interval)
    print(_outcome(batch))
    counts = batch.request_counts
    return 0 if counts.succeeded == total else 1


def _look(client: "Anthropic", batch_id: str) -> "tuple[MessageBatch, int, int]":
    """The batch, and how many of its requests are done."""
    response = client.messages.batches.with_raw_response.retrieve(batch_id)
    batch = response.parse()
    total = sum(batch.request_counts.model_dump().values())
    done = total - batch.request_counts.processing
    known, _, _ = response.headers.get(PROGRESS_HEADER, "").partition("/")
    return batch, int(known) if known.isdecimal() else done, total


def _results(client: "Anthropic", given: argparse.Namespace) -> int:
    if client.messages.batches.retrieve(given.id).results_url is None:
        print(f"{given.id} has no results (yet, or any more)", file=sys.stderr)
        return 1
    if given.output is None:
        _copy(client, given.id, sys.stdout.buffer)
    else:
        with given.output.open("wb") as file:
            _copy(client, given.id, file)
    return 0


def _copy(client: "Anthropic", batch_id: str, target: IO[bytes]) -> None:
    """The lines as they are: no field is lost that the SDK does not know."""
    with client.messages.batches.with_streaming_response.results(batch_id) as response:
        for piece in response.iter_bytes():
            target.write(piece)


def _outcome(batch: "MessageBatch") -> str:
    counts = batch.request_counts.model_dump()
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
