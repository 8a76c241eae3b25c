"""SIGTERM, to real servers: nothing new begins, what runs has its seconds, and the process ends whoever is there.

The seconds that a test waits are those that the server was given; that it ends at all is what is checked.
"""

import os
import signal
import socket
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest

from tests.live.raw import RawClient, ask, complaints, post
from tests.support import personalities
from tests.support.laws import assert_well_formed
from tests.support.replies import FOREVER, Reply, Step, Wait, hang_reply, json_reply, stream_reply
from tests.support.sse import events
from tests.support.stack import Stack, run_config, vllm_provider
from tests.support.upstream import RecordedRequest, ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events

MODEL = "vllm/m"
GRACE = 1.0
ENDS_WITHIN = 15.0
"""Far more than the grace, far less than the minutes that a client could hold it."""

PARTS = encode_events(anthropic_stream(anthropic_message("Hello there"), ping=False))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Sender.opened:
        Sender.opened.pop().hang_up()


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(personalities.vllm(["m"])) as upstream:
        yield upstream
        upstream.release()


def serve(
    folder: Path, upstream: ScriptedUpstream, *, workers: int = 1, grace: float = GRACE, batches: Json | None = None
) -> Stack:
    upstream.forget()
    config = run_config(
        folder,
        inference=[vllm_provider(upstream.url)],
        messages={"limits": {"shutdown_seconds": grace}, "batches": batches or {}},
        workers=workers,
    )
    root = str(Path(__file__).parents[2])
    patient: dict[str, Any] = {"module": "tests.support.patient_host", "env": {"PYTHONPATH": root}}
    stack = Stack(config, folder, **(patient if workers > 1 else {}))
    stack.start()
    started = "Application startup complete"
    eventually(lambda: mentions(stack, started) >= workers, within=ENDS_WITHIN * 4, what="every worker")
    for _ in range(4 * workers):  # each worker has asked what the upstream is before it is scripted
        assert post(stack, MODEL).status == 200
    return stack


def mentions(stack: Stack, text: str) -> int:
    """The lines of the log with a text; a line can have it twice, in colors as well."""
    return sum(text in line for line in stack.log().splitlines())


def terminate(stack: Stack) -> None:
    """As a service manager does: the process that was started, and nobody else."""
    os.kill(stack.pid, signal.SIGTERM)


def members(stack: Stack) -> list[str]:
    """The processes of its group; multiprocessing's resource tracker ends a moment after its parent."""
    return subprocess.run(["pgrep", "-g", str(stack.pid)], capture_output=True, text=True).stdout.split()


def check_ended(stack: Stack) -> None:
    eventually(lambda: not stack.running, within=ENDS_WITHIN, what="the end of the server")
    eventually(lambda: not members(stack), within=ENDS_WITHIN, what="the end of its children")
    assert "Finished server process" in stack.log()


class Sender:
    """A connection that says what it is told to, and reads nothing by itself."""

    opened: ClassVar[list["Sender"]] = []

    def __init__(self, stack: Stack, data: bytes) -> None:
        self.opened.append(self)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(ENDS_WITHIN)
        self._socket.connect(("127.0.0.1", stack.port))
        self.send(data)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hang_up(self) -> None:
        self._socket.close()

    def read(self) -> bytes:
        """All that comes until the server hangs up."""
        found = b""
        while data := self._socket.recv(65536):
            found += data
        return found


def request(body: bytes, *, length: int | None = None) -> bytes:
    announced = len(body) if length is None else length
    return b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % announced + body


def refused(answer: bytes) -> tuple[bytes, str]:
    """The status line and the error type of a refusal."""
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b"\r\nconnection: close" in head
    assert b"\r\nanthropic-version: 2023-06-01" in head
    error = orjson.loads(body)
    assert error["request_id"].encode() in head
    return head.split(b"\r\n")[0], error["error"]["type"]


UNAVAILABLE = (b"HTTP/1.1 503 Service Unavailable", "overloaded_error")


