"""Tools that are searched: by words and by regular expressions, in the blocks of Anthropic's tool search."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from anthropic.types import ToolSearchToolResultBlock
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.server_tools.catalogue import Entry, PatternError, entries, matching, ranked
from llama_stack_messages_provider.server_tools.loop import Loop, complete_message
from llama_stack_messages_provider.server_tools.plain import plain_turns
from llama_stack_messages_provider.server_tools.tool import ServerTool
from tests.server_tools.helpers import opened
from tests.server_tools.test_loop import Route, answer
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_use, user

BM25: Json = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
REGEX: Json = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}


def deferred(name: str, description: str = "", **arguments: str) -> Json:
    properties = {argument: {"type": "string", "description": about} for argument, about in arguments.items()}
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description, "input_schema": schema, "defer_loading": True}


TOOLS = [
    deferred("get_weather", "The weather of a place.", place="A city."),
    deferred("sendEmail", "Writes to somebody.", recipient="Who gets it."),
    deferred("list_invoices", "Unpaid bills of a customer."),
    deferred("天气", "查询城市天气"),
]
FOUND = entries(TOOLS)


# --- ranking ---


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("weather", "get_weather"),
        ("what is the Weather like", "get_weather"),
        ("send an email", "sendEmail"),
        ("recipients", "sendEmail"),
        ("invoice", "list_invoices"),
        ("a city", "get_weather"),
        ("天气", "天气"),
    ],
)
def test_the_best_comes_first(query: str, first: str) -> None:
    assert ranked(query, FOUND)[0] == first


def test_tools_that_share_nothing_are_not_found() -> None:
    assert ranked("translate poems", FOUND) == []
    assert ranked("anything", []) == []


def test_a_word_that_most_have_loads_nothing_beside_a_good_one() -> None:
    many = [Entry(f"t{n}", f"t{n} of things") for n in range(20)]
    assert ranked("weather of", [*many, *FOUND])[0] == "get_weather"
    assert len(ranked("weather of", [*many, *FOUND])) == 1


@given(st.text(max_size=50), st.lists(st.text(max_size=30), max_size=8))
def test_any_query_ranks_each_tool_once(query: str, texts: list[str]) -> None:
    names = ranked(query, [Entry(str(n), text) for n, text in enumerate(texts)])
    assert len(set(names)) == len(names)


# --- patterns ---


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("weather", ["get_weather"]),
        ("(?i)WRITES", ["sendEmail"]),
        ("get_.*er|list_", ["get_weather", "list_invoices"]),
        ("who", []),
        ("[Cc]ustomer|invoices|city", ["list_invoices", "get_weather"]),
    ],
)
def test_patterns_are_looked_for_in_all_that_is_said(pattern: str, names: list[str]) -> None:
    assert matching(pattern, FOUND) == names


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "[z-a]", "a{99999}"])
def test_what_is_no_pattern_is_said(pattern: str) -> None:
    with pytest.raises(PatternError, match="Not a regular expression"):
        matching(pattern, FOUND)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a*)*$b", "a?" * 60 + "a" * 60 + "b", "(.*a){20}b"])
def test_patterns_that_hang_elsewhere_end(pattern: str) -> None:
    matching(pattern, [Entry("t", "a" * 4000)] * 200)


@given(st.text(max_size=200))
def test_any_pattern_is_searched_for_or_refused(pattern: str) -> None:
    with suppress(PatternError):
        matching(pattern, FOUND)


def test_the_text_of_a_catalogue_is_bounded() -> None:
    assert len(entries([deferred("t", "x" * 9999)])[0].text) == 4000
    assert sum(len(each.text) for each in entries([deferred(f"t{n}", "x" * 999) for n in range(10_000)])) == 2_000_000
    odd: list[Json] = [{"name": "t", "description": 3, "input_schema": {"properties": {"a": 1}}}]
    assert entries(odd)[0].text == "t\n\na "


# --- the tool ---


async def run(definition: Json, tools: list[Json] | None = None, **given: Any) -> Json:
    """The result of a search."""
    request = {"model": "m", "messages": [user("Hi")], "tools": [definition, *(TOOLS if tools is None else tools)]}
    plain, (search,) = await opened(request)
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": definition["name"], "input": given}
    result = search.refusal(call, 0) or await search.run(call, plain)
    ToolSearchToolResultBlock.model_validate(result)
    return dict(result)


def names(result: Json) -> list[str]:
    assert result["content"]["type"] == "tool_search_tool_search_result"
    return [each["tool_name"] for each in result["content"]["tool_references"]]


@pytest.mark.parametrize("kind", ["tool_search_tool_bm25", "tool_search_tool_bm25_20251119", "tool_search_tool_bm25_9"])
async def test_words_are_searched_for(kind: str) -> None:
    assert names(await run({**BM25, "type": kind}, query="weather")) == ["get_weather"]


async def test_a_pattern_is_searched_for_whatever_it_is_called() -> None:
    assert names(await run(REGEX, pattern="weather")) == names(await run(REGEX, query="weather")) == ["get_weather"]


async def test_a_few_tools_are_found_or_as_many_as_are_wanted() -> None:
    many = [deferred(f"get_{n}") for n in range(40)]
    for definition, given_ in ((BM25, {"query": "get"}), (REGEX, {"pattern": "get"})):
        assert [len(names(await run(definition, many, **given_, limit=n))) for n in (None, 2, 999, "x", -1)] == [
            5,
            2,
            20,
            5,
            5,
        ]


async def test_a_large_catalogue_is_searched_all_the_same() -> None:
    many = [deferred(f"get_{n}", "x" * 300) for n in range(1000)]
    assert names(await run(BM25, [*many, *TOOLS], query="weather")) == ["get_weather"]
    assert names(await run(REGEX, [*many, *TOOLS], pattern="weather")) == ["get_weather"]


@pytest.mark.parametrize(
    ("definition", "given_"),
    [
        (BM25, {}),
        (BM25, {"query": " "}),
        (BM25, {"query": 7}),
        (BM25, {"query": "x" * 501}),
        (REGEX, {"pattern": "x" * 201}),
        (REGEX, {"pattern": "("}),
    ],
)
async def test_a_search_that_cannot_be_made_is_an_error_block(definition: Json, given_: Json) -> None:
    error = (await run(definition, **given_))["content"]
    assert (error["type"], error["error_code"]) == ("tool_search_tool_result_error", "invalid_tool_input")


async def test_a_definition_that_is_not_as_documented_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"^tools\.0\.strict: "):
        await run({**BM25, "strict": "yes"})


# --- in a message ---

REQUEST: Json = {"model": "m", "max_tokens": 100, "messages": [user("Weather?")], "tools": [BM25, *TOOLS, tool("look")]}


async def loop() -> tuple[Loop, list[ServerTool]]:
    plain, tools = await opened(REQUEST)
    return Loop(plain, tools, "msg_1", max_calls=3), tools


async def test_a_search_is_a_call_and_its_references_and_comes_back_as_the_same_prompt() -> None:
    route = Route(
        answer(text("Let me see."), tool_use("c1", "tool_search_tool_bm25", query="weather")),
        answer(tool_use("c2", "get_weather", place="Oslo")),
    )
    state, tools = await loop()
    message = await complete_message(state, route.complete)
    assert [block["type"] for block in message["content"]] == [
        "text",
        "server_tool_use",
        "tool_search_tool_result",
        "tool_use",
    ]
    assert message["stop_reason"] == "tool_use"
    second = route.requests[1]["messages"]
    assert second[-1]["content"][0]["content"] == [{"type": "tool_reference", "tool_name": "get_weather"}]
    turns = plain_turns(assistant(*message["content"]), "messages.1.content", tools, DroppedFields(strict=True))
    assert [user("Weather?"), *turns][: len(second)] == second


async def test_what_was_not_found_is_told() -> None:
    _, tools = await loop()
    for content, told in (
        ({"type": "tool_search_tool_search_result", "tool_references": []}, "No tool was found."),
        ({"type": "tool_search_tool_result_error", "error_code": "unavailable"}, "The search failed: unavailable"),
    ):
        block = {"type": "tool_search_tool_result", "tool_use_id": "s", "content": content}
        result = tools[0].plain_result(block, "messages.1", DroppedFields())
        assert result is not None
        assert result.content == told


def test_a_definition_keeps_its_deferral() -> None:
    searched = {"type": "web_search_20250305", "name": "web_search", "defer_loading": True}
    plain, _ = asyncio.run(opened({**REQUEST, "tools": [BM25, searched]}))
    assert [each.get("defer_loading") for each in plain["tools"]] == [None, True]
