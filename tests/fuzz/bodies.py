"""`python -m tests.fuzz.bodies [--count N] [--seed N] [--pure]`: broken bodies, one after the other, to a real server.

The bodies of the golden tests, each with parts replaced, left out, repeated or renamed, or with bytes that are damaged,
go to messages (streamed and not), counts and batches, on both routes. No answer may be a 5xx, and each error must have
Anthropic's shape. The upstreams take everything, so that every refusal is the server's own.

With `--pure` messages and counts go through the functions that make requests of them, without a server: some thousand
a second. `python -m tests.batches.fuzz_intake` does so with batches.
"""

import argparse
import asyncio
import copy
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.batches.fuzz_intake import damaged
from tests.fuzz import targets
from tests.fuzz.seeds import requests
from tests.support import personalities
from tests.support.stack import Stack, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream, chat_reply

type Draw = random.Random

MODELS = ("vllm/vllm-model", "openai/openai-model", "llamacpp/llamacpp-model", "anthropic/anthropic-model")
PATHS = {"/v1/messages": 0.45, "/v1/messages/count_tokens": 0.45, "/v1/messages/batches": 0.10}
CLIENTS = 8
ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1.5,
        10**19,
        -(10**300),
        "",
        "\x00",
        "\ud7ff",
        "a" * 300,
        "type",
        "model",
        [],
        {},
        [[]],
        [None],
    ),
    *({"type": 5}, {"type": "text"}, {"type": "tool_use"}, [{"type": "text", "text": None}], "claude-1", "1e5"),
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each (container, key) in a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def _replace(draw: Draw, place: Any, key: Any, root: Any) -> None:
    place[key] = copy.deepcopy(draw.choice(ODD))


def _leave_out(draw: Draw, place: Any, key: Any, root: Any) -> None:
    del place[key]


def _repeat(draw: Draw, place: Any, key: Any, root: Any) -> None:
    if isinstance(place, list):
        place.extend(copy.deepcopy([place[key]]) * draw.randrange(1, 4))
    else:
        place[f"{key}_{draw.randrange(9)}"] = copy.deepcopy(place[key])


def _transplant(draw: Draw, place: Any, key: Any, root: Any) -> None:
    other, name = draw.choice(_places(root))
    place[key] = copy.deepcopy(other[name])


CHANGES: tuple[Callable[[Draw, Any, Any, Any], None], ...] = (_replace, _replace, _leave_out, _repeat, _transplant)


def _changed(draw: Draw, seed: Any) -> Any:
    request = copy.deepcopy(seed)
    for _ in range(draw.choice([1, 1, 1, 2, 3, 8])):
        if places := _places(request):
            draw.choice(CHANGES)(draw, *draw.choice(places), request)
    return request


def _body(draw: Draw, seeds: list[Any], path: str) -> bytes:
    request = {**draw.choice(seeds), "model": draw.choice(MODELS), "stream": draw.random() < 0.3}
    changed = _changed(draw, request)
    if path.endswith("batches"):
        changed = {"requests": [{"custom_id": f"r{number}", "params": changed} for number in range(draw.randrange(3))]}
        changed = _changed(draw, changed) if draw.random() < 0.5 else changed
    body = orjson.dumps(changed, option=orjson.OPT_NON_STR_KEYS) if _fits(changed) else repr(changed).encode()
    return damaged(draw, body)


def _fits(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):  # An integer of more than 64 bits.
        return False
    return True


def _wrong(status: int, headers: Any, answer: bytes) -> str | None:
    """What is wrong with an answer, if anything."""
    if status >= 500 or status < 200:
        return f"status {status}"
    if not headers.get("request-id", "").startswith("req_"):
        return "no request-id"
    if status == 200:
        streamed = headers["content-type"].startswith("text/event-stream")
        ended = answer.rstrip().endswith(b"}") and (b"message_stop" in answer or b"event: error" in answer)
        return "a stream without an end" if streamed and not ended else None
    error = orjson.loads(answer)
    shaped = error.keys() == {"type", "error", "request_id"} and error["type"] == "error"
    shaped = shaped and {"type", "message"} <= error["error"].keys() and error["error"]["message"]
    return None if shaped else "not Anthropic's shape"


class _Run:
    """One server and what it was asked."""

    def __init__(self, url: str, upstreams: Collection[ScriptedUpstream], seed: int) -> None:
        self.url = url
        self.upstreams = upstreams
        self.draw = random.Random(seed)
        self.seeds = [orjson.loads(body) for body in requests()]
        self.answers: Counter[tuple[str, int]] = Counter()
        self.wrong: list[tuple[str, str, bytes, bytes]] = []

    async def client(self, http: aiohttp.ClientSession, count: int) -> None:
        for _ in range(count):
            [path] = self.draw.choices([*PATHS], [*PATHS.values()])
            body = _body(self.draw, self.seeds, path)
            headers = {"content-type": "application/json"}
            async with http.post(self.url + path, data=body, headers=headers) as response:
                answer = await response.read()
            self.answers[path, response.status] += 1
            if (reason := _wrong(response.status, response.headers, answer)) is not None:
                self.wrong.append((reason, path, body, answer))
                print(f"{reason}: {path} {body[:2000]!r} -> {answer[:500]!r}", flush=True)
            for upstream in self.upstreams:
                upstream.requests.clear()

    async def all(self, count: int) -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await asyncio.gather(*(self.client(http, count // CLIENTS) for _ in range(CLIENTS)))


def run(count: int, seed: int) -> _Run:
    """Ask a server of one's own."""
    kinds = {"vllm": personalities.vllm, "openai": personalities.openai_style}
    kinds |= {"llamacpp": personalities.llama_cpp, "anthropic": personalities.anthropic}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        upstreams = {
            name: opened.enter_context(ScriptedUpstream(make(models=[f"{name}-model"]))) for name, make in kinds.items()
        }
        upstreams["openai"].reply("/v1/chat/completions", chat_reply("Hello"))
        providers = [
            (vllm_provider if name == "vllm" else openai_provider)(upstream.url, name)
            for name, upstream in upstreams.items()
        ]
        stack = opened.enter_context(Stack(run_config(folder, inference=providers, messages={}), folder))
        asked = _Run(stack.base_url, upstreams.values(), seed)
        asyncio.run(asked.all(count))
        assert stack.running, "the server is gone"
    return asked


def run_pure(count: int, seed: int) -> int:
    """Bodies of messages and counts through what makes requests of them; how many it took."""
    draw, seeds = random.Random(seed), [orjson.loads(body) for body in requests()]
    accepted = 0
    for _ in range(count):
        body = bytes([draw.randrange(256)]) + _body(draw, seeds, "/v1/messages")
        try:
            accepted += targets.request(body)
        except Exception:
            print(f"wrong: {body!r}", flush=True)
            raise
    return accepted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pure", action="store_true", help="without a server")
    given = parser.parse_args()
    begun = time.perf_counter()
    if given.pure:
        accepted = run_pure(given.count, given.seed)
        print(f"{given.count:,} bodies in {time.perf_counter() - begun:.0f} s, {accepted:,} accepted, none wrong")
        return 0
    asked = run(given.count, given.seed)
    print(f"{asked.answers.total():,} bodies in {time.perf_counter() - begun:.0f} s, {len(asked.wrong)} answered wrong")
    for (path, status), times in sorted(asked.answers.items()):
        print(f"{path:<28} {status} {times:>9,}")
    return 1 if asked.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
