"""A message of several calls of the model, whole and streamed, against a route that is scripted."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest
from anthropic.types.beta import BetaUsage

from llama_stack_messages_provider.documents.pages import WebPages
from llama_stack_messages_provider.server_tools.advisor import Ask
from llama_stack_messages_provider.server_tools.loop import Loop, complete_message, stream_message
from llama_stack_messages_provider.server_tools.mcp.blocks import listing_block
from llama_stack_messages_provider.server_tools.mcp.connector import McpTools
from llama_stack_messages_provider.server_tools.mcp.session import ServerFailedError
from llama_stack_messages_provider.wire.sse import SSEDecoder, encode
from tests.server_tools.helpers import ALLOWED_SERVER, TOOL, Runtime, opened
from tests.support import sse
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_use, user

REQUEST: Json = {"model": "m", "max_tokens": 100, "messages": [user("Otters?")], "tools": [TOOL, tool("look")]}
USAGE: Json = {"input_tokens": 10, "output_tokens": 30, "cache_read_input_tokens": None}

ITERATION: Json = {
    "type": "message",
    "input_tokens": 10,
    "output_tokens": 30,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}

LISTED = {"name": "search", "input_schema": {"type": "object"}}
SERVERS = ("docs", "wiki")
WITH_MCP: Json = {
    **REQUEST,
    "mcp_servers": [{"type": "url", "name": name, "url": ALLOWED_SERVER} for name in SERVERS],
    "tools": [
        *REQUEST["tools"],
        *({"type": "mcp_toolset", "mcp_server_name": name, "tools": [LISTED]} for name in SERVERS),
    ],
}
"""A request with all kinds of tools: a search, the client's own, and one of one name of each of two MCP servers."""


class McpAnswers:
    """A session with an MCP server: text, an image, or a failure, as it is asked for."""

    def __init__(self, server: str) -> None:
        self._server = server

    async def call(self, tool: str, arguments: Json) -> Json:
        if arguments["query"] == "fail":
            raise ServerFailedError("it is down")
        image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
        return {"content": [{"type": "text", "text": f"{self._server} has them"}, image][: len(arguments["query"]) - 5]}

    async def close(self) -> None:
        return None


def called(name: str = "web_search", ident: str = "call_1", **arguments: Any) -> Json:
    return tool_use(ident, name, **(arguments or {"query": "otters"}))


def answer(*content: Json, stop_reason: str = "", **more: Any) -> Json:
    calls = any(block["type"] == "tool_use" for block in content)
    stop_reason = stop_reason or ("tool_use" if calls else "end_turn")
    return {
        "id": "msg_upstream",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [*content],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


class Route:
    """Answers one message after another, and remembers what it was asked."""

    def __init__(self, *answers: Json) -> None:
        self._answers = iter(answers)
        self.requests: list[Json] = []
        self.ids: list[str] = []

    def _next(self, request: Json, message_id: str) -> Json:
        self.requests.append(request)
        self.ids.append(message_id)
        return next(self._answers)

    async def complete(self, request: Json, message_id: str) -> Json:
        return self._next(request, message_id)

    async def stream(self, request: Json, message_id: str) -> AsyncGenerator[bytes]:
        for event in events_of(self._next(request, message_id)):
            yield encode(event)


def events_of(message: Json) -> Iterator[Json]:
    if "error" in message:
        yield message
        return
    end = ("stop_reason", "stop_sequence")
    yield {"type": "message_start", "message": {**message, "content": [], **dict.fromkeys(end)}}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        yield from events_of_block(index, block)
    delta = {name: message[name] for name in end}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": message["usage"]["output_tokens"]}}
    yield {"type": "message_stop"}


FIELDS = {
    "text": [("text_delta", "text", "text")],
    "thinking": [("thinking_delta", "thinking", "thinking"), ("signature_delta", "signature", "signature")],
    "tool_use": [("input_json_delta", "partial_json", "input")],
}


def events_of_block(index: int, block: Json) -> Iterator[Json]:
    fields = FIELDS[block["type"]]
    empty = {name: {} if name == "input" else "" for _, _, name in fields}
    yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
    for kind, field, name in fields:
        whole = block[name] if isinstance(block[name], str) else json.dumps(block[name])
        for piece in [whole] if name == "signature" else [whole[:2], whole[2:]]:
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: piece}}
    yield {"type": "content_block_stop", "index": index}


async def loop_of(
    request: Json = REQUEST,
    runtime: Runtime | None = None,
    max_calls: int = 3,
    opening: Sequence[Json] = (),
    ask: Ask | None = None,
    pages: WebPages | None = None,
    message_id: str = "msg_1",
    **bounds: Any,
) -> Loop:
    tools = [{**each, **bounds} if each.get("type") else each for each in request["tools"]]
    plain, opened_tools = await opened({**request, "tools": tools}, runtime, ask=ask, pages=pages)
    for each in opened_tools:
        if isinstance(each, McpTools):
            each.session = McpAnswers(each.toolset.server.name)  # type: ignore[assignment]
    return Loop(plain, opened_tools, message_id, max_calls=max_calls, opening=opening)


