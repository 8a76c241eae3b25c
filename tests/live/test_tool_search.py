"""Tool search that is run here: a hundred deferred tools of which one is searched for and called, on both routes."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.conftest import Fleet
from tests.support.laws import assert_well_formed
from tests.support.model import CHAT, MESSAGES, offered, results, serve
from tests.support.wire import (
    Json,
    text_block,
    tool_use_block,
)

WORDS = ["weather", "stock", "mail", "invoice", "calendar", "ticket", "order", "parcel", "translation", "image"]
DEFERRED: list[Json] = [
    {
        "name": f"get_{WORDS[n % 10]}_{n}" if n else "get_forecast",
        "description": f"Gets the {WORDS[n % 10]} of customer group {n}." * 10,
        "input_schema": {"type": "object", "properties": {"id": {"type": "string", "description": "Which one."}}},
        "defer_loading": True,
    }
    for n in range(107)
]
LOOK: Json = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
HELLO: Any = {"role": "user", "content": "Will it rain?"}
BM25: Json = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
REGEX: Json = {"type": "tool_search_tool_regex", "name": "tool_search_tool_regex"}
ASKS = {"tool_search_tool_bm25": {"query": "forecast"}, "tool_search_tool_regex": {"pattern": "(?i)FORECAST"}}
MODELS = {
    "translated": ("openai", "openai/openai-model", CHAT),
    "vllm": ("vllm", "vllm/vllm-model", MESSAGES),
    "ollama": ("ollama", "ollama/ollama-model", MESSAGES),
    "llamacpp": ("llamacpp", "llamacpp/llamacpp-model", MESSAGES),
}


def choose(body: Json) -> list[Json]:
    """A model that searches, calls what it has found, and tells what came of it."""
    names = offered(body)
    search = next((name for name in names if name in ASKS), "")
    if "Rain." in results(body) or not (search or "get_forecast" in names):
        return [text_block("It rains.")]
    return [
        tool_use_block("get_forecast", {"id": "7"}) if "get_forecast" in names else tool_use_block(search, ASKS[search])
    ]


@pytest.fixture
def client(fleet: Fleet) -> Iterator[anthropic.Anthropic]:
    for name, _, _ in MODELS.values():
        serve(fleet.upstreams[name], choose)
    with anthropic.Anthropic(base_url=fleet.base_url, api_key="any", max_retries=0) as client:
        yield client


def answered(client: anthropic.Anthropic, streamed: bool, **request: Any) -> Any:
    if not streamed:
        return client.messages.create(**request)
    with client.messages.stream(**request) as stream:
        return stream.get_final_message()


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@both
@pytest.mark.parametrize("search", [BM25, REGEX], ids=["bm25", "regex"])
@pytest.mark.parametrize("way", MODELS)
def test_of_many_deferred_tools_one_is_searched_for_and_called(
    way: str, search: Json, streamed: bool, client: anthropic.Anthropic, fleet: Fleet
) -> None:
    name, model, path = MODELS[way]
    request: Json = {"model": model, "max_tokens": 99, "tools": [search, LOOK, *DEFERRED]}

    message = answered(client, streamed, **request, messages=[HELLO])

    searched, found, called = message.content
    assert (searched.type, searched.name, searched.input) == ("server_tool_use", search["name"], ASKS[search["name"]])
    assert (found.type, found.tool_use_id) == ("tool_search_tool_result", searched.id)
    assert [each.tool_name for each in found.content.tool_references] == ["get_forecast"]
    assert (called.type, called.name, called.input) == ("tool_use", "get_forecast", {"id": "7"})
    assert message.stop_reason == "tool_use"

    result = {"type": "tool_result", "tool_use_id": called.id, "content": "Rain."}
    turns = [HELLO, {"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    after = answered(client, streamed, **request, messages=turns)
    assert [block.type for block in after.content] == ["text"]

    first, second, third = (each.json for each in fleet.upstreams[name].requests_to(path) if each.json.get("tools"))
    assert offered(first) == [search["name"], "look"]
    assert offered(second) == offered(third) == [search["name"], "look", "get_forecast"]
    assert "defer_loading" not in str([first, second, third])
    assert third["messages"][: len(second["messages"])] == second["messages"]
    print(f"{way}: tools in the prompt, characters: {len(str([LOOK, *DEFERRED]))} before, {len(str(second['tools']))}")


@pytest.mark.parametrize("way", MODELS)
def test_tools_that_the_client_searches_itself_are_offered_once_they_are_found(
    way: str, client: anthropic.Anthropic, fleet: Fleet
) -> None:
    name, model, path = MODELS[way]
    request: Json = {"model": model, "max_tokens": 99, "tools": [LOOK, *DEFERRED]}
    call_ = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    references = [{"type": "tool_reference", "tool_name": "get_forecast"}]
    turns: list[Any] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [call_]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": references}]},
    ]
    for messages, names in ((turns[:1], ["look"]), (turns, ["look", "get_forecast"])):
        client.messages.create(**request, messages=messages)
        assert offered(fleet.upstreams[name].requests_to(path)[-1].json) == names


@pytest.mark.parametrize("way", MODELS)
def test_where_nothing_could_find_them_all_are_offered(way: str, client: anthropic.Anthropic, fleet: Fleet) -> None:
    name, model, path = MODELS[way]
    client.messages.create(model=model, max_tokens=9, messages=[{"role": "user", "content": "Hi"}], tools=DEFERRED[:3])  # type: ignore[arg-type]
    assert offered(fleet.upstreams[name].requests_to(path)[-1].json) == [each["name"] for each in DEFERRED[:3]]


def test_anthropic_itself_gets_all_of_it(client: anthropic.Anthropic, fleet: Fleet) -> None:
    request: Json = {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], "tools": [BM25, *DEFERRED]}
    client.messages.create(model="anthropic-native/anthropic-model", **request)
    assert fleet.upstreams["anthropic"].requests_to(MESSAGES)[-1].json == {"model": "anthropic-model", **request}


def test_the_stream_obeys_the_grammar(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    tools: Any = [BM25, *DEFERRED]
    stream = client.messages.create(
        model="openai/openai-model", max_tokens=99, messages=messages, tools=tools, stream=True
    )
    assert_well_formed([event.to_dict() for event in stream])


def test_tokens_before_and_after(client: anthropic.Anthropic, fleet: Fleet, embedded_stack: Any) -> None:
    """Counted by a real tokenizer, as text: the embedded model's own template shows no tools."""
    answered(client, False, model="vllm/vllm-model", max_tokens=99, tools=[BM25, LOOK, *DEFERRED], messages=[HELLO])
    loaded = fleet.upstreams["vllm"].requests_to(MESSAGES)[-1].json["tools"]
    with anthropic.Anthropic(base_url=embedded_stack.base_url, api_key="any") as counter:
        model = counter.models.list().data[0].id

        def tokens(tools: list[Json]) -> int:
            messages: Any = [{"role": "user", "content": json.dumps(tools)}]
            return counter.messages.count_tokens(model=model, messages=messages).input_tokens

        before, after = tokens([LOOK, *DEFERRED]), tokens(loaded)
    print(f"tools in the prompt: {before} tokens before, {after} after")
    assert after * 20 < before
