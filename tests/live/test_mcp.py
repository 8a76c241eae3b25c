"""MCP servers behind a stack: real servers, on both routes, by the official SDK."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic
import httpx
import orjson
import pytest
from anthropic.types.beta import BetaMessage

from tests.support import personalities, sse
from tests.support.laws import assert_well_formed, fold
from tests.support.mcp_server import McpServer
from tests.support.model import CHAT, MESSAGES, offered, results, serve
from tests.support.stack import (
    Stack,
    custom_auth,
    openai_provider,
    run_config,
    vllm_provider,
)
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import (
    Json,
    text_block,
    tool_use_block,
)

COMMAND = Path(sys.executable).with_name("llama-stack-messages")
BETA = ["mcp-client-2025-11-20"]
LISTING_BETA = ["mcp-client-2026-09-15"]
MODELS = {"translated": "openai/openai-model", "native": "vllm/vllm-model"}
USERS = {name: (name, {"roles": ["admin" if name == "ann" else "user"]}) for name in ("ann", "bob")}
LISTED = [{"name": "search", "input_schema": {"type": "object"}}]
AT_ONCE = 4
POLICY: list[Json] = [
    {"forbid": {"actions": ["read"], "resource": "regex:connector::"}, "unless": "user with admin in roles"},
    {"permit": {"actions": ["read", "create", "delete", "update"]}},
]


def looker(body: Json) -> list[Json]:
    """A model that calls all the searches and slow tools that it is offered once, and tells what it has read."""
    if found := results(body):
        return [text_block(f"I read: {', '.join(found)}")]
    names = [name for name in offered(body) if name.endswith(("__search", "__stall"))]
    if not names:
        return [text_block("I have no tools.")]
    calls = [tool_use_block(name, {"query": "otters"}, id=f"toolu_{n}") for n, name in enumerate(names)]
    return [text_block("I look."), *calls]


@dataclass
class World:
    stack: Stack
    upstreams: dict[str, ScriptedUpstream]
    docs: McpServer
    wiki: McpServer

    def asked(self, route: str) -> list[Json]:
        """What a model was asked: the messages with tools or without, but no probe."""
        path, name = (CHAT, "openai") if route == "translated" else (MESSAGES, "vllm")
        return [each.json for each in self.upstreams[name].requests_to(path) if (each.json or {}).get("messages")]

    def client(self, key: str = "ann") -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.stack.base_url, api_key=key, max_retries=0)

    def named(self, *, token: str = "secret") -> list[Any]:
        docs = {"type": "url", "name": "docs", "url": self.docs.url, "authorization_token": token}
        return [docs, {"type": "url", "name": "wiki", "url": self.wiki.url}]

    def post(self, body: Json, key: str = "ann", **headers: str) -> httpx.Response:
        url = f"{self.stack.base_url}/v1/messages"
        return httpx.post(url, json=body, headers={"x-api-key": key, **headers}, timeout=60)


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("mcp")
    with ExitStack() as opened:
        docs = opened.enter_context(McpServer("docs", "secret", "other", "operator"))
        wiki = opened.enter_context(McpServer("wiki"))
        upstreams = {
            name: opened.enter_context(ScriptedUpstream(make(models=[f"{name}-model"])))
            for name, make in {
                "openai": personalities.openai_style,
                "vllm": personalities.vllm,
                "anthropic": personalities.anthropic,
            }.items()
        }
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(USERS)))
        config = run_config(
            folder,
            inference=[
                (vllm_provider if name == "vllm" else openai_provider)(upstream.url, name)
                for name, upstream in upstreams.items()
            ],
            connectors=[
                {"connector_id": name, "url": server.url.replace("127.0.0.1", "localhost")}
                for name, server in {"the-docs": docs, "the-wiki": wiki}.items()
            ],
            messages={
                "probe": {"yes_seconds": 86_400},
                "model_aliases": {"claude-*": MODELS["translated"]},
                "ping": {"after_seconds": 0.2},
                "batches": {"concurrency": AT_ONCE},
                "mcp": {
                    "allow": ["http://127.0.0.1:*/mcp"],
                    "networks": ["127.0.0.0/8"],
                    "tokens": {"the-docs": "operator"},
                    "seconds": 2,
                },
            },
            auth=custom_auth(auth.url, POLICY),
        )
        stack = opened.enter_context(Stack(config, folder))
        yield World(stack, upstreams, docs, wiki)


@pytest.fixture
def world(_world: World) -> World:
    _world.docs.forget()
    _world.wiki.forget()
    for name, upstream in _world.upstreams.items():
        upstream.forget()
        if name != "anthropic":
            serve(upstream, looker)
    return _world


def only_search(*names: str) -> list[Any]:
    """Toolsets that offer nothing but the searches."""
    config = {"default_config": {"enabled": False}, "configs": {"search": {"enabled": True}}}
    return [{"type": "mcp_toolset", "mcp_server_name": name, **config} for name in names]


def request(world: World, route: str = "translated", **more: Any) -> Any:
    return {
        "model": MODELS[route],
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "What of otters?"}],
        "mcp_servers": world.named(),
        "tools": only_search("docs", "wiki"),
        **more,
    }


def answered(client: anthropic.Anthropic, streamed: bool, betas: list[str] = BETA, **body: Any) -> Any:
    if not streamed:
        return client.beta.messages.create(**body, betas=betas)
    with client.beta.messages.stream(**body, betas=betas) as stream:
        return stream.get_final_message()


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
routes = pytest.mark.parametrize("route", MODELS)


@both
@routes
def test_tools_of_two_servers_in_one_turn(route: str, streamed: bool, world: World) -> None:
    body = request(world, route)
    with world.client() as client:
        message = answered(client, streamed, **body)
        says, first, second, found, also, told = message.content
        assert (says.text, told.text) == ("I look.", "I read: docs on otters for secret, wiki on otters")
        assert [(each.type, each.server_name, each.name, each.input) for each in (first, second)] == [
            ("mcp_tool_use", "docs", "search", {"query": "otters"}),
            ("mcp_tool_use", "wiki", "search", {"query": "otters"}),
        ]
        assert [(each.type, each.tool_use_id, each.is_error) for each in (found, also)] == [
            ("mcp_tool_result", first.id, False),
            ("mcp_tool_result", second.id, False),
        ]
        assert found.content[0].text == "docs on otters for secret"
        assert first.id.startswith("mcptoolu_")
        BetaMessage.model_validate(message.to_dict())
        assert [each.type for each in message.usage.iterations] == ["message", "message"]
        turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": "And?"}]
        answered(client, streamed, **{**body, "messages": [*body["messages"], *turns]})
    assert world.docs.calls[0] == ("search", "secret")
    assert world.wiki.calls[0] == ("search", None)
    asked = world.asked(route)
    for before, after in pairwise(asked):
        assert after["tools"] == before["tools"]
        assert after["messages"][: len(before["messages"])] == before["messages"]
    assert "mcp_servers" not in str(asked)
    assert "secret" not in str([each["tools"] for each in asked])
    assert "secret" not in world.stack.log().replace("for secret", "")


def test_the_stream_obeys_the_grammar(world: World) -> None:
    events = [each for _, each in sse.parse(world.post({**request(world), "stream": True}).content)]
    assert_well_formed(events)
    assert [each["type"] for each in fold(events)["content"]] == [
        *("text", "mcp_tool_use", "mcp_tool_use", "mcp_tool_result", "mcp_tool_result", "text")
    ]


async def test_the_asynchronous_client(world: World) -> None:
    async with anthropic.AsyncAnthropic(base_url=world.stack.base_url, api_key="ann", max_retries=0) as client:
        async with client.beta.messages.stream(**request(world), betas=BETA) as stream:
            message = await stream.get_final_message()
        again = await client.beta.messages.create(**request(world, "native"), betas=BETA)
    assert [each.type for each in message.content] == [each.type for each in again.content]


@both
@routes
def test_a_stalled_tool_is_waited_for_with_pings_and_then_told_of(route: str, streamed: bool, world: World) -> None:
    tools = [{"type": "mcp_toolset", "mcp_server_name": "wiki", "configs": {"search": {"enabled": False}}}]
    body = request(world, route, mcp_servers=world.named()[1:], tools=tools, stream=streamed)
    answer = world.post(body)
    if streamed:
        events = [each for _, each in sse.parse(answer.content)]
        kinds = [each["type"] for each in events]
        assert "ping" in kinds[kinds.index("content_block_stop") :]
    content = (fold(events) if streamed else answer.json())["content"]
    [result] = [each for each in content if each["type"] == "mcp_tool_result"]
    assert (result["is_error"], "within 2 s" in result["content"][0]["text"]) == (True, True)
    assert content[-1]["text"].startswith("I read: ")


@routes
def test_listings_are_told_to_clients_that_know_them_and_pinned(route: str, world: World) -> None:
    body = request(world, route)
    with world.client() as client:
        for streamed in (False, True):
            message = answered(client, streamed, LISTING_BETA, **body)
            assert [each.type for each in message.content[:3]] == ["mcp_tool_listing", "mcp_tool_listing", "text"]
            assert [each.mcp_server_name for each in message.content[:2]] == ["docs", "wiki"]
            assert message.content[0].tools[0].name == "search"
        turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": "And?"}]
        again = answered(client, False, LISTING_BETA, **{**body, "messages": [*body["messages"], *turns]})
        assert again.content[0].type == "text"
        pinned = [{**each, "tools": LISTED} for each in body["tools"]]
        assert answered(client, False, LISTING_BETA, **{**body, "tools": pinned}).content[0].type == "text"
    asked = world.asked(route)
    assert asked[4]["messages"][: len(asked[3]["messages"])] == asked[3]["messages"]
    assert "mcp_tool_listing" not in str(asked)


def test_servers_of_the_stack_are_used_by_name(world: World) -> None:
    servers = [{"type": "url", "name": "the-docs"}, {"type": "url", "name": "the-wiki"}]
    body = request(world, mcp_servers=servers, tools=only_search("the-docs", "the-wiki"))
    content = world.post(body).json()["content"]
    assert content[-1]["text"] == "I read: docs on otters for operator, wiki on otters"
    refused = world.post({**body, "mcp_servers": servers[:1], "tools": only_search("the-docs")}, key="bob")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("tools: the only tools are ones that this server cannot run")


def test_the_tool_runner_of_the_sdk_runs_its_own_tools_beside(world: World) -> None:
    looked: list[str] = []

    @anthropic.beta_tool
    def look__search(query: str) -> str:
        """Looks for something here."""
        looked.append(query)
        return f"a look at {query}"

    with world.client() as client:
        body = request(world, tools=[look__search, *only_search("docs", "wiki")])
        runner = client.beta.messages.tool_runner(**body, betas=BETA)
        first, last = list(runner)
    kinds = [each.type for each in first.content]
    assert kinds == ["text", "tool_use", *["mcp_tool_use"] * 2, *["mcp_tool_result"] * 2]
    assert (first.stop_reason, looked) == ("tool_use", ["otters"])
    assert last.content[0].text == "I read: docs on otters for secret, wiki on otters, a look at otters"  # type: ignore[union-attr]
    assert len(world.docs.calls) == len(world.wiki.calls) == 1


def test_offered_tools_are_counted(world: World) -> None:
    with world.client() as client:
        body = request(world, "native")
        few, none = ({**body, "tools": only_search(*names)} for names in (("docs", "wiki"), ()))
        del few["max_tokens"], none["max_tokens"], none["mcp_servers"]
        client.beta.messages.count_tokens(**few, betas=BETA)
        client.beta.messages.count_tokens(**none, betas=BETA)
    counted = [each.json for each in world.upstreams["vllm"].requests if each.path.endswith("count_tokens")]
    assert [len(each["tools"]) for each in counted[-2:]] == [2, 0]


def test_two_users_never_see_each_others_results(world: World) -> None:
    def ask(n: int) -> None:
        token, route = (("secret", "translated"), ("other", "native"))[n % 2]
        key = "ann" if n % 4 < 2 else "bob"
        body = request(world, route, mcp_servers=world.named(token=token)[:1], tools=only_search("docs"))
        text = world.post(body, key).json()["content"][-1]["text"]
        assert text == f"I read: docs on otters for {token}"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(16)))
    wrong = world.post(request(world, mcp_servers=world.named(token="wrong")))
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"].startswith("mcp_servers.0.authorization_token: Invalid authorization token")


def test_a_server_that_may_not_be_named_is_left_out(world: World) -> None:
    far = {"type": "url", "name": "far", "url": "https://far.test/mcp", "authorization_token": "sec-ret"}
    body = request(world, mcp_servers=[far, world.named()[1]], tools=only_search("far", "wiki"))
    answer = world.post(body)
    assert answer.headers["x-messages-dropped"] == "mcp_servers.0"
    assert answer.json()["content"][-1]["text"] == "I read: wiki on otters"
    strict = world.post(body, **{"x-messages-strict": "true"})
    assert (strict.status_code, strict.json()["error"]["message"][:14]) == (400, "mcp_servers.0:")
    look = {"name": "look", "input_schema": {"type": "object"}}
    for route in MODELS:
        alone = world.post(request(world, route, mcp_servers=[far], tools=[look]))
        assert alone.headers["x-messages-dropped"] == "mcp_servers"
        assert "sec-ret" not in str(world.asked(route))


def test_anthropic_itself_calls_its_servers(world: World) -> None:
    body = {**request(world), "model": "anthropic/anthropic-model"}
    world.post(body)
    sent = world.upstreams["anthropic"].requests_to(MESSAGES)[-1].json
    assert (sent["mcp_servers"], sent["tools"]) == (body["mcp_servers"], body["tools"])
    assert world.docs.calls == []


def test_a_batch_uses_the_servers_of_the_stack(world: World) -> None:
    own: Any = {"mcp_servers": [{"type": "url", "name": "the-docs"}], "tools": only_search("the-docs")}
    with world.client() as client:
        params = {**request(world), **own}
        batch = client.messages.batches.create(requests=[{"custom_id": f"r{n}", "params": params} for n in range(3)])
        eventually(
            lambda: client.messages.batches.retrieve(batch.id).processing_status == "ended", within=60, what="its end"
        )
        for result in client.messages.batches.results(batch.id):
            assert result.result.message.content[-1].text == "I read: docs on otters for operator"  # type: ignore[union-attr]
        for servers, message in (
            (world.named()[:1], "requests.0.params.mcp_servers.0.authorization_token: a batch keeps no tokens"),
            (world.named()[1:], "requests.0.params.mcp_servers.0.url: a batch can use only MCP servers that the stack"),
        ):
            bad: Any = {**request(world), "mcp_servers": servers}
            with pytest.raises(anthropic.BadRequestError) as refused:
                client.messages.batches.create(requests=[{"custom_id": "a", "params": bad}])
            assert message in str(refused.value)


def test_a_batch_survives_the_death_of_its_server(world: World) -> None:
    """What ran before keeps its result; what was under way when the server died is run again, and nothing else is."""
    own: Any = {"mcp_servers": [{"type": "url", "name": "the-docs"}], "tools": only_search("the-docs")}
    with world.client() as client:
        params = {**request(world), **own}
        ids = [f"r{n}" for n in range(30)]
        batch = client.messages.batches.create(requests=[{"custom_id": each, "params": params} for each in ids])
        eventually(lambda: len(world.docs.calls) >= 10, within=60, what="some calls")
        world.stack.kill()
        world.stack.start()
        eventually(
            lambda: client.messages.batches.retrieve(batch.id).processing_status == "ended", within=120, what="its end"
        )
        results = {each.custom_id: each.result for each in client.messages.batches.results(batch.id)}
    assert sorted(results) == sorted(ids)
    assert {each.type for each in results.values()} == {"succeeded"}
    assert 30 <= len(world.docs.calls) <= 30 + 2 * AT_ONCE


def test_a_client_that_leaves_ends_the_call(world: World) -> None:
    tools = [{"type": "mcp_toolset", "mcp_server_name": "wiki", "configs": {"search": {"enabled": False}}}]
    body = request(world, mcp_servers=world.named()[1:], tools=tools, stream=True)

    async def leave() -> None:
        async with (
            httpx.AsyncClient(base_url=world.stack.base_url, headers={"x-api-key": "ann"}) as client,
            client.stream("POST", "/v1/messages", json=body, timeout=60) as response,
        ):
            async for line in response.aiter_lines():
                if line == "event: ping":
                    break

    asyncio.run(leave())
    assert world.wiki.calls == [("stall", None)]
    eventually(lambda: "DELETE" in world.wiki.methods, within=30, what="the end of the session")
    assert len(world.asked("translated")) == 1


def test_the_example_of_the_documentation(world: World) -> None:
    page = (Path(__file__).parents[2] / "docs" / "server-tools.md").read_text()
    [program] = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    for there, here in {
        "http://localhost:8321": world.stack.base_url,
        "https://wiki.example.com/mcp": world.wiki.url,
        '"docs"': '"the-docs"',
        '"any"': '"ann"',
    }.items():
        assert there in program
        program = program.replace(there, here)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    asked = "{'query': 'otters'}"
    uses = [f"the-docs search {asked}", f"the-docs stall {asked}", f"wiki search {asked}"]
    assert done.stdout.splitlines()[:3] == uses
    assert [line.split()[0] for line in done.stdout.splitlines()[3:]] == ["False", "True", "False"]


def test_doctor_says_which_servers_there_are(world: World) -> None:
    command = [str(COMMAND), "doctor", "--url", world.stack.base_url, "--token", "ann", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = {each["tool"]: each["run_by"] for each in orjson.loads(done.stdout)["server_tools"]}
    assert found["mcp_toolset"] == "the stack's own: the-docs, the-wiki; those at http://127.0.0.1:*/mcp"
    assert found["web_search"] is None
