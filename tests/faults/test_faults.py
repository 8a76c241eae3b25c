"""What a client gets for each fault of an upstream: the table in docs/faults.md is what was observed.

`FAULTS_WRITE=1 pytest tests/faults` writes the table.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.faults import FAULTS
from tests.live.raw import Answer, complaints, post
from tests.support.faulty import TEXT, Connection, FaultyUpstream
from tests.support.laws import assert_well_formed, fold
from tests.support.stack import Stack, free_port, run_config, vllm_provider
from tests.support.tls import TlsFront, self_signed

TABLE = Path(__file__).parents[2] / "docs" / "faults.md"
ROUTES, MODES = ("native", "translated"), ("native", "translation")
LIMITS = {
    "connect_seconds": 1.0,
    "first_byte_seconds": 4,
    "idle_seconds": 1.0,
    "max_answer_bytes": 1_000_000,
    "max_event_bytes": 500_000,
    "max_stream_bytes": 2_000_000,
}
LONGEST = 120
HEAD = """# What a client gets when an upstream fails

Each row is one fault of an upstream on a real socket, and what a client of `/v1/messages` gets: by the native and by
the translated route, for a whole answer and for a stream. `ok` is the message as it should be; `..., then` is an
`error` event in a stream that has begun. The tests observe this table (`pytest tests/faults`) with these limits:
{limits}.

| The upstream | native | native, streamed | translated | translated, streamed |
| --- | --- | --- | --- | --- |
"""


@dataclass
class Faulty:
    """A stack over an upstream that fails in one way at a time."""

    stack: Stack
    upstream: FaultyUpstream
    observed: dict[str, str] = field(default_factory=dict)

    def row(self, native: str, translated: str) -> str:
        """The cells of a row, for the providers of either route."""
        cells = [cell(post(self.stack, f"{name}/m", stream=s)) for name in (native, translated) for s in (False, True)]
        return " | ".join(re.sub(r"provider '[\w-]+'", "provider 'p'", each) for each in cells)


def cell(answer: Answer) -> str:
    """What a client got, in words."""
    if answer.status != 200:
        status, kind, message = answer.error
        return f"{status} `{kind}`: {message if len(message) < LONGEST else message[:9] + '...'}"
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return "ok" if said(answer.json) == TEXT else f"200: {said(answer.json)}"
    assert_well_formed(answer.events)
    if answer.types[-1] == "error":
        kind, message = answer.last_error
        return f"200, then `{kind}`: {message}"
    text = said(fold(answer.events))
    return "ok" if text == TEXT else f"200: {text}"


def said(message: dict[str, object]) -> str:
    """The text of a message."""
    content = message["content"]
    assert isinstance(content, list)
    return "".join(block["text"] for block in content)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faults")
    certificate, key = self_signed(folder)
    with ExitStack() as opened:
        upstream = opened.enter_context(FaultyUpstream())
        url = f"http://127.0.0.1:{upstream.port}"
        addresses = {
            "good": url,
            "nobody-listens": f"http://127.0.0.1:{free_port()}",
            "no-such-host": "http://nobody.invalid",
            "plain": f"https://127.0.0.1:{upstream.port}",
            "untrusted": opened.enter_context(TlsFront(upstream.port, certificate, key)),
        }
        providers = [vllm_provider(address, f"{name}-{kind}") for name, address in addresses.items() for kind in ROUTES]
        modes = {
            f"{name}-{route}": "native" if route == "native" else "translation"
            for name in addresses
            for route in ROUTES
        }
        settings = {
            "routes": modes,
            "limits": LIMITS,
            "ping": {"after_seconds": 30.0},
            "probe": {"timeout_seconds": 5.0},
        }
        stack = opened.enter_context(Stack(run_config(folder, inference=providers, messages=settings), folder))
        for route in ROUTES:
            assert cell(post(stack, f"good-{route}/m")) == "ok"
        found = Faulty(stack, upstream)
        yield found
        if os.environ.get("FAULTS_WRITE"):
            write(found.observed)
        assert complaints(stack.log()) == []


def write(observed: dict[str, str]) -> None:
    limits = ", ".join(f"`{name}` {value}" for name, value in LIMITS.items())
    TABLE.write_text(HEAD.format(limits=limits) + "".join(f"| {name} | {row} |\n" for name, row in observed.items()))


def expected() -> dict[str, str]:
    """The rows of the table."""
    rows = (line.strip("| \n").split(" | ", 1) for line in TABLE.read_text().splitlines() if line.startswith("| "))
    return {name: row for name, row in rows if name not in ("The upstream", "---")}


ADDRESSES = {
    "nobody listens": "nobody-listens",
    "its host has no address": "no-such-host",
    "never ends the TLS handshake": "plain",
    "has a certificate that nobody vouches for": "untrusted",
}


@pytest.mark.parametrize("name", [*ADDRESSES, *FAULTS])
def test_what_a_client_gets_is_what_the_table_says(faulty: Faulty, name: str) -> None:
    if name in FAULTS:
        faulty.upstream.fault = FAULTS[name]
    provider = ADDRESSES.get(name, "good")
    row = faulty.observed[name] = faulty.row(f"{provider}-native", f"{provider}-translated")
    assert "Internal server error" not in row
    if not os.environ.get("FAULTS_WRITE"):
        assert row == expected()[name]


def test_the_table_has_no_other_rows() -> None:
    assert list(expected()) == [*ADDRESSES, *FAULTS]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_reset_at_any_byte_is_an_error_and_never_half_a_message(faulty: Faulty, route: str, stream: bool) -> None:
    sizes: list[int] = []

    async def cut(c: Connection) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {c.content_type}\r\ncontent-length: {len(c.body)}\r\n\r\n".encode()
        sizes.append(len(head + c.body))
        await c.write((head + c.body)[:at])
        c.reset()

    faulty.upstream.fault = cut
    at = 0
    while not sizes or at < sizes[-1]:
        before = faulty.upstream.requests
        got = cell(post(faulty.stack, f"good-{route}/m", stream=stream))
        assert got.startswith(("502 `api_error`", "200, then `api_error`")) or got == "ok", (at, got)
        assert got != "ok" or stream, at
        assert faulty.upstream.requests == before + 1  # never asked again
        at += 7


def test_a_request_is_sent_once_on_a_fresh_connection(faulty: Faulty) -> None:
    faulty.upstream.fault = FAULTS["closes without a byte"]
    for route in ROUTES:
        before = faulty.upstream.requests
        assert post(faulty.stack, f"good-{route}/m").status == 502
        assert faulty.upstream.requests == before + 1
