"""A batch of the largest size through the real server: accepted, run against a fast upstream, and read back.

    python -m benchmarks.batches.hundred_thousand                                    # SQLite, translated
    python -m benchmarks.batches.hundred_thousand --native --concurrency 64 --seconds 0.05
    python -m benchmarks.batches.hundred_thousand --postgres postgresql://user:password@127.0.0.1/empty

One server process, one upstream process that answers each request after `--seconds`, and this one, which sends,
polls and reads with the official SDK. With a wait of t seconds the upstream's own limit is `concurrency / t`.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import orjson

from benchmarks.payloads import Dialect
from benchmarks.proc import cpu_seconds, peak_bytes, reset_peak
from benchmarks.upstream import Upstream, encode_answers
from tests.support.stack import Stack, free_port, openai_provider, postgres_storage, run_config, vllm_provider

MODEL = "up/bench-plain"
PROMPT = "Say something about the sea in a few words. " * 4
MEGABYTE = 2**20


class SlowUpstream(Upstream):
    """The race's upstream, whose answers take their time."""

    seconds = 0.0

    def answer(self, path: bytes, body: bytes) -> None:
        if path in self.paths and self.seconds:
            self.loop.call_later(self.seconds, super().answer, path, body)
        else:
            super().answer(path, body)


async def serve(port: int, dialect: Dialect, seconds: float) -> None:
    SlowUpstream.seconds = seconds
    answers = encode_answers(dialect)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SlowUpstream(answers), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


def body(count: int) -> Iterator[bytes]:
    """The batch, in pieces: the SDK would hold it whole."""
    yield b'{"requests":['
    for start in range(0, count, 500):
        some = range(start, min(start + 500, count))
        rows = b",".join(orjson.dumps(request(number)) for number in some)
        yield (b"," if start else b"") + rows
    yield b"]}"


def request(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{number}: {PROMPT}"}]
    return {"custom_id": f"r-{number}", "params": {"model": MODEL, "max_tokens": 64, "messages": messages}}


class Memory:
    """How far a process's peak is above what it had when it was idle."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        reset_peak(pid)
        self.idle = peak_bytes(pid)

    def __str__(self) -> str:
        return f"{(peak_bytes(self.pid) - self.idle) / MEGABYTE:.0f} MB above idle ({self.idle / MEGABYTE:.0f} MB)"


def measure(stack: Stack, count: int) -> None:
    client = anthropic.Anthropic(base_url=stack.base_url, api_key="any", timeout=3600)
    warm_up = client.messages.batches.create(requests=[request(number) for number in range(50)])
    until_ended(client, warm_up.id)
    memory = Memory(stack.pid)

    begun = time.perf_counter()
    answer = httpx.post(f"{stack.base_url}/v1/messages/batches", content=body(count), timeout=3600)
    answer.raise_for_status()
    report("created", count, time.perf_counter() - begun, memory)

    begun, spent = time.perf_counter(), cpu_seconds(stack.pid)
    batch = until_ended(client, answer.json()["id"])
    seconds = time.perf_counter() - begun
    report("run", count, seconds, memory)
    print(f"  {1e3 * (cpu_seconds(stack.pid) - spent) / count:.2f} ms of CPU a request; {batch.request_counts}")

    begun = time.perf_counter()
    seen = {line.custom_id for line in client.messages.batches.results(batch.id)}
    report("read back with the SDK", len(seen), time.perf_counter() - begun, memory)
    begun, lines = time.perf_counter(), 0
    with httpx.stream("GET", f"{stack.base_url}{batch.results_url}", timeout=3600) as results:
        lines = sum(chunk.count(b"\n") for chunk in results.iter_bytes())
    report("read back as bytes", lines, time.perf_counter() - begun, memory)
    assert len(seen) == lines == batch.request_counts.succeeded == count


def until_ended(client: anthropic.Anthropic, batch_id: str) -> Any:
    while (batch := client.messages.batches.retrieve(batch_id)).processing_status != "ended":
        time.sleep(0.25)
    return batch


def report(what: str, count: int, seconds: float, memory: Memory) -> None:
    print(f"{what}: {count:,} in {seconds:.1f} s, {count / seconds:,.0f}/s; {memory}", flush=True)


def storage(url: str) -> dict[str, Any] | None:
    if not url:
        return None
    found = re.fullmatch(r"postgresql://(.+):(.+)@([^:/]+)(?::\d+)?/(.+)", url)
    assert found, "postgresql://user:password@host/database"
    user, password, host, db = found.groups()
    return postgres_storage(db=db, user=user, password=password, host=host)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=0.0, help="how long the upstream takes for an answer")
    parser.add_argument("--native", action="store_true", help="an upstream that speaks the Messages API")
    parser.add_argument("--postgres", default="", help="an empty database; SQLite without it")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    dialect: Dialect = "anthropic" if given.native else "openai"
    if given.serve:
        asyncio.run(serve(given.serve, dialect, given.seconds))
        return
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.batches.hundred_thousand", *sys.argv[1:], "--serve", str(port)]
    upstream = subprocess.Popen(command)
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            provider = vllm_provider if given.native else openai_provider
            batches = {
                "concurrency": given.concurrency,
                "concurrency_per_batch": 4 * given.concurrency,
                "max_requests": given.requests,
            }
            config = run_config(
                folder,
                inference=[provider(f"http://127.0.0.1:{port}", "up")],
                messages={"batches": batches},
                backends=storage(given.postgres),
            )
            with Stack(config, folder) as stack:
                measure(stack, given.requests)
    finally:
        upstream.kill()
        upstream.wait()


if __name__ == "__main__":
    main()