def test_everything_in_flight_is_ended_and_told(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """A stream, one that nobody reads, a whole answer, a body that never ends, and one that begins too late."""
    stack = serve(tmp_path, upstream)
    try:
        flood: list[Step] = [PARTS[2] * 200] * 200
        upstream.queue("/v1/messages", stream_reply([*PARTS[:4], FOREVER]))
        stream = RawClient(stack, MODEL, stream=True)
        stream.read_until(b"Hell")
        upstream.queue("/v1/messages", stream_reply([*PARTS[:2], *flood, FOREVER]))
        Sender(stack, request(orjson.dumps(ask(MODEL, stream=True))))
        eventually(lambda: len(upstream.requests_to("/v1/messages")) >= 2)
        upstream.queue("/v1/messages", hang_reply())
        whole = Sender(stack, request(orjson.dumps(ask(MODEL))))
        eventually(lambda: len(upstream.requests_to("/v1/messages")) >= 3)
        unfinished = Sender(stack, request(b'{"model":', length=1000))
        Sender(stack, b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n")
        Sender(stack, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{")

        terminate(stack)
        stream.read_until(b"0\r\n\r\n")
        lines = b"".join(line for line in stream.received.split(b"\r\n") if line.startswith(b"event: "))
        found = events(lines)
        assert_well_formed(found)
        assert found[-1]["error"] == {"type": "overloaded_error", "message": "The server is shutting down"}
        assert refused(whole.read()) == UNAVAILABLE
        assert refused(unfinished.read()) == UNAVAILABLE
        check_ended(stack)
        assert complaints(stack.log()) == []
        assert all(seen.disconnected_at for seen in upstream.requests_to("/v1/messages") if not seen.over)
        stream.hang_up()
    finally:
        stack.kill()


def test_a_request_after_the_signal_is_refused(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    stack = serve(tmp_path, upstream, grace=5.0)
    try:
        upstream.queue("/v1/messages", stream_reply([*PARTS[:4], Wait(1.0), *PARTS[4:]]))
        stream = RawClient(stack, MODEL, stream=True)
        stream.read_until(b"Hell")
        body = orjson.dumps(ask(MODEL))
        waiting = Sender(stack, request(body)[:-1])
        late = Sender(stack, request(body)[:30])
        eventually(lambda: post(stack, MODEL).status == 200)
        terminate(stack)
        late.send(request(body)[30:])
        assert refused(late.read()) == UNAVAILABLE
        waiting.send(body[-1:])  # what had begun is answered
        assert waiting.read().startswith(b"HTTP/1.1 200")
        stream.read_until(b"message_stop")  # and the stream comes to its own end
        stream.read_until(b"0\r\n\r\n")
        assert b"event: error" not in stream.received
        stream.hang_up()
        check_ended(stack)
        assert complaints(stack.log()) == []
    finally:
        stack.kill()


def test_workers_end_as_well(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    stack = serve(tmp_path, upstream, workers=2)
    try:
        upstream.reply("/v1/messages", stream_reply([*PARTS[:4], FOREVER]))
        streams = [RawClient(stack, MODEL, stream=True) for _ in range(6)]
        for stream in streams:
            stream.read_until(b"Hell")
        unfinished = [Sender(stack, request(b"{", length=1000)) for _ in range(6)]
        terminate(stack)
        for stream in streams:
            stream.read_until(b"event: error")
            stream.hang_up()
        assert [refused(each.read()) for each in unfinished] == [UNAVAILABLE] * 6
        eventually(lambda: not stack.running, within=ENDS_WITHIN, what="the end of the parent")
        eventually(lambda: not members(stack), within=ENDS_WITHIN, what="the end of its children")
        assert mentions(stack, "Finished server process") == 2
    finally:
        stack.kill()


def leases(folder: Path) -> Counter[tuple[str, bool]]:
    """How many requests of batches are in which state, and whether somebody holds them."""
    with closing(sqlite3.connect(folder / "sql_store.batches.db")) as database:
        rows = database.execute("SELECT state, lease_owner IS NOT NULL FROM messages_batch_requests")
        return Counter((state, bool(held)) for state, held in rows)


@pytest.mark.parametrize("seconds", [0.3, 60.0], ids=["in time", "too long"])
def test_no_request_of_a_batch_begins_after_the_signal(
    tmp_path: Path, upstream: ScriptedUpstream, seconds: float
) -> None:
    """While a stream holds the server open; what runs may end, and the rest is given back to other processes."""
    stack = serve(tmp_path, upstream, grace=3.0, batches={"concurrency": 2, "lease_seconds": 300})
    try:

        def answer(request: RecordedRequest) -> Reply:
            if request.json.get("stream"):
                return stream_reply([*PARTS[:4], FOREVER])
            return json_reply(anthropic_message("Hello")).delayed(seconds)

        upstream.forget()
        upstream.reply("/v1/messages", answer)
        stream = RawClient(stack, MODEL, stream=True)
        stream.read_until(b"Hell")
        asked = [{"custom_id": f"r{n}", "params": ask(MODEL)} for n in range(200)]
        assert post(stack, MODEL, path="/v1/messages/batches", requests=asked).status == 200
        eventually(lambda: len(upstream.requests_to("/v1/messages")) >= 2)
        terminate(stack)
        eventually(lambda: "Shutting down" in stack.log(), within=ENDS_WITHIN, what="the server's notice of the signal")
        begun = len(upstream.requests_to("/v1/messages"))
        eventually(lambda: ("leased", True) not in leases(tmp_path) or leases(tmp_path)["leased", True] <= 2)
        stream.read_until(b"event: error")
        stream.hang_up()
        check_ended(stack)
        assert len(upstream.requests_to("/v1/messages")) == begun
        done = begun - 1 if seconds < 1 else 0  # all but the stream
        assert leases(tmp_path) == +Counter({("succeeded", False): done, ("pending", False): 200 - done})
        assert complaints(stack.log()) == []
    finally:
        stack.kill()
