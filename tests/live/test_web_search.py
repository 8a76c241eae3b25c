"""Web searches that the stack runs: Llama Stack's own Tavily and Brave providers, whose services are scripted."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from llama_stack_messages_provider.server_tools.web_search import SearchResult, result_block
from tests.fidelity.claude_code import SEARCHES, headers
from tests.live.raw import RawClient, complaints, post
from tests.support import personalities, sse
from tests.support.laws import assert_well_formed, fold
from tests.support.model import CHAT, MESSAGES, chat_model, native_model, offered, results, serve
from tests.support.search import TAVILY, SearchServices, page
from tests.support.stack import (
    Stack,
    custom_auth,
    embedded_provider,
    openai_provider,
    run_config,
    search_provider,
    vllm_provider,
)
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    Responder,
    ScriptedUpstream,
    Wait,
    call,
    chat_reply,
    completion_usage,
    hang_reply,
    json_reply,
)
from tests.support.waiting import eventually
from tests.support.wire import (
    Json,
    text_block,
    tool_use_block,
)

SEARCH: Json = {"type": "web_search_20250305", "name": "web_search"}
LOOK: Json = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
OTTERS = page("https://otters.test/a", "Otters", "They swim & dive.")
SEALS = page("https://seals.test/a", "Seals", "They bark.")
MODEL = "openai/openai-model"
NATIVE = ("vllm", "sglang", "llamacpp", "ollama")
ENGINES = ("vllm", "sglang", "llamacpp", "ollama", "anthropic", "openai")
USERS = {"any": ("ann", {"roles": ["admin"]}), "key-bob": ("bob", {"roles": ["user"]})}
POLICY: list[Json] = [
    {"forbid": {"actions": ["read"], "resource": "regex:tool_group::"}, "unless": "user with admin in roles"},
    {"permit": {"actions": ["read", "create", "delete"]}},
]


def played(reply: Responder, request: RecordedRequest) -> Reply:
    return reply(request) if callable(reply) else reply


def blocks(body: Json) -> list[Json]:
    """A model that searches first, and says what it has read."""
    if found := results(body):
        return [text_block(f"I read: {' '.join(found)}")]
    searches = "web_search" in offered(body)
    return [tool_use_block("web_search", {"query": "otters"}) if searches else text_block("I cannot search.")]


searcher = chat_model(blocks)


@dataclass
class World:
    """A stack that can search, before upstreams of every kind."""

    stack: Stack
    web: SearchServices
    upstreams: Mapping[str, ScriptedUpstream]

    @property
    def openai(self) -> ScriptedUpstream:
        return self.upstreams["openai"]

    def asked(self, name: str = "openai") -> list[Json]:
        """What reached an upstream's chat completions."""
        return [request.json for request in self.upstreams[name].requests_to(CHAT)]


def opened_world(opened: ExitStack, folder: Path, search: str, messages: Json, **more: Any) -> World:
    web = opened.enter_context(SearchServices(folder))
    upstreams = {}
    for name in ENGINES:
        maker = getattr(personalities, {"llamacpp": "llama_cpp", "openai": "openai_style"}.get(name, name))
        upstreams[name] = opened.enter_context(ScriptedUpstream(maker(models=[f"{name}-model"])))
    providers = [
        (vllm_provider if name == "vllm" else openai_provider)(upstream.url, name)
        for name, upstream in upstreams.items()
    ]
    providers.append(openai_provider(upstreams["anthropic"].url, "anthropic-translated"))
    config = run_config(folder, inference=providers, tool_runtime=[search_provider(search)], messages=messages, **more)
    stack = opened.enter_context(Stack(config, folder, env=web.env))
    return World(stack, web, upstreams)


