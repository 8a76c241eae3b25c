"""`python -m benchmarks.hostile.principals [--seconds N]`: two principals ask every path at once, for a minute.

Each may use a model of its own that the other may not, has a key of its own, and puts a secret of its own into every
request: text, model names, ids, batches, errors. Upstreams repeat what they get. Nothing that one is answered, header
or body, may hold a secret of the other. The exit status is 1 if anything does, or if an answer is a 5xx.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.support import personalities
from tests.support.replies import Reply, json_reply, stream_reply
from tests.support.stack import Stack, custom_auth, openai_provider, run_config, vllm_provider
from tests.support.upstream import RecordedRequest, ScriptedUpstream, chat_reply
from tests.support.wire import anthropic_message, anthropic_stream, encode_events

SECRETS = {"ann": "annsecret7f3a", "bob": "bobsecret91cc"}
POLICY: list[dict[str, Any]] = [
    {
        "forbid": {"actions": ["read"], "resource": "regex:model::(native|chat)-ann/"},
        "unless": "user with ann in roles",
    },
    {
        "forbid": {"actions": ["read"], "resource": "regex:model::(native|chat)-bob/"},
        "unless": "user with bob in roles",
    },
    {"permit": {"actions": ["create"]}},
    {"permit": {"actions": ["read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["read"], "resource": "regex:model::.*"}},
]
CLIENTS_EACH = 6


def _repeated(request: RecordedRequest) -> str:
    return request.body.decode(errors="replace")[-600:]


def _native(request: RecordedRequest) -> Reply:
    if not isinstance(request.json, dict) or "messages" not in request.json:
        probe = personalities.vllm().answer("POST", "/v1/messages")
        return probe(request) if callable(probe) else probe
    if "refuse me" in _repeated(request):
        error = {"type": "invalid_request_error", "message": _repeated(request)}
        return json_reply({"type": "error", "error": error}, status=400)
    message = anthropic_message(_repeated(request))
    streamed = request.json.get("stream")
    return stream_reply(encode_events(anthropic_stream(message))) if streamed else json_reply(message)


def _chat(request: RecordedRequest) -> Reply:
    if "refuse me" in _repeated(request):
        return json_reply({"error": {"message": _repeated(request), "type": "invalid_request_error"}}, status=400)
    found = chat_reply(_repeated(request))
    return found(request) if callable(found) else found


class _Principal:
    """Somebody who asks for everything, also for what is the other's."""

    def __init__(self, name: str, other: str, url: str, ids: dict[str, list[str]]) -> None:
        self.name, self.other, self.url, self.ids = name, other, url, ids
        self.draw = random.Random(name)
        self.answers: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []

    def _message(self) -> dict[str, Any]:
        draw, secret = self.draw, SECRETS[self.name]
        whose = self.name if draw.random() < 0.7 else self.other
        model = draw.choice([f"native-{whose}/vllm-model", f"chat-{whose}/openai-model", f"{secret}-model", "claude-x"])
        words = f"{secret} {draw.choice(['', 'refuse me'])} {secret}"
        request: dict[str, Any] = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": words}]}
        request["stream"] = draw.random() < 0.4
        request["metadata"] = {"user_id": secret}
        if draw.random() < 0.2:
            request[secret] = secret
        return request

    def _ask(self) -> tuple[str, str, Any]:
        draw, mine, theirs = self.draw, self.ids[self.name], self.ids[self.other]
        batch = draw.choice([*mine, *theirs]) if mine or theirs else "msgbatch_0"
        requests = [{"custom_id": f"{SECRETS[self.name]}-{n}", "params": self._message()} for n in range(3)]
        return draw.choice(
            [
                *[("POST", "/v1/messages", self._message())] * 6,
                ("POST", "/v1/messages/count_tokens", self._message()),
                ("POST", "/v1/messages/batches", {"requests": requests}),
                ("GET", "/v1/messages/batches?limit=1000", None),
                ("GET", f"/v1/messages/batches/{batch}", None),
                ("GET", f"/v1/messages/batches/{batch}/results", None),
                ("POST", f"/v1/messages/batches/{batch}/cancel", None),
                ("DELETE", f"/v1/messages/batches/{batch}", None),
                ("GET", "/v1/models", None),
            ]
        )

    async def hammer(self, http: aiohttp.ClientSession, until: float) -> None:
        while time.monotonic() < until:
            method, path, body = self._ask()
            headers = {"x-api-key": f"key-{self.name}", "anthropic-version": "2023-06-01"}
            async with http.request(method, self.url + path, json=body, headers=headers) as response:
                answer = await response.read()
            self.answers[method, response.status] += 1
            seen = answer + repr(response.headers).encode()
            if SECRETS[self.other].encode() in seen or response.status >= 500:
                self.wrong.append(path)
                print(f"{self.name}: {method} {path} -> {response.status} {seen[:600]!r}", flush=True)
            if path.endswith("batches") and method == "POST" and response.status == 200:
                self.ids[self.name] = [*self.ids[self.name][-20:], orjson.loads(answer)["id"]]


async def _hammer(principals: list[_Principal], seconds: float) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        until = time.monotonic() + seconds
        await asyncio.gather(*(each.hammer(http, until) for each in principals for _ in range(CLIENTS_EACH)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        vllm = opened.enter_context(ScriptedUpstream(personalities.vllm(models=["vllm-model"])))
        openai = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["openai-model"])))
        vllm.reply("POST /v1/messages", _native)
        openai.reply("POST /v1/chat/completions", _chat)
        users = {f"key-{name}": (name, {"roles": [name]}) for name in SECRETS}
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(users)))
        providers = [
            make(url, f"{kind}-{name}")
            for name in SECRETS
            for kind, make, url in (("native", vllm_provider, vllm.url), ("chat", openai_provider, openai.url))
        ]
        config = run_config(folder, inference=providers, messages={}, auth=custom_auth(auth.url, POLICY))
        stack = opened.enter_context(Stack(config, folder))
        ids: dict[str, list[str]] = {name: [] for name in SECRETS}
        principals = [_Principal(a, b, stack.base_url, ids) for a, b in (("ann", "bob"), ("bob", "ann"))]
        asyncio.run(_hammer(principals, given.seconds))
    for each in principals:
        print(f"{each.name}: {each.answers.total():,} answers, {len(each.wrong)} wrong, {dict(each.answers)}")
    return 1 if any(each.wrong for each in principals) else 0


if __name__ == "__main__":
    sys.exit(main())
