"""The laws of streams and of prefixes, with every server tool in play: arbitrary answers of a model that calls them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, get_args

import httpx2
import pytest
from anthropic.lib.streaming._beta_messages import accumulate_event
from anthropic.types.beta import BetaContentBlock, BetaMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.config import MessagesConfig, WebFetchConfig
from llama_stack_messages_provider.documents.pages import WebPages
from llama_stack_messages_provider.documents.resolve import documents_of
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import OverloadedError
from llama_stack_messages_provider.rewriting import RewriteOptions, rewrite_native
from llama_stack_messages_provider.server_tools.mcp.blocks import listing_block
from tests.server_tools.helpers import Runtime, opened
from tests.server_tools.test_loop import LISTED, SERVERS, WITH_MCP, Route, answer, called, streamed, whole
from tests.support.laws import assert_well_formed, fold
from tests.support.upstream import ScriptedUpstream, raw_reply
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, user

ADVISOR = "senior"
FORECAST: Json = {**tool("get_forecast"), "description": "The weather.", "defer_loading": True}
HIDDEN: Json = {**tool("get_tides"), "description": "The tides.", "defer_loading": True}
RUN_HERE: list[Json] = [
    {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
    {"type": "web_fetch_20260318", "name": "web_fetch"},
    {"type": "advisor_20260301", "name": "advisor", "model": ADVISOR},
    {"type": "code_execution_20250825", "name": "code_execution"},
]
RESULTS = {
    "web_search": "web_search_tool_result",
    "web_fetch": "web_fetch_tool_result",
    "code_execution": "code_execution_tool_result",
    "bash_code_execution": "bash_code_execution_tool_result",
    "advisor": "advisor_tool_result",
    "tool_search_tool_bm25": "tool_search_tool_result",
}
"""Of each server tool, the block that answers it. Source: the types of the SDK."""

SDK_BLOCKS = {
    kind.model_fields["type"].annotation.__args__[0]: kind for kind in get_args(get_args(BetaContentBlock)[0])
}


class Everything(Runtime):
    """A tool runtime that searches, and runs programs."""

    async def invoke_tool(self, name: str, arguments: Json) -> Any:
        if name == "web_search":
            return await super().invoke_tool(name, arguments)
        if arguments.get("code") == "raise":
            return SimpleNamespace(content="", error_message="Traceback", error_code=1)
        return SimpleNamespace(content="42", error_message=None, error_code=None)


async def advise(request: Json) -> Json:
    """Another model, which is busy in every third turn."""
    if len(request["messages"]) % 3 == 0:
        raise OverloadedError
    return answer(text("Test first."))


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with ScriptedUpstream() as web:
        web.reply("/otters", raw_reply(b"They swim.", content_type="text/plain"))
        yield f"{web.url}/otters"


async def given_pages() -> WebPages:
    """What fetches pages, in the running event loop."""
    pages = documents_of(MessagesConfig(web_fetch=WebFetchConfig(enabled=True, allow=["127.0.0.0/8"]))).pages  # type: ignore[list-item]
    assert pages is not None
    return pages


def request_for(page: str) -> Json:
    tools = [*WITH_MCP["tools"], *RUN_HERE, FORECAST, HIDDEN]
    return {**WITH_MCP, "messages": [user(f"Otters? See {page}")], "tools": tools}


CALLS: list[tuple[str, Json]] = [
    ("look", {"query": "otters"}),
    ("get_forecast", {}),
    *((name, {"query": query}) for name in ("web_search", "mcp__docs__search") for query in ("otters", "fail")),
    ("mcp__wiki__search", {"query": "beavers"}),
    ("tool_search_tool_bm25", {"query": "weather"}),
    ("tool_search_tool_bm25", {"query": "nothing of that kind"}),
    ("web_fetch", {"url": "page"}),
    ("web_fetch", {"url": "https://unseen.test"}),
    ("advisor", {}),
    ("code_execution", {"code": "print(42)"}),
    ("code_execution", {"code": "raise"}),
    ("code_execution", {"code": " "}),
    ("bash_code_execution", {"command": "ls"}),
]
SAID = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
STOPS = st.sampled_from(["tool_use", "tool_use", "end_turn", "max_tokens"])
OPENINGS = st.sampled_from([[], [listing_block("docs", [LISTED])], [listing_block(name, []) for name in SERVERS]])
OURS = ("server_tool_use", "mcp_tool_use")


@st.composite
def answers(draw: st.DrawFn) -> Json:
    content = []
    if thought := draw(SAID):
        content.append({"type": "thinking", "thinking": thought, "signature": "s"})
    if said := draw(SAID):
        content.append(text(said))
    calls = draw(st.lists(st.sampled_from(CALLS), max_size=4))
    content += [{**called(name, f"call_{n}"), "input": given} for n, (name, given) in enumerate(calls)]
    return answer(*content, stop_reason=draw(STOPS))


ANSWERS = st.lists(answers(), min_size=4, max_size=4)


def at(page: str, answers: list[Json]) -> list[Json]:
    """The answers, with calls for that page."""
    return [
        {**each, "content": [_at(page, block) for block in each["content"]]} if each["content"] else each
        for each in answers
    ]


def _at(page: str, block: Json) -> Json:
    return {**block, "input": {"url": page}} if block.get("input") == {"url": "page"} else block


def timeless(value: Any) -> Any:
    """The same without when pages were fetched."""
    if isinstance(value, dict):
        return {name: timeless(each) for name, each in value.items() if name != "retrieved_at"}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def accumulated(events: list[Json]) -> Json:
    """The message that the SDK makes of a stream."""
    snapshot, pieces = None, {}
    for event in events:
        snapshot = accumulate_event(
            event=event, current_snapshot=snapshot, json_bufs=pieces, request_headers=httpx2.Headers()
        )
    assert snapshot is not None
    return snapshot.to_dict()


async def both(page: str, given: list[Json], most: int, opening: list[Json]) -> tuple[Json, list[Json], Route]:
    """The message, the events of the same one, and what the model was asked."""
    more: Any = {
        "request": request_for(page),
        "runtime": Everything(),
        "max_calls": most,
        "opening": opening,
        "ask": advise,
        "pages": await given_pages(),
    }
    message, route = await whole(*at(page, given), **more)
    events, streaming = await streamed(*at(page, given), **more)
    assert timeless(streaming.requests) == timeless(route.requests)
    return message, events, route


@settings(max_examples=80)
@given(ANSWERS, st.integers(1, 4), OPENINGS)
def test_streams_and_whole_messages_are_the_same_and_keep_the_laws(
    page: str, given: list[Json], most: int, opening: list[Json]
) -> None:
    message, events, _ = asyncio.run(both(page, given, most, opening))
    assert_well_formed(events)
    folded, seen = fold(events), accumulated(events)
    assert timeless({name: folded.get(name) for name in message}) == timeless(message)
    assert timeless(seen["content"]) == timeless(message["content"])
    assert {name: seen["usage"].get(name) for name in message["usage"]} == message["usage"]
    assert message["content"][: len(opening)] == opening
    BetaMessage.model_validate(message)
    for block in message["content"]:
        kind = SDK_BLOCKS[block["type"]]
        assert block.keys() <= kind.model_fields.keys()
        kind.model_validate(block)


@settings(max_examples=50)
@given(ANSWERS, st.integers(1, 4))
def test_every_call_is_answered_once_and_counted(page: str, given: list[Json], most: int) -> None:
    message, _, route = asyncio.run(both(page, given, most, []))
    content, usage = message["content"], message["usage"]
    calls = {block["id"]: block for block in content if block["type"] in OURS}
    results = [block for block in content if block.get("tool_use_id") in calls]
    assert len(calls) == sum(block["type"] in OURS for block in content)
    assert len({block["tool_use_id"] for block in results}) == len(results)
    for block in results:
        assert block["type"] == RESULTS.get(calls[block["tool_use_id"]]["name"], "mcp_tool_result")
    cut_off = [ident for ident in calls if ident not in {block["tool_use_id"] for block in results}]
    assert cut_off in ([], [*calls][-1:])
    kinds = Counter(block["type"] for block in results)
    told = {name: kinds[f"{name}_tool_result"] for name in ("web_search", "web_fetch")}
    counted = {f"{name}_requests": count for name, count in told.items()}
    assert usage.get("server_tool_use") == (counted if any(counted.values()) else None)
    advice = sum(block["content"]["type"] == "advisor_result" for block in results if "advisor" in block["type"])
    iterations = Counter(each["type"] for each in usage.get("iterations", [{"type": "message"}]))
    assert (iterations["message"], iterations["advisor_message"]) == (len(route.requests), advice)
    assert usage["output_tokens"] == 30 * len(route.requests)


def offered(request: Json) -> Json:
    """What a native upstream gets: the pass for tools that are deferred."""
    done = rewrite_native(
        request,
        marked=["deferred_tool"],
        lacks=frozenset({"tool_reference"}),
        options=RewriteOptions(),
        dropped=DroppedFields(strict=True),
    )
    return dict(done.request)


def assert_prefixes(asked: list[Json]) -> None:
    for before, after in pairwise(map(offered, asked)):
        assert after["messages"][: len(before["messages"])] == before["messages"]
        assert after["tools"][: len(before["tools"])] == before["tools"]


@settings(max_examples=50)
@given(ANSWERS, st.integers(1, 4), OPENINGS)
def test_each_prompt_begins_with_the_one_before(page: str, given: list[Json], most: int, opening: list[Json]) -> None:
    message, _, route = asyncio.run(both(page, given, most, opening))
    first = request_for(page)
    unanswered = {block["id"] for block in message["content"] if block["type"] in OURS}
    unanswered -= {block.get("tool_use_id") for block in message["content"]}
    turns = [*first["messages"], assistant(*message["content"]), user("Go on.")]
    following, _ = asyncio.run(opened({**first, "messages": turns}))
    asked = [*route.requests, *([] if unanswered else [following])]
    assert_prefixes(asked)
    assert "mcp_tool_listing" not in str(asked)
    assert "get_tides" not in str([offered(each)["tools"] for each in asked])


@settings(max_examples=50)
@given(ANSWERS, st.integers(1, 3))
def test_a_paused_message_goes_on_when_its_client_sends_it_back(page: str, given: list[Json], most: int) -> None:
    """The same as if it had never been paused, as far as the model can tell."""

    async def run() -> tuple[list[Json], list[Json]]:
        request, pages = request_for(page), await given_pages()
        more: Any = {"runtime": Everything(), "ask": advise, "pages": pages}
        said = [*at(page, given), answer(text("So."))]
        left, asked, content = said, [], []
        while left:
            turns = [*request["messages"], *([assistant(*content)] if content else [])]
            going_on: Any = {"request": {**request, "messages": turns}, "message_id": f"msg_{len(left)}"}
            message, route = await whole(*left, max_calls=most, **going_on, **more)
            left = left[len(route.requests) :]
            asked += route.requests
            content += message["content"]
            if message["stop_reason"] != "pause_turn":
                break
        _, unpaused = await whole(*said, request=request, max_calls=9, **more)
        return asked, unpaused.requests

    asked, unpaused = asyncio.run(run())
    assert_prefixes(asked)
    assert [_without_ids(each) for each in asked] == [_without_ids(each) for each in unpaused[: len(asked)]]


def _without_ids(request: Json) -> Any:
    """A request without the ids of calls, which begin with their message's, and how much of it is left to be said."""
    names: dict[str, str] = {}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: names.setdefault(each, str(len(names))) if name in ("id", "tool_use_id") else renamed(each)
                for name, each in value.items()
                if name not in ("max_tokens", "retrieved_at")
            }
        return [renamed(each) for each in value] if isinstance(value, list) else value

    return renamed(request)