async def whole(*answers: Json, request: Json = REQUEST, **more: Any) -> tuple[Json, Route]:
    route = Route(*answers)
    return await complete_message(await loop_of(request, **more), route.complete), route


async def streamed(*answers: Json, request: Json = REQUEST, **more: Any) -> tuple[list[Json], Route]:
    route = Route(*answers)
    pieces = [piece async for piece in stream_message(await loop_of(request, **more), route.stream)]
    return [event for _, event in sse.parse(b"".join(pieces))], route


async def test_a_search_is_followed_by_a_call_that_knows_what_it_found() -> None:
    runtime = Runtime()
    first = answer(text("Let me look."), called())
    message, route = await whole(first, answer(text("They swim.")), runtime=runtime)
    assert runtime.queries == ["otters"]
    says, use, result, told = message["content"]
    assert (says, told) == (text("Let me look."), text("They swim."))
    assert (use["type"], use["name"], use["input"]) == ("server_tool_use", "web_search", {"query": "otters"})
    assert result["tool_use_id"] == use["id"] == "srvtoolu_1_0"
    asked, again = route.requests
    assert [each["name"] for each in asked["tools"]] == ["web_search", "look"]
    _, turn, answered = again["messages"]
    assert turn == assistant(text("Let me look."), tool_use(use["id"], "web_search", query="otters"))
    assert answered["content"][0]["tool_use_id"] == use["id"]
    assert "They swim." in answered["content"][0]["content"]
    assert again["max_tokens"] == 70
    assert route.ids == ["msg_1", "msg_1_1"]
    assert message["usage"] == {
        "input_tokens": 20,
        "output_tokens": 60,
        "cache_read_input_tokens": None,
        "iterations": [ITERATION, ITERATION],
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
    }
    BetaUsage.model_validate(message["usage"])


async def test_a_message_without_a_search_counts_none() -> None:
    message, _ = await whole(answer(text("Hi")))
    assert message == answer(text("Hi"))


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "stop_sequence", "model_context_window_exceeded"])
async def test_a_search_that_was_cut_off_is_not_made(reason: str) -> None:
    runtime = Runtime()
    message, _ = await whole(answer(called(), stop_reason=reason), runtime=runtime)
    assert runtime.queries == []
    assert (message["stop_reason"], len(message["content"])) == (reason, 1)


async def test_calls_of_the_client_s_end_the_message() -> None:
    message, _ = await whole(answer(called("look", "call_2"), called()))
    assert [each["type"] for each in message["content"]] == ["tool_use", "server_tool_use", "web_search_tool_result"]
    assert message["stop_reason"] == "tool_use"


async def test_a_message_with_too_many_calls_is_paused() -> None:
    message, _ = await whole(answer(called()), answer(called()), max_calls=2)
    assert message["stop_reason"] == "pause_turn"
    assert [each["type"] for each in message["content"]] == ["server_tool_use", "web_search_tool_result"] * 2
    assert message["content"][0]["id"] != message["content"][2]["id"]


async def test_more_searches_than_the_client_allows_are_not_made() -> None:
    calls = [called(ident=ident) for ident in "abc"]
    message, _ = await whole(answer(*calls), answer(text("So.")), max_uses=2)
    results = [each["content"] for each in message["content"] if each["type"] == "web_search_tool_result"]
    assert [isinstance(each, list) for each in results] == [True, True, False]
    assert results[2]["error_code"] == "max_uses_exceeded"
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 2


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"query": ""}, "invalid_tool_input"),
        ({"query": 7}, "invalid_tool_input"),
        ({"_unparsed": "otters"}, "invalid_tool_input"),
        ({"query": "otter " * 200}, "query_too_long"),
    ],
)
async def test_a_search_for_nothing_is_not_made_and_no_use(given: Json, code: str) -> None:
    first = answer(called(**given), called(ident="b"))
    message, _ = await whole(first, answer(text("So.")), max_uses=1)
    assert message["content"][2]["content"]["error_code"] == code
    assert message["usage"]["server_tool_use"]["web_search_requests"] == 1


async def test_what_the_client_forced_is_forced_once() -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "web_search", "disable_parallel_tool_use": True}):
        request = {**REQUEST, "tool_choice": choice}
        _, route = await whole(answer(called()), answer(text("So.")), request=request)
        kept = {name: value for name, value in choice.items() if name != "name"}
        assert [each["tool_choice"] for each in route.requests] == [choice, {**kept, "type": "auto"}]


async def test_an_answer_that_the_client_began_goes_on() -> None:
    request = {**REQUEST, "messages": [user("Otters?"), assistant("They")]}
    _, route = await whole(answer(text(" swim"), called()), answer(text(".")), request=request)
    turn = route.requests[1]["messages"][1]
    assert turn["content"][:2] == [text("They"), text(" swim")]


