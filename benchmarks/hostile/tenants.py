"""`python -m benchmarks.hostile.tenants [--seconds N]`: two tenants use one MCP server on every path, for a minute.

The server lists other tools for each tenant's token and answers with it: it is a secret. For each tenant the operator
keeps it for a connector of its own, which the access policy keeps from the other. They name the server by URL with
their token, by their connector and by the other's; for messages, streams, counts and batches, on both routes, at models
that repeat all that they read. The exit status is 1 if something that one is answered, or that its models are sent,
holds the other's secret, if an answer is a 5xx, or if nobody found anything.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import orjson

from tests.support import model as scripted
from tests.support import personalities
from tests.support.mcp_server import McpServer
from tests.support.stack import Stack, custom_auth, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import Json, text_block, tool_use_block

__all__ = ["main", "run"]

SECRETS = {"ann": "annsecret7f3a", "bob": "bobsecret91cc"}
MODELS = {"native": "vllm-model", "chat": "openai-model"}
LISTING_BETA = "mcp-client-2026-09-15"
CLIENTS_EACH = 4
POLICY: list[Json] = [
    *(
        {"forbid": {"actions": ["read"], "resource": f"regex:{kind}{name}"}, "unless": f"user with {name} in roles"}
        for name in SECRETS
        for kind in ("connector::docs-", "model::(native|chat)-")
    ),
    {"permit": {"actions": ["create"]}},
    {"permit": {"actions": ["read", "update", "delete"]}, "when": "user is owner"},
    {"permit": {"actions": ["read"], "resource": "regex:(model|connector)::.*"}},
]


def repeater(body: Json) -> list[Json]:
    """A model that calls every search it is offered, and repeats what it was told, tools included."""
    if found := scripted.results(body):
        return [text_block(f"{found} {scripted.offered(body)}")]
    searches = [name for name in scripted.offered(body) if "search" in name]
    calls = [tool_use_block(name, {"query": scripted.said(body)}, id=f"toolu_{n}") for n, name in enumerate(searches)]
    return calls or [text_block(f"{scripted.said(body)} {scripted.offered(body)}")]


class _Tenant:
    """Somebody who uses the server with a token, by name, and by the other's name."""

    def __init__(self, name: str, other: str, url: str, server: str) -> None:
        self.name, self.other, self.url, self.server = name, other, url, server
        self.draw = random.Random(name)
        self.answers: Counter[tuple[str, int]] = Counter()
        self.found = 0
        self.wrong: list[str] = []
        self.batches: list[str] = []

    def _servers(self, *, batch: bool) -> list[Json]:
        named = {"type": "url", "name": f"docs-{self.name}", "url": ""}
        if batch:
            return [named]
        by_token = {"type": "url", "name": "docs", "url": self.server, "authorization_token": SECRETS[self.name]}
        theirs = {"type": "url", "name": f"docs-{self.other}", "url": ""}
        return self.draw.choice([[named], [by_token], [named, by_token], [by_token, theirs], [theirs]])

    def _message(self, *, batch: bool = False) -> Json:
        servers = self._servers(batch=batch)
        kind = self.draw.choice([*MODELS])
        request = {
            "model": f"{kind}-{self.name}/{MODELS[kind]}",
            "max_tokens": 99,
            "messages": [{"role": "user", "content": f"What has {SECRETS[self.name]}?"}],
            "mcp_servers": servers,
            "tools": [{"name": "look", "input_schema": {"type": "object"}}]
            + [{"type": "mcp_toolset", "mcp_server_name": each["name"]} for each in servers],
        }
        return request if batch else {**request, "stream": self.draw.random() < 0.5}

    def _ask(self) -> tuple[str, str, Json | None]:
        counted = {key: value for key, value in self._message().items() if key not in ("max_tokens", "stream")}
        requests = [{"custom_id": f"r-{n}", "params": self._message(batch=True)} for n in range(3)]
        batch = self.draw.choice(self.batches) if self.batches else "msgbatch_0"
        return self.draw.choice(
            [
                *[("POST", "/v1/messages", self._message())] * 8,
                ("POST", "/v1/messages/count_tokens", counted),
                ("POST", "/v1/messages/batches", {"requests": requests}),
                *[("GET", f"/v1/messages/batches/{batch}/results", None)] * 2,
            ]
        )

    async def hammer(self, http: aiohttp.ClientSession, until: float) -> None:
        while time.monotonic() < until:
            method, path, body = self._ask()
            headers = {"x-api-key": f"key-{self.name}", "anthropic-version": "2023-06-01"}
            if self.draw.random() < 0.5:
                headers["anthropic-beta"] = LISTING_BETA
            async with http.request(method, self.url + path, json=body, headers=headers) as response:
                seen = await response.read()
            kind = "batch results" if path.endswith("results") else path.rpartition("/")[2]
            self.answers[kind, response.status] += 1
            self.found += f"for {SECRETS[self.name]}".encode() in seen
            if SECRETS[self.other].encode() in seen or response.status >= 500:
                self.wrong.append(path)
                print(f"{self.name}: {method} {path} -> {response.status} {seen[:600]!r}", flush=True)
            if kind == "batches" and response.status == 200:
                self.batches = [*self.batches[-20:], orjson.loads(seen)["id"]]


