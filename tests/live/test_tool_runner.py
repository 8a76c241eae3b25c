"""The SDK's tool runner and its MCP helpers, and the in-process client, beside tools that are run here; both routes."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest
import yaml
from anthropic.lib.tools.mcp import async_mcp_tool, mcp_message, mcp_resource_to_content, mcp_tool
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl

from tests.conftest import RUN_YAML_VARIABLES
from tests.support import personalities
from tests.support.mcp_server import McpServer
from tests.support.model import offered, results, said, serve
from tests.support.stack import Stack, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import Json, text_block, tool_use_block

MODELS = {"translated": "openai/openai-model", "native": "vllm/vllm-model"}
BETA = ["mcp-client-2025-11-20"]
BM25: Json = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
WIKI: Json = {
    "type": "mcp_toolset",
    "mcp_server_name": "wiki",
    "default_config": {"enabled": False},
    "configs": {"search": {"enabled": True}},
}
ROUNDS = 2
HERE, THERE = "search", "mcp__wiki__search"


def planned(body: Json) -> list[Json]:
    """A model that makes the calls which its user names, round after round, and then tells what it has read.

    The user's words are JSON: a list of rounds, each a list of names and inputs.
    """
    found, made = results(body), 0
    for calls in json.loads(said(body).splitlines()[-1]):  # other turns of the user may stand before it
        if made == len(found):
            missing = [name for name, _ in calls if name not in offered(body)]
            assert not missing, f"{missing} not among {offered(body)}"
            return [tool_use_block(name, given, id=f"toolu_{made}_{n}") for n, (name, given) in enumerate(calls)]
        made += len(calls)
    return [text_block(f"I read: {' | '.join(found)}")]


def words(*rounds: list[tuple[str, Json]]) -> Any:
    return [{"role": "user", "content": json.dumps(rounds)}]


@dataclass
class World:
    folder: Path
    stack: Stack
    upstreams: dict[str, ScriptedUpstream]
    docs: McpServer
    wiki: McpServer

    def request(self, route: str, tools: list[Any], *rounds: list[tuple[str, Json]], **more: Any) -> Any:
        servers = [{"type": "url", "name": "wiki", "url": ""}]
        body = {"model": MODELS[route], "max_tokens": 100, "messages": words(*rounds), "tools": tools, "betas": BETA}
        return {**body, "mcp_servers": servers, **more}


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("runner")
    with ExitStack() as opened:
        docs, wiki = (opened.enter_context(McpServer(name)) for name in ("docs", "wiki"))
        makers = {"openai": personalities.openai_style, "vllm": personalities.vllm}
        upstreams = {
            name: opened.enter_context(ScriptedUpstream(make(models=[f"{name}-model"])))
            for name, make in makers.items()
        }
        config = run_config(
            folder,
            inference=[openai_provider(upstreams["openai"].url), vllm_provider(upstreams["vllm"].url)],
            connectors=[{"connector_id": "wiki", "url": wiki.url}],
            messages={"web_search": {"rounds": ROUNDS}, "probe": {"yes_seconds": 86_400}},
        )
        (folder / "in-process.yaml").write_text(yaml.safe_dump({**config, **_own_storage(folder, config)}))
        yield World(folder, opened.enter_context(Stack(config, folder)), upstreams, docs, wiki)


def _own_storage(folder: Path, config: Json) -> Json:
    """A second stack has files of its own."""
    text = json.dumps(config["storage"]).replace(".db", "-in-process.db")
    return {"storage": json.loads(text)}


@pytest.fixture
def world(_world: World) -> World:
    for upstream in _world.upstreams.values():
        upstream.forget()
        serve(upstream, planned)
    for server in (_world.docs, _world.wiki):
        server.forget()
    return _world


@asynccontextmanager
async def session_of(server: McpServer) -> AsyncIterator[ClientSession]:
    """A session of the client's own."""
    async with streamable_http_client(server.url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        yield session


def asks(topic: str) -> Json:
    return {"query": topic}


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
routes = pytest.mark.parametrize("route", MODELS)


async def of_turns(runner: Any, *, streamed: bool) -> list[Any]:
    return [await turn.get_final_message() if streamed else turn async for turn in runner]


@both
@routes
async def test_tools_of_the_client_s_own_mcp_session_beside_those_of_the_stack(
    route: str, streamed: bool, world: World
) -> None:
    """One server is the client's, the other the stack's; one round calls both, the next one each."""
    async with (
        session_of(world.docs) as session,
        anthropic.AsyncAnthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client,
    ):
        tools = [async_mcp_tool(tool, session) for tool in (await session.list_tools()).tools if tool.name == "search"]
        rounds = [[(HERE, asks("otters")), (THERE, asks("seals"))], [(HERE, asks("eels"))], [(THERE, asks("rays"))]]
        body = world.request(route, [*tools, WIKI], *rounds)
        runner = client.beta.messages.tool_runner(**body, **({"stream": True} if streamed else {}))
        turns = await of_turns(runner, streamed=streamed)
    assert [[each.type for each in turn.content] for turn in turns] == [
        ["tool_use", "mcp_tool_use", "mcp_tool_result"],
        ["tool_use"],
        ["mcp_tool_use", "mcp_tool_result", "text"],
    ]
    read = turns[-1].content[-1].text
    for found in ("docs on otters", "wiki on seals", "docs on eels", "wiki on rays"):
        assert read.count(found) == 1
    assert (len(world.docs.calls), len(world.wiki.calls)) == (2, 2)


@both
@routes
async def test_tools_of_the_client_s_session_that_a_search_of_ours_finds(
    route: str, streamed: bool, world: World
) -> None:
    async with (
        session_of(world.docs) as session,
        anthropic.AsyncAnthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client,
    ):
        listed = (await session.list_tools()).tools
        tools = [async_mcp_tool(tool, session, defer_loading=True) for tool in listed]
        rounds = [[(BM25["name"], {"query": "searches the docs"})], [(HERE, asks("otters"))]]
        body = world.request(route, [BM25, *tools], *rounds)
        del body["mcp_servers"]
        runner = client.beta.messages.tool_runner(**body, **({"stream": True} if streamed else {}))
        turns = await of_turns(runner, streamed=streamed)
    assert [[each.type for each in turn.content] for turn in turns] == [
        ["server_tool_use", "tool_search_tool_result", "tool_use"],
        ["text"],
    ]
    assert "docs on otters" in turns[-1].content[-1].text
    asked = [
        offered(each.json)
        for each in world.upstreams["openai" if route == "translated" else "vllm"].requests
        if "tools" in (each.json or {})
    ]
    assert [names.count("search") for names in asked] == [0, 1, 1]
    assert {len(names) for names in asked} == {1, 2}


@both
@routes
async def test_the_synchronous_runner_resumes_a_message_that_was_paused(
    route: str, streamed: bool, world: World
) -> None:
    """The session lives in an event loop, and the runner in a thread beside it, as the SDK has it."""

    def run(tools: list[Any]) -> list[Any]:
        rounds = [[(THERE, asks(f"wave {n}"))] for n in range(ROUNDS + 1)]
        with anthropic.Anthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client:
            body = world.request(route, [*tools, WIKI], *rounds, [(HERE, asks("otters"))])
            runner: Any = client.beta.messages.tool_runner(**body, **({"stream": True} if streamed else {}))
            return [turn.get_final_message() if streamed else turn for turn in runner]

    async with session_of(world.docs) as session:
        listed = (await session.list_tools()).tools
        tools = [mcp_tool(tool, session) for tool in listed if tool.name == "search"]
        turns = await anyio.to_thread.run_sync(run, tools)
    assert [turn.stop_reason for turn in turns] == ["pause_turn", "tool_use", "end_turn"]
    read = turns[-1].content[-1].text
    assert [read.count(f"wiki on wave {n}") for n in range(ROUNDS + 1)] == [1] * (ROUNDS + 1)
    assert read.count("docs on otters") == 1
    assert len(world.wiki.calls) == ROUNDS + 1


@routes
async def test_prompts_and_resources_of_a_server_are_sent_as_the_sdk_makes_them(route: str, world: World) -> None:
    async with (
        session_of(world.docs) as session,
        anthropic.AsyncAnthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client,
    ):
        prompt = await session.get_prompt("about", {"topic": "otters"})
        notes = mcp_resource_to_content(await session.read_resource(AnyUrl("file:///notes.txt")))
        plan: Any = {"type": "text", "text": json.dumps([[(THERE, asks("otters"))]])}
        turns: Any = [
            *(mcp_message(message) for message in prompt.messages),
            {"role": "user", "content": [notes]},
            {"role": "user", "content": [plan]},
        ]
        message = await client.beta.messages.create(**world.request(route, [WIKI], messages=turns))
    assert message.content[-1].text == "I read: wiki on otters"  # type: ignore[union-attr]
    upstream = world.upstreams["openai" if route == "translated" else "vllm"]
    [first, _] = [str(each.json["messages"]) for each in upstream.requests if "tools" in (each.json or {})]
    assert "What of otters?" in first
    assert "Notes of the docs." in first


# --- in the same process ---

SYNC = """
import json, os, sys
import anthropic
from llama_stack.core.library_client import LlamaStackAsLibraryClient
from llama_stack_messages_provider import anthropic_client

body = json.loads(sys.argv[2])
looked = []

@anthropic.beta_tool
def look(query: str) -> str:
    '''Looks for something here.'''
    looked.append(query)
    return f"a look at {query}"

with LlamaStackAsLibraryClient(sys.argv[1]) as stack, anthropic_client(stack) as client:
    message = client.beta.messages.create(**body)
    with client.beta.messages.stream(**body) as stream:
        streamed = stream.get_final_message()
    plan = [[("look", {"query": "otters"}), ("mcp__wiki__search", {"query": "seals"})]]
    running = {**body, "messages": [{"role": "user", "content": json.dumps(plan)}], "tools": [*body["tools"], look]}
    *_, last = client.beta.messages.tool_runner(**running)
print(json.dumps([message.to_dict(), streamed.to_dict(), last.to_dict()], default=str))
"""

ASYNC = """
import asyncio, json, sys
from llama_stack.core.library_client import AsyncLlamaStackAsLibraryClient
from llama_stack_messages_provider import anthropic_client

body = json.loads(sys.argv[2])

async def main():
    async with AsyncLlamaStackAsLibraryClient(sys.argv[1]) as stack, anthropic_client(stack) as client:
        message = await client.beta.messages.create(**body)
        async with client.beta.messages.stream(**body) as stream:
            streamed = await stream.get_final_message()
        both = await asyncio.gather(*(client.beta.messages.create(**body) for _ in range(4)))
    assert all(each.content[-1].text == message.content[-1].text for each in both)
    print(json.dumps([message.to_dict(), streamed.to_dict()], default=str))

asyncio.run(main())
"""


@routes
@pytest.mark.parametrize("program", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_stack_in_the_same_process_calls_mcp_servers(program: str, route: str, world: World) -> None:
    body = world.request(route, [WIKI], [(THERE, asks("otters"))])
    kept = {name: value for name, value in os.environ.items() if name not in RUN_YAML_VARIABLES}
    env = {**kept, "LLAMA_STACK_LOG_FORMAT": "json", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, str(world.folder / "in-process.yaml"), json.dumps(body)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    said = json.loads(done.stdout.splitlines()[-1])
    for message in said[:2]:
        kinds = [each["type"] for each in message["content"]]
        assert kinds == ["mcp_tool_use", "mcp_tool_result", "text"]
    assert "Unclosed" not in done.stderr
    assert "Task was destroyed" not in done.stderr
    for message in said[2:]:
        assert "a look at otters" in message["content"][-1]["text"]
        assert "wiki on seals" in message["content"][-1]["text"]
