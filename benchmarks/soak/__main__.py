"""`python -m benchmarks.soak [--seconds N] [--out FOLDER]`: mixed traffic, with what the server holds sampled.

Writes `samples.jsonl`, `result.json` and `soak.svg`. The exit status is 1 where an answer was not as it should be, or
something that should be flat after the first third grew by more than a tenth (memory) or at all (the rest, idle).
"""

import argparse
import asyncio
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.soak.traffic import Client, until
from tests.support import personalities
from tests.support.replies import Reply, cut_reply, json_reply, raw_reply
from tests.support.stack import Stack, openai_provider, run_config, vllm_provider
from tests.support.upstream import RecordedRequest, ScriptedUpstream

MEASURES = ("memory_bytes", "descriptors", "connections", "threads", "tasks")
MEMORY_GROWTH = 1.10
SETTLE_SECONDS = 10.0
ROOT = Path(__file__).parents[2]


def _faults() -> Any:
    draw = random.Random(7)
    chunks = [b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\n'] * 5
    faults: Sequence[Reply] = (
        json_reply({"error": {"message": "overloaded"}}, status=503),
        json_reply({"error": {"message": "oops"}}, status=500),
        cut_reply(chunks, after=2),
        raw_reply(b"<html><title>Bad gateway</title>", status=502, content_type="text/html"),
        raw_reply(b"not json", content_type="application/json"),
        raw_reply(b"", status=204, content_type="application/json"),
    )

    def answer(_: RecordedRequest) -> Reply:
        return draw.choice(faults)

    return answer


def _upstreams(opened: ExitStack) -> dict[str, ScriptedUpstream]:
    makers: dict[str, Any] = {
        "vllm": personalities.vllm,
        "openai": personalities.openai_style,
        "llamacpp": personalities.llama_cpp,
        "faulty": personalities.openai_style,
        "dead": personalities.dead,
    }
    found = {
        name: opened.enter_context(ScriptedUpstream(make(models=[f"{name}-model"]))) for name, make in makers.items()
    }
    found["faulty"].reply("/v1/chat/completions", _faults())
    return found


async def _run(stack: Stack, upstreams: dict[str, ScriptedUpstream], seconds: float) -> Client:
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(session, stack.base_url, random.Random(1))
        async for gone in until(seconds, client):
            for upstream in upstreams.values():  # it records what it gets
                upstream.requests.clear()
            print(f"{gone:6.0f} s  {sum(client.seen.values())} requests, {len(client.wrong)} wrong", flush=True)
    await asyncio.sleep(SETTLE_SECONDS)
    return client


def _samples(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def _verdict(samples: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Each measure in the second third and in the last one, and after all clients have left."""
    parts = [[s for s in samples if low <= s["seconds"] / seconds < high] for low, high in ((1 / 3, 2 / 3), (2 / 3, 1))]
    rows: dict[str, Any] = {}
    for name in MEASURES:
        middle, last = (statistics.median(sample[name] for sample in part) for part in parts)
        rows[name] = {"middle": middle, "last": last, "settled": samples[-1][name], "first": samples[0][name]}
    return rows


def _is_flat(rows: dict[str, Any]) -> bool:
    memory = rows["memory_bytes"]
    idle = all(rows[name]["settled"] <= rows[name]["middle"] for name in MEASURES[1:])
    return idle and memory["last"] <= memory["middle"] * MEMORY_GROWTH


def _picture(samples: list[dict[str, Any]], file: Path) -> None:
    import matplotlib  # only this target installs it

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(MEASURES), 1, sharex=True, figsize=(9, 11), layout="constrained")
    minutes = [sample["seconds"] / 60 for sample in samples]
    for axis, name in zip(axes, MEASURES, strict=True):
        scale, label = (1e6, "memory (MB)") if name == "memory_bytes" else (1, name)
        axis.plot(minutes, [sample[name] / scale for sample in samples], linewidth=1)
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("minutes")
    figure.savefig(file)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "soak")
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # connections that the script cuts
    options.out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.jsonl"
        upstreams = _upstreams(opened)
        providers = [vllm_provider(upstreams["vllm"].url)]
        providers += [openai_provider(u.url, name) for name, u in upstreams.items() if name != "vllm"]
        config = run_config(Path(folder), inference=providers, messages={})
        stack = Stack(
            config,
            Path(folder),
            env={"SOAK_SAMPLES": str(file), "PYTHONPATH": str(ROOT)},
            module="benchmarks.soak.server",
        )
        with stack:
            client = asyncio.run(_run(stack, upstreams, options.seconds))
            time.sleep(SETTLE_SECONDS)
            samples = _samples(file)
    rows = _verdict(samples, options.seconds)
    flat = _is_flat(rows)
    result = {"seconds": options.seconds, "flat": flat, "seen": client.seen, "wrong": client.wrong, "measures": rows}
    (options.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    _picture(samples, options.out / "soak.svg")
    print(json.dumps(result, indent=1))
    return 0 if flat and not client.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