async def test_thinking_goes_back_to_the_model_with_its_signature() -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": "carries it"}
    for run in (whole, streamed):
        _, route = await run(answer(thinking, called()), answer(text("So.")))
        assert route.requests[1]["messages"][1]["content"][0] == thinking


async def test_an_error_in_the_stream_is_its_end() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy"}}
    events, _ = await streamed(answer(called()), error)
    assert_well_formed(events)
    assert events[-1] == error


# --- tools at work ---


class Gated(Runtime):
    """Searches that wait until they are let go; remembers which were begun, and which were cancelled."""

    def __init__(self, *queries: str) -> None:
        super().__init__()
        self.begun = {query: asyncio.Event() for query in queries}
        self.gates = {query: asyncio.Event() for query in queries}
        self.cancelled: list[str] = []

    async def invoke_tool(self, name: str, arguments: Json) -> Any:
        query = arguments["query"]
        self.begun[query].set()
        try:
            await self.gates[query].wait()
        except asyncio.CancelledError:
            self.cancelled.append(query)
            raise
        return await super().invoke_tool(name, arguments)


async def test_a_tool_works_while_the_model_goes_on() -> None:
    runtime = Gated("a", "b")
    first = answer(called(ident="1", query="a"), called(ident="2", query="b"))

    async def call(request: Json, message_id: str) -> AsyncGenerator[bytes]:
        if message_id != "msg_1":
            for event in events_of(answer(text("So."))):
                yield encode(event)
            return
        for event in events_of(first):
            yield encode(event)
            if event["type"] == "content_block_start" and event["index"] == 1:
                await runtime.begun["a"].wait()
                runtime.gates["a"].set()
                assert not runtime.begun["b"].is_set()  # it is not known yet what it asks for
            if event["type"] == "message_delta":
                runtime.gates["b"].set()

    pieces = [piece async for piece in stream_message(await loop_of(runtime=runtime), call)]
    events = [event for _, event in sse.parse(b"".join(pieces))]
    assert_well_formed(events)
    assert runtime.queries == ["a", "b"]


async def test_a_result_goes_out_while_others_are_awaited() -> None:
    runtime = Gated("a", "b")
    route = Route(answer(called(ident="1", query="a"), called(ident="2", query="b")), answer(text("So.")))
    runtime.gates["a"].set()
    seen: list[str] = []
    async for piece in stream_message(await loop_of(runtime=runtime), route.stream):
        seen += [each["content_block"]["type"] for _, each in sse.parse(piece) if each["type"] == "content_block_start"]
        if seen[-1:] == ["web_search_tool_result"]:
            runtime.gates["b"].set()
    assert seen == ["server_tool_use"] * 2 + ["web_search_tool_result"] * 2 + ["text"]


async def test_a_client_that_leaves_ends_the_tools() -> None:
    runtime = Gated("a", "b")
    route = Route(answer(called(ident="1", query="a"), called(ident="2", query="b")))
    stream = stream_message(await loop_of(runtime=runtime), route.stream)

    async def read() -> None:
        async for _ in stream:
            pass

    reader = asyncio.create_task(read())
    await runtime.begun["a"].wait()
    reader.cancel()
    await asyncio.wait([reader])
    await stream.aclose()
    assert "a" in runtime.cancelled
    assert runtime.queries == []

    runtime = Gated("a")
    route = Route(answer(called(query="a")))
    message = asyncio.create_task(complete_message(await loop_of(runtime=runtime), route.complete))
    await runtime.begun["a"].wait()
    message.cancel()
    await asyncio.wait([message])
    assert runtime.cancelled == ["a"]


async def test_a_call_before_one_that_was_cut_off_is_made() -> None:
    """Streamed, it is at work before anybody knows how the model's call ends: so whole, too."""
    first = answer(called(ident="1", query="a"), called(ident="2", query="b"), stop_reason="max_tokens")
    for run in (whole, streamed):
        runtime = Runtime()
        said, _ = await run(first, runtime=runtime)
        message = said if isinstance(said, dict) else fold(said)
        kinds = [each["type"] for each in message["content"]]
        assert (runtime.queries, message["stop_reason"]) == (["a"], "max_tokens")
        assert kinds == ["server_tool_use", "server_tool_use", "web_search_tool_result"]


async def test_a_stream_that_was_begun_before_the_model_begins_with_listings_too() -> None:
    """Its `message_start` went out when the upstream was silent, so that none comes from the route."""
    opening = [listing_block("docs", [])]
    for content in ([text("Hi")], []):
        loop = await loop_of(WITH_MCP, opening=opening)
        whole_stream = [*events_of(answer(*content))][1:]
        seen = loop.add_events(SSEDecoder().decode(b"".join(map(encode, whole_stream))))
        assert loop.end_call()
        events = [event for _, event in sse.parse(seen + loop.end_events()) if event["type"] == "content_block_start"]
        assert [event["content_block"]["type"] for event in events] == [
            "mcp_tool_listing",
            *(["text"] if content else []),
        ]
        assert [event["index"] for event in events] == [*range(len(events))]
