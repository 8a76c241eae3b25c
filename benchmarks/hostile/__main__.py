"""`python -m benchmarks.hostile [WORD ...]`: what each hostile input gets, how long others wait, what memory it takes.

Printed for each request: the status, its seconds, the longest wait of another client's small requests meanwhile, and
the memory of the server above idle. A line is wrong where the status is not one of those allowed, somebody waited for
more than half a second, or memory grew by more than 300 MB and ten times the body.
"""

import http.client
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import orjson

from benchmarks.hostile.inputs import HELLO, INPUTS, NATIVE, TRANSLATED, Input
from benchmarks.proc import family, peak_bytes, reset_peak
from tests.support import personalities
from tests.support.replies import Reply, raw_reply, stream_reply
from tests.support.stack import Stack, openai_provider, run_config, vllm_provider
from tests.support.upstream import RecordedRequest, ScriptedUpstream

WAIT_SECONDS, MEMORY_BYTES, MEMORY_TIMES = 0.5, 300_000_000, 10
PATIENCE_SECONDS = 150.0


def _ask(port: int, path: str, body: bytes, headers: dict[str, str], seconds: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _neighbour(port: int, worst: "Synchronized[float]", begun: "Synchronized[float]") -> None:
    """Small requests on either route, one after the other; `worst` is the longest wait since it was reset."""
    bodies = [orjson.dumps({"model": m, "max_tokens": 5, "messages": HELLO}) for m in (NATIVE, TRANSLATED)]
    while True:
        for body in bodies:
            begun.value = time.monotonic()
            status, _ = _ask(port, "/v1/messages", body, {}, PATIENCE_SECONDS)
            waited = time.monotonic() - begun.value
            worst.value = max(worst.value, waited if status == 200 else waited + 1000)
            time.sleep(0.02)


def _fragment(number: int) -> bytes:
    """The nth piece of two calls that come in turns."""
    call: dict[str, Any] = {"index": number % 2, "function": {"arguments": "x" * 50}}
    if number < 2:
        call = {"index": number, "id": f"call_{number}", "function": {"name": "f", "arguments": '{"a":"'}}
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def _replies() -> dict[str, Reply]:
    end = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
    return {
        "titles": raw_reply(b"<title>" * 11_500, status=502, content_type="text/html"),
        "brackets": raw_reply(b"<" * 80_000, status=502, content_type="text/html"),
        "long line": stream_reply([b'data: {"a":"', *[b"a" * 60_000] * 1000, b'"}\n\n']),
        "calls": stream_reply([*map(_fragment, range(20_000)), end]),
    }


def _script(upstream: ScriptedUpstream, path: str, reply: Reply | None) -> None:
    """The reply for what is hostile; the other client's requests are answered as ever."""
    if reply is None:
        upstream.forget()
        return
    usual = upstream.personality.answer("POST", path)

    def answer(request: RecordedRequest) -> Reply:
        found = usual if (request.json or {}).get("max_tokens") == 5 else reply
        return found if isinstance(found, Reply) else found(request)

    upstream.reply(path, answer)


class _Attack:
    """A server, its upstreams, and the other client."""

    def __init__(self, opened: ExitStack, folder: Path) -> None:
        self._upstreams = {
            "vllm": opened.enter_context(ScriptedUpstream(personalities.vllm(models=["vllm-model"]))),
            "openai": opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["openai-model"]))),
        }
        vllm, openai = self._upstreams["vllm"], self._upstreams["openai"]
        config = run_config(folder, inference=[vllm_provider(vllm.url), openai_provider(openai.url)], messages={})
        self.stack = opened.enter_context(Stack(config, folder))
        self._worst, self._begun = multiprocessing.Value("d", 0.0), multiprocessing.Value("d", 0.0)
        args = (self.stack.port, self._worst, self._begun)
        neighbour = multiprocessing.Process(target=_neighbour, args=args, daemon=True)
        neighbour.start()
        opened.callback(neighbour.terminate)
        self._replies = _replies()
        self._quiet()
        self._idle = self._memory()

    def _quiet(self) -> None:
        time.sleep(1.5)

    def _memory(self) -> int:
        reset_peak(self.stack.pid)
        return peak_bytes(self.stack.pid)

    def run(self, item: Input, model: str) -> bool:
        """One request; whether it went as it should."""
        body = item.body(model)
        for name, path in (("vllm", "/v1/messages"), ("openai", "/v1/chat/completions")):
            _script(self._upstreams[name], path, self._replies.get(item.reply))
        self._worst.value = 0.0
        reset_peak(self.stack.pid)
        start = time.monotonic()
        status, answer = _ask(self.stack.port, item.path, body, item.headers, PATIENCE_SECONDS)
        seconds = time.monotonic() - start
        self._quiet()
        waited = max(self._worst.value, time.monotonic() - self._begun.value)
        alive = bool(family(self.stack.pid)) and self.stack.running
        grown = peak_bytes(self.stack.pid) - self._idle if alive else 0
        large = grown > max(MEMORY_BYTES, MEMORY_TIMES * len(body))
        shaped = status == 200 or b'"type":"error"' in answer
        wrong = [
            *(["status"] if status not in item.allowed else []),
            *(["shape"] if not shaped else []),
            *(["wait"] if waited > WAIT_SECONDS else []),
            *(["memory"] if large else []),
            *(["crash"] if not alive else []),
        ]
        print(
            f"{item.name:<42} {model.partition('/')[0]:<7} {len(body) / 1e6:8.2f} MB {status:>4} {seconds:7.2f} s"
            f"  wait {waited:7.2f} s  {grown / 1e6:7.0f} MB  {' '.join(wrong)}",
            flush=True,
        )
        if not alive or waited > PATIENCE_SECONDS:
            self.stack.kill()
            self.stack.start()
        return not wrong


def _chosen(words: list[str]) -> Iterator[tuple[Input, str]]:
    for item in INPUTS:
        if not words or any(word in item.name for word in words):
            for model in item.models:
                yield item, model


def main() -> int:
    """Run what was asked for; 1 if anything went wrong."""
    with ExitStack() as opened, tempfile.TemporaryDirectory() as folder:
        attack = _Attack(opened, Path(folder))
        results = [attack.run(item, model) for item, model in _chosen(sys.argv[1:])]
    print(f"{sum(results)} of {len(results)} as they should be")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
