"""Pages that a server fetches for models, on both routes; the web is a scripted server of this machine."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import pytest

from tests.support import personalities
from tests.support.laws import assert_well_formed
from tests.support.model import CHAT, MESSAGES, results, serve
from tests.support.stack import Stack, custom_auth, openai_provider, run_config, vllm_provider
from tests.support.upstream import (
    Reply,
    ScriptedUpstream,
    chat_reply,
    raw_reply,
)
from tests.support.waiting import eventually
from tests.support.wire import Json, text_block, tool_use_block

FETCH: Json = {"type": "web_fetch_20260318", "name": "web_fetch"}
HTML = b"<html><head><title>Otters</title></head><body><p>They <b>swim</b>.</p></body></html>"
USERS = {"any": ("ann", {"roles": ["admin"]}), "key-bob": ("bob", {"roles": ["user"]})}
POLICY: list[Json] = [
    {
        "forbid": {"actions": ["read"], "resource": "model::openai/openai-model"},
        "unless": "user with admin in roles",
    },
    {"permit": {"actions": ["read", "create", "delete"]}},
]
MODELS = {"translated": "openai/openai-model", "native": "vllm/vllm-model"}


@dataclass
class World:
    stack: Stack
    web: ScriptedUpstream
    openai: ScriptedUpstream
    vllm: ScriptedUpstream

    def page(self, path: str = "/a") -> str:
        return f"{self.web.url}{path}"

    def seen(self, way: str) -> list[Json]:
        """What the model was asked."""
        upstream, path = (self.openai, CHAT) if way == "translated" else (self.vllm, MESSAGES)
        return [each.json for each in upstream.requests_to(path) if (each.json or {}).get("max_tokens")]


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("fetch")
    with ExitStack() as opened:
        web = opened.enter_context(ScriptedUpstream())
        openai = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["openai-model"])))
        vllm = opened.enter_context(ScriptedUpstream(personalities.vllm(models=["vllm-model"])))
        providers = [openai_provider(openai.url, "openai"), vllm_provider(vllm.url, "vllm")]
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(USERS)))
        fetch = {"enabled": True, "allow": ["127.0.0.1/32"]}
        messages = {"web_fetch": fetch, "probe": {"yes_seconds": 86_400}}
        access = custom_auth(auth.url, POLICY)
        config = run_config(folder, inference=providers, messages=messages, auth=access)
        stack = opened.enter_context(Stack(config, folder))
        yield World(stack, web, openai, vllm)


def asked_for(body: Json) -> str | None:
    """The page that the model wants: what its user names, once."""
    content = str(body["messages"][0]["content"])
    return None if "They" in str(body["messages"][1:]) or "not fetched" in str(body["messages"]) else content.split()[1]


@pytest.fixture
def world(_world: World) -> World:
    def blocks(body: Json) -> list[Json]:
        url = asked_for(body)
        last = body["messages"][-1]["content"]
        return [tool_use_block("web_fetch", {"url": url}) if url else text_block(f"I read {last}")]

    for upstream in (_world.web, _world.openai, _world.vllm):
        upstream.forget()
    _world.web.reply("/a", raw_reply(HTML, content_type="text/html"))
    serve(_world.openai, blocks)
    serve(_world.vllm, blocks)
    return _world


@pytest.fixture
def client(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client:
        yield client


def request(way: str, url: str, **tool: Any) -> Any:
    messages = [{"role": "user", "content": f"Read {url} please"}]
    return {"model": MODELS[way], "max_tokens": 100, "messages": messages, "tools": [{**FETCH, **tool}]}


def answered(client: anthropic.Anthropic, streamed: bool, body: Any) -> Any:
    if not streamed:
        return client.messages.create(**body)
    with client.messages.stream(**body) as stream:
        return stream.get_final_message()


ways = pytest.mark.parametrize("way", MODELS)
both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@ways
@both
@pytest.mark.parametrize("version", ["20250910", "20260209", "20260309", "20260318"])
def test_a_page_is_fetched_and_read(version: str, streamed: bool, way: str, client: Any, world: World) -> None:
    body = request(way, world.page(), type=f"web_fetch_{version}")
    message = answered(client, streamed, body)
    asked, found, told = message.content
    assert (asked.type, asked.name, asked.input) == ("server_tool_use", "web_fetch", {"url": world.page()})
    assert (found.type, found.tool_use_id) == ("web_fetch_tool_result", asked.id)
    assert (found.content.type, found.content.url) == ("web_fetch_result", world.page())
    assert (found.content.content.title, found.content.content.source.data) == ("Otters", "They **swim**.")
    assert "They **swim**." in told.text
    assert message.usage.server_tool_use.web_fetch_requests == 1

    again = [*body["messages"], {"role": "assistant", "content": message.content}, {"role": "user", "content": "Why?"}]
    answered(client, streamed, {**body, "messages": again})
    second, third = world.seen(way)[-2:]
    assert third["messages"][: len(second["messages"])] == second["messages"]


@both
def test_a_page_is_cut_as_the_client_wants(streamed: bool, client: Any, world: World) -> None:
    _, found, _ = answered(client, streamed, request("native", world.page(), max_content_tokens=1)).content
    assert found.content.content.source.data == "They"


@ways
def test_what_must_not_be_fetched_is_an_error(way: str, client: Any, world: World) -> None:
    def code(url: str, **tool: Any) -> str:
        return str(client.messages.create(**request(way, url, **tool)).content[1].content.error_code)

    world.web.reply("/inside", Reply(302, {"location": "http://169.254.169.254/latest/meta-data/"}))
    assert code("http://10.1.2.3/") == "url_not_allowed"
    assert code(world.page("/inside")) == "url_not_allowed"
    assert code(world.page(), allowed_domains=["otters.test"]) == "url_not_allowed"
    assert code(world.page("/none")) == "url_not_accessible"
    assert code(world.page(), url_sources={"user_input": {"type": "none"}}) == "url_not_in_prior_context"
    assert [each.path for each in world.web.requests] == ["/inside", "/none"]


def test_the_stream_obeys_the_grammar(client: Any, world: World) -> None:
    events = client.messages.create(**request("native", world.page()), stream=True)
    assert_well_formed([event.to_dict() for event in events])


def test_citations_are_named_as_dropped(client: Any, world: World) -> None:
    raw = client.messages.with_raw_response.create(**request("native", world.page(), citations={"enabled": True}))
    assert raw.headers["x-messages-dropped"] == "tools.0.citations"


def test_a_batch_fetches_too(client: Any, world: World) -> None:
    params = request("translated", world.page())
    batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
    eventually(lambda: client.messages.batches.retrieve(batch.id).processing_status == "ended")
    [result] = client.messages.batches.results(batch.id)
    assert result.result.message.content[1].content.type == "web_fetch_result"


def test_doctor_says_who_fetches(world: World) -> None:
    url = f"{world.stack.base_url}/v1/messages/diagnosis"
    found = httpx.get(url, headers={"x-api-key": "any"}, timeout=60)
    assert {"tool": "web_fetch", "run_by": "this provider"} in found.json()["server_tools"], found.text


@both
def test_advice_is_given_by_models_that_the_user_may_use(streamed: bool, world: World) -> None:
    serve(world.vllm, lambda body: [text_block("So.") if results(body) else tool_use_block("advisor", {})])
    world.openai.reply(CHAT, chat_reply("Test first."))
    advisor = {"type": "advisor_20260301", "name": "advisor", "model": "openai/openai-model"}
    body: Any = {**request("native", "it"), "tools": [advisor]}
    for key, found in (("any", "advisor_result"), ("key-bob", "advisor_tool_result_error")):
        with anthropic.Anthropic(base_url=world.stack.base_url, api_key=key, max_retries=0) as client:
            if streamed:
                with client.beta.messages.stream(**body) as stream:
                    message = stream.get_final_message()
            else:
                message = client.beta.messages.create(**body)
        assert message.content[1].content.type == found  # type: ignore[union-attr]
        assert message.stop_reason == "end_turn"
    assert len(world.openai.requests_to(CHAT)) == 1
