"""What a client gets of each recorded stream: `answers/chunks/NAME.txt` and `answers/sse/NAME.ENGINE.txt`.

Streams of chunks are read alike, whosever they are. A native stream is relayed or mended as its engine's profile says:
its own engine's, and that of an upstream that nobody knows, which must make a message of whatever comes; that second
file is there where the two differ. A file is an event a line; `failure` is what is told after them.

`GOLDEN=write pytest tests/engines/test_golden_answers.py` writes what is made now; the diff is what a reviewer reads.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from llama_stack_messages_provider.adaptation.upstream_errors import from_event
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.upstream.native_streams import RelayedStream, RepairedStream
from llama_stack_messages_provider.wire.sse import SSEDecoder
from tests.support.fixtures import chunk_names, chunks, sse_bytes, sse_names

FOLDER = Path(__file__).parent / "answers"
WRITE = os.environ.get("GOLDEN") == "write"
SIGNER = Signer(b"key", "provider/m")
UNKNOWN = ENGINES.generic.name


def of_chunks(name: str) -> Iterator[str]:
    """The events that a stream of chunks makes."""
    translator = StreamTranslator(
        "msg_1", "claude-x", sign=SIGNER, stop_sequences=("three", "\nHuman:"), max_tokens=9, window=8192
    )
    try:
        for chunk in chunks(name):
            if "error" in chunk:
                raise from_event(chunk)
            yield from map(line, translator.feed(chunk))
            if translator.cut:
                break
        yield from map(line, translator.close())
    except MessagesError as exc:
        yield failed(exc)


def of_sse(name: str, engine: str) -> Iterator[str]:
    """The events that a native stream makes, as an engine's are read."""
    start, size = LateMessageStart("msg_1", "claude-x", "req_1"), 1_000_000
    relayed = ENGINES[engine].native.repaired is None
    stream = (
        RelayedStream(engine, "claude-x", start, size) if relayed else RepairedStream(SIGNER, "claude-x", start, size)
    )
    pieces: list[bytes] = []
    failure: MessagesError | None = None
    try:
        pieces += [stream.feed(sse_bytes(name)), stream.close()]
        failure = stream.failure
    except MessagesError as exc:
        failure = exc
    for event in SSEDecoder().decode(b"".join(pieces)):
        yield f"{event.event.decode()} {event.data.decode()}"
    if failure is not None:
        yield failed(failure)
    elif not stream.over:
        yield "failure: it ends before its message does"


def line(event: dict[str, object]) -> str:
    return f"{event['type']} {orjson.dumps(event).decode()}"


def failed(exc: MessagesError) -> str:
    return f"failure: {exc.status} {exc.error_type}: {exc.message}"


def compare(path: Path, made: str) -> None:
    if WRITE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made) if made else path.unlink(missing_ok=True)
    assert made == (path.read_text() if path.exists() else "")


@pytest.mark.parametrize("name", chunk_names())
def test_a_stream_of_chunks_is_what_its_golden_file_says(name: str) -> None:
    compare(FOLDER / "chunks" / f"{name}.txt", "".join(f"{each}\n" for each in of_chunks(name)))


def engine_of(name: str) -> str:
    """Whose recording it is, by its name."""
    engines = {each.replace(".", "_"): each for each in ENGINES}
    return next((engines[prefix] for prefix in engines if name.startswith(f"{prefix}_")), UNKNOWN)


@pytest.mark.parametrize("name", sse_names())
def test_a_native_stream_is_what_its_golden_file_says(name: str) -> None:
    engine = engine_of(name)
    own, unknown = ("".join(f"{each}\n" for each in of_sse(name, each)) for each in (engine, UNKNOWN))
    compare(FOLDER / "sse" / f"{name}.{engine}.txt", own)
    if engine != UNKNOWN:
        compare(FOLDER / "sse" / f"{name}.{UNKNOWN}.txt", unknown if unknown != own else "")


def test_every_golden_file_is_of_a_recording() -> None:
    assert {path.stem for path in (FOLDER / "chunks").iterdir()} == set(chunk_names())
    assert {path.stem.split(".")[0] for path in (FOLDER / "sse").iterdir()} == set(sse_names())
