"""Programs that a real MCP server runs, in a process of its own, on both routes, by the official SDK."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest
from anthropic.types.beta import BetaMessage
from llama_stack.core.datatypes import ToolGroupWithOwner
from llama_stack.core.storage.datatypes import KVStoreReference, SqliteKVStoreConfig
from llama_stack.core.storage.kvstore import register_kvstore_backends
from llama_stack.core.store.registry import create_dist_registry
from llama_stack_api import URL

from tests.support import personalities
from tests.support.laws import assert_well_formed, fold
from tests.support.model import offered, results, said, serve
from tests.support.python_server import python_server
from tests.support.stack import Stack, custom_auth, mcp_provider, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import Json, text_block, tool_use_block

COMMAND = Path(sys.executable).with_name("llama-stack-messages")
MODELS = {"translated": "openai/openai-model", "native": "vllm/vllm-model"}
CODE: Json = {"type": "code_execution_20250825", "name": "code_execution"}
LOOK: Json = {"name": "look", "input_schema": {"type": "object"}}
USERS = {name: (name, {"roles": ["admin" if name == "ann" else "user"]}) for name in ("ann", "bob")}
RESOURCES = {"connector": "regex:connector::", "tool group": "regex:tool_group::"}
POLICY: list[Json] = [
    *(
        {"forbid": {"actions": ["read"], "resource": resource}, "unless": "user with admin in roles"}
        for resource in RESOURCES.values()
    ),
    {"permit": {"actions": ["read", "create", "delete", "update"]}},
]


def programmer(body: Json) -> list[Json]:
    """A model that runs what its user says: `python: ...` or `bash: ...`, and then says what came of it."""
    language, _, program = said(body).partition(": ")
    name, field = {"python": ("code_execution", "code"), "bash": ("bash_code_execution", "command")}[language]
    if found := results(body):
        return [text_block(f"It said: {' | '.join(found)}")]
    if name not in offered(body):
        return [text_block("I cannot run anything.")]
    return [text_block("I try."), tool_use_block(name, {field: program})]


@dataclass
class World:
    stack: Stack
    upstreams: dict[str, ScriptedUpstream]
    server: str

    def client(self, key: str = "ann") -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.stack.base_url, api_key=key, max_retries=0)


async def register_tool_group(folder: Path, name: str, url: str) -> None:
    """As an older server did: 0.7.3 reads no tool groups from its file, and goes on with those in its registry."""
    register_kvstore_backends({"kv_default": SqliteKVStoreConfig(db_path=str(folder / "kvstore.db"))})
    registry, store = await create_dist_registry(KVStoreReference(backend="kv_default", namespace="registry"), "test")
    await registry.register(ToolGroupWithOwner(identifier=name, provider_id="mcp", mcp_endpoint=URL(uri=url)))
    await store.shutdown()


@pytest.fixture(scope="module", params=RESOURCES)
def _world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("code")
    with ExitStack() as opened:
        url = opened.enter_context(python_server())
        makers = {"openai": personalities.openai_style, "vllm": personalities.vllm}
        upstreams = {
            name: opened.enter_context(ScriptedUpstream(make(models=[f"{name}-model"])))
            for name, make in makers.items()
        }
        connectors = [{"connector_id": "python", "url": url}] if request.param == "connector" else []
        name = "python" if connectors else "mcp::python"
        if not connectors:
            asyncio.run(register_tool_group(folder, name, url))
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(USERS)))
        code = {"server": name, "tool": "run_python", "bash": "run_bash", "seconds": 2}
        config = run_config(
            folder,
            inference=[openai_provider(upstreams["openai"].url), vllm_provider(upstreams["vllm"].url)],
            tool_runtime=[mcp_provider()],
            messages={"code_execution": code, "probe": {"yes_seconds": 86_400}, "ping": {"after_seconds": 0.2}},
            auth=custom_auth(auth.url, POLICY),
            connectors=connectors,
        )
        yield World(opened.enter_context(Stack(config, folder)), upstreams, name)


@pytest.fixture
def world(_world: World) -> World:
    for upstream in _world.upstreams.values():
        upstream.forget()
        serve(upstream, programmer)
    return _world


def request(route: str, program: str, **more: Any) -> Any:
    messages = [{"role": "user", "content": program}]
    return {"model": MODELS[route], "max_tokens": 100, "messages": messages, "tools": [CODE, LOOK], **more}


def answered(client: anthropic.Anthropic, streamed: bool, **body: Any) -> BetaMessage:
    if not streamed:
        return client.beta.messages.create(**body)
    with client.beta.messages.stream(**body) as stream:
        return stream.get_final_message()


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
routes = pytest.mark.parametrize("route", MODELS)


@both
@routes
def test_a_program_is_run_and_its_output_read(route: str, streamed: bool, world: World) -> None:
    with world.client() as client:
        message = answered(client, streamed, **request(route, "python: print(6 * 7)"))
        says, called, result, told = message.content
        assert (says.text, told.text) == ("I try.", "It said: 42\n")  # type: ignore[union-attr]
        assert (called.type, called.name, called.input) == (  # type: ignore[union-attr]
            "server_tool_use",
            "code_execution",
            {"code": "print(6 * 7)"},
        )
        assert (result.type, result.tool_use_id) == ("code_execution_tool_result", called.id)  # type: ignore[union-attr]
        content = result.content.to_dict()  # type: ignore[union-attr]
        assert content == {
            "type": "code_execution_result",
            "stdout": "42\n",
            "stderr": "",
            "return_code": 0,
            "content": [],
        }
        assert [each.type for each in message.usage.iterations or ()] == ["message", "message"]
        BetaMessage.model_validate(message.to_dict())
        turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": "python: 1"}]
        body = request(route, "python: print(6 * 7)")
        answered(client, streamed, **{**body, "messages": [*body["messages"], *turns]})
    upstream = world.upstreams["openai" if route == "translated" else "vllm"]
    asked = [each.json["messages"] for each in upstream.requests if "tools" in (each.json or {})]
    for before, after in pairwise(asked):
        assert after[: len(before)] == before


@both
@routes
def test_a_program_that_fails_and_a_command(route: str, streamed: bool, world: World) -> None:
    with world.client() as client:
        failed = answered(client, streamed, **request(route, "python: raise ValueError('no otters')"))
        ran = answered(client, streamed, **request(route, "bash: echo otters; echo none >&2; exit 3"))
    content: Any = failed.content[2].content  # type: ignore[union-attr]
    assert (content.stdout, content.return_code, "ValueError: no otters" in content.stderr) == ("", 1, True)
    assert "ValueError: no otters\n\nThe program ended with 1." in failed.content[-1].text  # type: ignore[union-attr]
    result: Any = ran.content[2]
    assert (ran.content[1].name, result.type) == ("bash_code_execution", "bash_code_execution_tool_result")  # type: ignore[union-attr]
    assert result.content.type == "bash_code_execution_result"
    assert (result.content.stdout, result.content.stderr, result.content.return_code) == ("otters\n", "none\n", 3)


@routes
def test_a_program_that_takes_too_long_is_an_error_that_the_model_reads(route: str, world: World) -> None:
    with world.client() as client:
        body = request(route, "python: import time; time.sleep(5)", stream=True)
        events = [event.to_dict() for event in client.beta.messages.create(**body)]
    assert_well_formed(events)
    *_, result, told = fold(events)["content"]
    assert result["content"]["error_code"] == "execution_time_exceeded"
    assert told["text"].endswith("The program was not run: execution_time_exceeded")


@routes
def test_who_may_not_use_the_server_runs_nothing(route: str, world: World) -> None:
    with world.client("bob") as client:
        raw = client.beta.messages.with_raw_response.create(**request(route, "python: print(1)"))
    assert raw.headers["x-messages-dropped"] == "tools.0"
    assert raw.parse().content[0].text == "I cannot run anything."  # type: ignore[union-attr]


def test_doctor_says_who_runs_programs(world: World) -> None:
    command = [str(COMMAND), "doctor", "--url", world.stack.base_url, "--token", "ann", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = {each["tool"]: each["run_by"] for each in orjson.loads(done.stdout)["server_tools"]}
    assert found["code_execution"] == f"the stack's tool run_python of the MCP server {world.server}"