@pytest.fixture(scope="module")
def _worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, World]]:
    messages: Json = {
        "probe": {"yes_seconds": 86_400},
        "web_search": {"rounds": 3, "seconds": 2, "results": 4, "characters": 500},
        "ping": {"after_seconds": 0.2},
        "routes": {"anthropic-translated": "translation"},
    }
    with ExitStack() as opened:
        auth = opened.enter_context(ScriptedUpstream(personalities.identities(USERS)))
        yield {
            "tavily": opened_world(
                opened, tmp_path_factory.mktemp("tavily"), "tavily", messages, auth=custom_auth(auth.url, POLICY)
            ),
            "brave": opened_world(opened, tmp_path_factory.mktemp("brave"), "brave", messages),
        }


@pytest.fixture
def worlds(_worlds: dict[str, World]) -> dict[str, World]:
    for world in _worlds.values():
        world.web.services.forget()
        world.web.found(OTTERS)
        for name, upstream in world.upstreams.items():
            upstream.forget()
            upstream.reply(CHAT, searcher)
            if name in NATIVE:
                serve(upstream, blocks)
    return _worlds


@pytest.fixture
def world(worlds: dict[str, World]) -> World:
    return worlds["tavily"]


@pytest.fixture
def client(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client:
        yield client


def request(**more: Any) -> Any:
    messages = [{"role": "user", "content": "What do otters do?"}]
    return {"model": MODEL, "max_tokens": 100, "messages": messages, "tools": [SEARCH], **more}


def answered(client: anthropic.Anthropic, streamed: bool, **more: Any) -> Any:
    if not streamed:
        return client.messages.create(**request(**more))
    with client.messages.stream(**request(**more)) as stream:
        return stream.get_final_message()


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


# --- a search ---


@both
@pytest.mark.parametrize("version", ["20250305", "20260209", "20260318"])
@pytest.mark.parametrize("service", ["tavily", "brave"])
def test_the_model_searches_and_answers(service: str, version: str, streamed: bool, worlds: dict[str, World]) -> None:
    world = worlds[service]
    search = {**SEARCH, "type": f"web_search_{version}"}
    with anthropic.Anthropic(base_url=world.stack.base_url, api_key="any", max_retries=0) as client:
        message = answered(client, streamed, tools=[search])
    searched, found, told = message.content
    assert (searched.type, searched.name, searched.input) == ("server_tool_use", "web_search", {"query": "otters"})
    assert searched.id.startswith("srvtoolu_")
    assert (found.type, found.tool_use_id) == ("web_search_tool_result", searched.id)
    assert [(each.title, each.url) for each in found.content] == [("Otters", "https://otters.test/a")]
    assert "They swim & dive." in told.text
    assert 'source="https://otters.test/a"' in told.text
    assert message.stop_reason == "end_turn"
    assert message.usage.server_tool_use.web_search_requests == 1
    assert world.web.queries == ["otters"]
    assert "search-key" in str(world.web.services.last.headers) + str(world.web.services.last.json)


@both
def test_the_model_is_asked_again_with_what_was_found(streamed: bool, client: Any, world: World) -> None:
    message = answered(client, streamed, tool_choice={"type": "tool", "name": "web_search"})
    first, second = world.asked()
    assert first["tool_choice"] == {"type": "function", "function": {"name": "web_search"}}
    assert second["tool_choice"] == "auto"
    assert second["tools"] == first["tools"]
    assert second["messages"][: len(first["messages"])] == first["messages"]
    search, result = second["messages"][len(first["messages"]) :]
    ident = message.content[0].id
    function = {"name": "web_search", "arguments": '{"query":"otters"}'}
    assert search == {"role": "assistant", "tool_calls": [{"id": ident, "type": "function", "function": function}]}
    assert (result["role"], result["tool_call_id"]) == ("tool", ident)
    assert "They swim & dive." in result["content"]


@both
def test_both_rounds_count(streamed: bool, client: Any, world: World) -> None:
    world.openai.queue(
        CHAT,
        chat_reply(tool_calls=[call("web_search", {"query": "otters"})], usage=completion_usage(10, 30)),
        chat_reply("So.", usage=completion_usage(50, 7, cached_tokens=40)),
    )
    usage = answered(client, streamed).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (20, 40, 37)
    limits = [body.get("max_completion_tokens") or body["max_tokens"] for body in world.asked()]
    assert limits == [100, 70]


def test_the_stream_obeys_the_grammar_and_folds_to_the_whole_message(client: Any, world: World) -> None:
    whole = answered(client, False).to_dict()
    raw = client.messages.with_raw_response.create(**request(stream=True))
    events = [event.to_dict() for event in raw.parse()]
    assert_well_formed(events)
    folded = fold(events)
    assert raw.headers["x-messages-route"] == "translation"
    assert "x-messages-dropped" not in raw.headers
    for message in (whole, folded):
        ident = message.pop("id").removeprefix("msg_")
        assert str(message["content"]).count(ident) == 2  # a search's id is its message's
        message["content"] = str(message["content"]).replace(ident, "")
    assert {name: folded[name] for name in whole} == whole


def test_the_next_turn_brings_the_search_back(client: Any, world: World) -> None:
    first = answered(client, False)
    history = [*request()["messages"], {"role": "assistant", "content": first.content}]
    world.openai.reply(CHAT, chat_reply("Because they can."))
    message = answered(client, False, messages=[*history, {"role": "user", "content": "Why?"}])
    assert message.content[0].text == "Because they can."
    earlier, now = world.asked()[-2:]
    assert now["messages"][: len(earlier["messages"])] == earlier["messages"]
    assert [each["role"] for each in now["messages"]][-2:] == ["assistant", "user"]


@both
def test_searches_at_once_are_all_made(streamed: bool, client: Any, world: World) -> None:
    queries = [call("web_search", {"query": name}, id=f"call_{name}") for name in ("otters", "seals")]
    world.openai.queue(CHAT, chat_reply("Let me look.", tool_calls=queries))
    message = answered(client, streamed)
    kinds = [block.type for block in message.content]
    assert kinds == ["text", *["server_tool_use"] * 2, *["web_search_tool_result"] * 2, "text"]
    assert [block.tool_use_id for block in message.content[3:5]] == [block.id for block in message.content[1:3]]
    assert sorted(world.web.queries) == ["otters", "seals"]
    assert message.usage.server_tool_use.web_search_requests == 2


def test_many_searches_are_made_some_at_a_time(client: Any, world: World) -> None:
    slow = [Wait(0.3), b'{"query": "x", "results": []}']
    world.web.services.reply(TAVILY, Reply(200, {"content-type": "application/json"}, slow))
    calls = [call("web_search", {"query": f"otter {n}"}, id=f"call_{n}") for n in range(10)]
    world.openai.queue(CHAT, chat_reply(tool_calls=calls))
    assert answered(client, False).usage.server_tool_use.web_search_requests == 10
    first = min(request.finished_at or 0 for request in world.web.services.requests)
    assert sum(request.received_at < first for request in world.web.services.requests) == 8


@both
def test_a_stop_sequence_before_a_search_ends_the_message(streamed: bool, client: Any, world: World) -> None:
    search = chat_reply("The END", tool_calls=[call("web_search", {"query": "otters"})])
    world.openai.queue(CHAT, search, chat_reply(""))
    assert answered(client, streamed, stop_sequences=["END"]).stop_reason == "stop_sequence"
    assert world.web.queries == []


# --- with tools of the client's ---


@both
def test_a_call_of_the_client_s_beside_a_search_is_the_client_s(streamed: bool, client: Any, world: World) -> None:
    calls = [call("look", {}), call("web_search", {"query": "otters"})]
    world.openai.queue(CHAT, chat_reply(tool_calls=calls))
    message = answered(client, streamed, tools=[SEARCH, LOOK])
    look, searched, found = message.content
    assert (look.type, searched.type, found.type) == ("tool_use", "server_tool_use", "web_search_tool_result")
    assert message.stop_reason == "tool_use"
    assert len(world.asked()) == 1
    result = {"type": "tool_result", "tool_use_id": look.id, "content": "An otter."}
    turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    after = answered(client, streamed, tools=[SEARCH, LOOK], messages=[*request()["messages"], *turns])
    assert after.content[0].text.endswith("</search_result> An otter.")
    assert [each["role"] for each in world.asked()[-1]["messages"]] == ["user", *["assistant", "tool"] * 2]


# --- bounds ---


@both
def test_a_message_is_paused_and_goes_on(streamed: bool, client: Any, world: World) -> None:
    def endless(request: RecordedRequest) -> Reply:
        return played(chat_reply(tool_calls=[call("web_search", {"query": "more"})]), request)

    world.openai.reply(CHAT, endless)
    paused = answered(client, streamed)
    assert paused.stop_reason == "pause_turn"
    assert [block.type for block in paused.content] == ["server_tool_use", "web_search_tool_result"] * 3
    assert len({block.id for block in paused.content[::2]}) == 3
    world.openai.reply(CHAT, searcher)
    turns = [*request()["messages"], {"role": "assistant", "content": paused.content}]
    assert answered(client, streamed, messages=turns).content[0].text.startswith("I read: ")


@both
def test_no_more_searches_than_the_client_allows(streamed: bool, client: Any, world: World) -> None:
    queries = [call("web_search", {"query": name}, id=f"call_{name}") for name in ("otters", "seals")]
    world.openai.queue(CHAT, chat_reply(tool_calls=queries))
    message = answered(client, streamed, tools=[{**SEARCH, "max_uses": 1}])
    refused = message.content[3]
    assert (refused.content.type, refused.content.error_code) == ("web_search_tool_result_error", "max_uses_exceeded")
    assert world.web.queries == ["otters"]
    assert "[tool error] The search failed: max_uses_exceeded" in world.asked()[-1]["messages"][-1]["content"]


@both
def test_pages_are_of_the_domains_that_the_client_wants(streamed: bool, client: Any, world: World) -> None:
    world.web.found(OTTERS, SEALS)
    place = {"type": "approximate", "city": "Bergen", "country": "NO"}
    bounds = {"blocked_domains": ["seals.test"], "user_location": place}
    message = answered(client, streamed, tools=[{**SEARCH, **bounds}])
    assert [each.title for each in message.content[1].content] == ["Otters"]
    description = world.asked()[0]["tools"][0]["function"]["description"]
    assert description.endswith("The user is in Bergen, NO.")
    message = answered(client, streamed, tools=[{**SEARCH, "allowed_domains": ["seals.test"]}])
    assert [each.title for each in message.content[1].content] == ["Seals"]
    assert world.web.queries[-1] == "otters site:seals.test"


def test_results_have_bounds(client: Any, world: World) -> None:
    world.web.found(*(page(f"https://otters.test/{n}", f"Otters {n}", "otter " * 200) for n in range(9)))
    message = answered(client, False)
    assert [each.title for each in message.content[1].content] == [f"Otters {n}" for n in range(4)]
    assert len(world.asked()[-1]["messages"][-1]["content"]) < 4 * 700


# --- failures ---

FAILURES: dict[str, tuple[Responder, str]] = {
    "a failure": (json_reply({}, status=500), "unavailable"),
    "too many searches": (json_reply({}, status=429), "too_many_requests"),
    "silence": (hang_reply(), "unavailable"),
    "another shape": (json_reply([]), "unavailable"),
    "no JSON": (Reply(200, {}, [b"<html>"]), "unavailable"),
}


@both
@pytest.mark.parametrize("name", FAILURES)
def test_a_search_that_fails_is_told_and_the_message_goes_on(
    name: str, streamed: bool, client: Any, world: World
) -> None:
    reply, code = FAILURES[name]
    world.web.services.reply(TAVILY, reply)
    message = answered(client, streamed)
    assert message.content[1].content.error_code == code
    assert message.content[2].text == f"I read: [tool error] The search failed: {code}"
    assert not complaints(world.stack.log())


@both
def test_a_search_for_nothing_is_told(streamed: bool, client: Any, world: World) -> None:
    world.openai.queue(CHAT, chat_reply(tool_calls=[call("web_search", '{"que')]))
    assert answered(client, streamed).content[1].content.error_code == "invalid_tool_input"
    assert world.web.queries == []


def test_an_upstream_that_fails_after_a_search_is_told(client: Any, world: World) -> None:
    error = json_reply({"error": {"message": "Out of otters"}}, status=400)
    first = chat_reply(tool_calls=[call("web_search", {"query": "otters"})])
    world.openai.queue(CHAT, first, error, first, error)
    with pytest.raises(anthropic.BadRequestError, match="Out of otters"):
        answered(client, False)
    events = post(world.stack, MODEL, stream=True, tools=[SEARCH], headers={"x-api-key": "any"}).events
    assert events[-1]["error"]["message"] == "Out of otters"


def test_a_client_that_leaves_ends_the_search(world: World) -> None:
    world.web.services.reply(TAVILY, hang_reply())
    client = RawClient(world.stack, MODEL, stream=True, tools=[SEARCH])
    client.read_until(b"event: ping")
    eventually(lambda: world.web.services.requests, what="a search")
    client.hang_up()
    eventually(lambda: world.web.services.last.disconnected_at, within=1, what="the search's end")


@both
def test_what_no_json_can_carry_is_replaced(streamed: bool, client: Any, world: World) -> None:
    page = b'{"url": "https://o.test/\\ud800", "title": "T\\ud800", "content": "x\\ud800"}'
    body = b'{"query": "otters", "results": [' + page + b"]}"
    world.web.services.reply(TAVILY, Reply(200, {"content-type": "application/json"}, [body]))
    message = answered(client, streamed)
    assert message.content[1].content[0].title == "T?"
    assert message.content[2].text.endswith(">\nx?\n</search_result>")


def test_what_is_lost_in_a_later_round_is_named(client: Any, world: World) -> None:
    def warm(request: RecordedRequest) -> Reply:
        if request.json["messages"][-1]["role"] == "tool" and "top_p" in request.json:
            return json_reply({"error": {"message": "Unsupported parameter: 'top_p'"}}, status=400)
        return played(searcher, request)

    world.openai.personality = personalities.openai_style(["warm", "warmer", "openai-model"])
    world.openai.reply(CHAT, warm)
    lossy = {"extra_body": {"top_p": 0.5}}
    raw = client.messages.with_raw_response.create(**request(model="openai/warm", **lossy))
    assert raw.headers["x-messages-dropped"] == "top_p"
    assert answered(client, True, model="openai/warmer", **lossy).stop_reason == "end_turn"

    def logged() -> list[str]:
        lines = [line for line in world.stack.records() if line["event"] == "Parts of a request were dropped"]
        return [line["model"] for line in lines if line["dropped"] == ["top_p"]]

    eventually(lambda: logged() == ["openai/warm", "openai/warmer"])


BAD: dict[str, tuple[Json, str]] = {
    "a domain": ({"allowed_domains": ["[x"]}, "tools.0.allowed_domains.0: not a domain"),
    "a list": ({"allowed_domains": 5}, "tools.0.allowed_domains: "),
    "a place": ({"user_location": "Bergen"}, "tools.0.user_location: "),
    "a number": ({"max_uses": "many"}, "tools.0.max_uses: "),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["", "/count_tokens"])
def test_a_tool_of_a_version_to_come_is_looked_at(path: str, name: str, world: World) -> None:
    bounds, told = BAD[name]
    body = request(tools=[{**SEARCH, "type": "web_search_20991231", **bounds}])
    if path:
        del body["max_tokens"]
    url = f"{world.stack.base_url}/v1/messages{path}"
    response = httpx.post(url, json=body, headers={"x-api-key": "any"}, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(told)


# --- who searches ---


@both
@pytest.mark.parametrize("engine", ENGINES)
def test_engines_that_cannot_search_get_a_custom_tool_by_their_own_route(
    engine: str, streamed: bool, client: Any, world: World
) -> None:
    model = f"{engine}/{engine}-model"
    raw = client.messages.with_raw_response.create(**request(model=model))
    assert raw.headers["x-messages-route"] == ("translation" if engine == "openai" else "native")
    before = len(world.web.queries)
    message = answered(client, streamed, model=model)
    if engine == "anthropic":  # whose own servers search
        assert world.web.queries == []
        return
    assert [block.type for block in message.content] == ["server_tool_use", "web_search_tool_result", "text"]
    assert "They swim & dive." in message.content[2].text
    assert (message.stop_reason, message.usage.server_tool_use.web_search_requests) == ("end_turn", 1)
    assert world.web.queries[before:] == ["otters"]


@both
@pytest.mark.parametrize("engine", NATIVE)
def test_native_engines_get_the_search_back_as_a_call_and_its_result(
    engine: str, streamed: bool, client: Any, world: World
) -> None:
    model, upstream = f"{engine}/{engine}-model", world.upstreams[engine]
    message = answered(client, streamed, model=model)
    history = [*request()["messages"], {"role": "assistant", "content": message.content}]
    answered(client, streamed, model=model, messages=[*history, {"role": "user", "content": "Why?"}])
    bodies = [
        each.json for each in upstream.requests_to(MESSAGES) if each.json.get("max_tokens") and each.json["messages"]
    ]
    first, second, following = [body["messages"] for body in bodies[:3]]
    assert second[: len(first)] == first
    assert following[: len(second)] == second
    assert [turn["role"] for turn in following] == ["user", "assistant", "user", "assistant", "user"]
    assert {block["type"] for turn in second[1:] for block in turn["content"]} == {"tool_use", "tool_result"}


@both
def test_the_end_of_a_native_message_with_searches(streamed: bool, client: Any, world: World) -> None:
    """The client's own calls end it, and too many calls of the model pause it."""
    calls = [tool_use_block("look", {}), tool_use_block("web_search", {"query": "otters"})]
    world.upstreams["vllm"].queue(MESSAGES, native_model(world.upstreams["vllm"], lambda _: calls))
    message = answered(client, streamed, model="vllm/vllm-model", tools=[SEARCH, LOOK])
    kinds = ["tool_use", "server_tool_use", "web_search_tool_result"]
    assert ([block.type for block in message.content], message.stop_reason) == (kinds, "tool_use")
    world.upstreams["vllm"].queue(MESSAGES, *[native_model(world.upstreams["vllm"], lambda _: calls[1:2])] * 3)
    message = answered(client, streamed, model="vllm/vllm-model")
    assert (len(message.content), message.stop_reason) == (6, "pause_turn")


@pytest.mark.parametrize("version", SEARCHES)
@pytest.mark.parametrize("engine", ENGINES)
def test_claude_code_s_search_is_run(engine: str, version: str, world: World) -> None:
    body = {**SEARCHES[version], "model": f"{engine}/{engine}-model"}
    url = f"{world.stack.base_url}/v1/messages"
    response = httpx.post(url, json=body, headers={**headers(version), "x-api-key": "any"}, timeout=60)
    assert response.status_code == 200, response.text
    if engine == "anthropic":  # whose own servers search
        assert world.upstreams[engine].requests_to("/v1/messages")[-1].json["tools"] == SEARCHES[version]["tools"]
    else:
        message = fold(sse.events(response.content)) if body.get("stream") else response.json()
        assert "They swim & dive." in message["content"][-1]["text"]
        assert world.web.queries == ["otters"]


def test_anthropic_s_models_search_here_where_they_are_translated_to(client: Any, world: World) -> None:
    message = answered(client, False, model="anthropic-translated/anthropic-model")
    assert message.usage.server_tool_use.web_search_requests == 1
    assert world.web.queries == ["otters"]


def test_another_tool_can_be_the_search_and_none(world: World, scripted_stack: Callable[..., Stack]) -> None:
    stack = scripted_stack(
        inference=[openai_provider(world.openai.url, "openai")],
        tool_runtime=[search_provider("tavily")],
        messages={"web_search": {"tool": "find"}},
        env=world.web.env,
    )
    assert post(stack, MODEL, tools=[SEARCH]).error[2].startswith("tools: the only tools are ones")
    assert world.web.queries == []


def test_a_search_that_is_added_on_the_way_is_run(client: Any, world: World) -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": SEARCH}}
    turns = [*request()["messages"], {"role": "system", "content": [added]}, *request()["messages"]]
    raw = client.messages.with_raw_response.create(**request(messages=turns, tools=[LOOK]))
    assert raw.parse().usage.server_tool_use.web_search_requests == 1
    assert "x-messages-dropped" not in raw.headers


def test_who_may_not_use_the_stack_s_tools_does_not_search(world: World) -> None:
    url = f"{world.stack.base_url}/v1/messages"
    response = httpx.post(url, json=request(), headers={"x-api-key": "key-bob"}, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("tools: the only tools are ones that this server cannot run")
    both = httpx.post(url, json=request(tools=[SEARCH, LOOK]), headers={"x-api-key": "key-bob"}, timeout=60)
    assert both.json()["content"][0]["text"] == "I cannot search."
    assert both.headers["x-messages-dropped"] == "tools.0"


def test_strict_mode_has_nothing_to_refuse(client: Any, world: World) -> None:
    strict = {"x-messages-strict": "true"}
    bounds = {"max_uses": 3, "blocked_domains": ["x.test"], "user_location": {"type": "approximate", "city": "Bergen"}}
    message = answered(client, False, tools=[{**SEARCH, **bounds}], extra_headers=strict)
    assert message.stop_reason == "end_turn"


def test_the_function_is_counted(client: Any, world: World) -> None:
    def count(**more: Any) -> int:
        tokens = client.messages.count_tokens(model=MODEL, messages=request()["messages"], **more).input_tokens
        assert isinstance(tokens, int)
        return tokens

    world.openai.reply(CHAT, lambda r: played(chat_reply("x", usage=completion_usage(len(r.body))), r))
    assert count(tools=[SEARCH]) > count()


def test_a_batch_searches(client: Any, world: World) -> None:
    params = request()
    batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": params}])
    eventually(
        lambda: client.messages.batches.retrieve(batch.id).processing_status == "ended", within=30, what="its end"
    )
    (result,) = client.messages.batches.results(batch.id)
    assert [block.type for block in result.result.message.content][-1] == "text"
    assert world.web.queries == ["otters"]


# --- a real model ---


def test_a_real_model_reads_what_was_found(tmp_path: Path) -> None:
    """The packaged model's template knows no tools, so that it never searches itself."""

    def read(stack: Stack, words: int, stream: bool) -> int:
        found = result_block(
            "srvtoolu_1", [SearchResult("https://o.test", "Otters", "otter " * words)], most_characters=9999
        )
        call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "otters"}}
        turn = {"role": "assistant", "content": [call, found]}
        body = {**request(), "model": "llama-cpp/smollm2", "messages": [*request()["messages"], turn], "max_tokens": 2}
        answer = post(stack, **body, stream=stream)
        usage = (fold(answer.events) if stream else answer.json)["usage"]
        return int(usage["input_tokens"] + usage["cache_read_input_tokens"])

    with SearchServices(tmp_path) as web:
        search = [search_provider("tavily")]
        config = run_config(tmp_path, inference=[embedded_provider()], messages={}, tool_runtime=search)
        with Stack(config, tmp_path, env=web.env) as stack:
            for stream in (False, True):
                assert read(stack, 300, stream) - read(stack, 0, stream) >= 300