async def _hammer(tenants: list[_Tenant], seconds: float) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        until = time.monotonic() + seconds
        await asyncio.gather(*(each.hammer(http, until) for each in tenants for _ in range(CLIENTS_EACH)))


def _leaks(upstreams: dict[str, ScriptedUpstream]) -> list[str]:
    """What a model was sent that is the other tenant's: each has upstreams of its own."""
    found = []
    for label, upstream in upstreams.items():
        other = next(secret for name, secret in SECRETS.items() if name not in label)
        found += [label for seen in upstream.requests if other.encode() in seen.body]
    return found


# What the server says of clients that leave.
logging.getLogger("mcp").setLevel(logging.CRITICAL)


def run(folder: Path, seconds: float) -> list[_Tenant]:
    """Let the tenants ask for so long; a model that was sent the other's secret counts as wrong answers."""
    with ExitStack() as opened:
        docs = opened.enter_context(McpServer("docs", *SECRETS.values(), tells_tokens=True))
        upstreams: dict[str, ScriptedUpstream] = {}
        providers = []
        for name in SECRETS:
            native = opened.enter_context(ScriptedUpstream(personalities.vllm(models=[MODELS["native"]])))
            chat = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=[MODELS["chat"]])))
            upstreams |= {f"native-{name}": native, f"chat-{name}": chat}
            providers += [vllm_provider(native.url, f"native-{name}"), openai_provider(chat.url, f"chat-{name}")]
        for upstream in upstreams.values():
            scripted.serve(upstream, repeater)
        users = {f"key-{name}": (name, {"roles": [name]}) for name in SECRETS}
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(users)))
        mcp = {
            "allow": ["http://127.0.0.1:*/mcp"],
            "networks": ["127.0.0.0/8"],
            "tokens": {f"docs-{name}": secret for name, secret in SECRETS.items()},
            "seconds": 1,
            "listed_seconds": 0.5,
        }
        config = run_config(
            folder,
            inference=providers,
            connectors=[{"connector_id": f"docs-{name}", "url": f"{docs.url}?of={name}"} for name in SECRETS],
            messages={"mcp": mcp, "batches": {"poll_seconds": 0.2}},
            auth=custom_auth(auth.url, POLICY),
        )
        stack = opened.enter_context(Stack(config, folder))
        tenants = [_Tenant(a, b, stack.base_url, docs.url) for a, b in (("ann", "bob"), ("bob", "ann"))]
        asyncio.run(_hammer(tenants, seconds))
        tenants[0].wrong += _leaks(upstreams)
    return tenants


def main() -> int:
    """Run it, and print what came of it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tenants = run(Path(folder), given.seconds)
    for each in tenants:
        told = (
            f"{each.answers.total():,} answers, {each.found:,} with what its own token finds, {len(each.wrong)} wrong"
        )
        print(f"{each.name}: {told}, {dict(each.answers)}")
    return 1 if any(each.wrong or not each.found for each in tenants) else 0


if __name__ == "__main__":
    sys.exit(main())
