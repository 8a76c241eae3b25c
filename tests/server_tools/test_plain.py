"""Requests with server tools, as any model takes them."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.server_tools.references import ToolChanges
from llama_stack_messages_provider.server_tools.tool import ServerTool
from llama_stack_messages_provider.server_tools.web_search import error_block
from tests.server_tools.helpers import OTTERS, READ, TOOL, found, opened, searched
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_result, tool_use, user

LOOK = tool("look")


def plain(*messages: Json, tools: list[Json] | None = None, dropped: DroppedFields | None = None, **more: Any) -> Json:
    request = {"model": "m", "max_tokens": 99, "messages": [*messages], "tools": tools or [TOOL, LOOK], **more}
    return asyncio.run(opened(request, dropped=dropped))[0]


# --- definitions ---


def test_a_server_tool_becomes_a_custom_tool_at_its_place() -> None:
    tools = plain(user("Hi"), tools=[LOOK, {**TOOL, "cache_control": {"type": "ephemeral"}}])["tools"]
    assert tools[0] == LOOK
    assert tools[1]["name"] == "web_search"
    assert tools[1]["cache_control"] == {"type": "ephemeral"}
    assert "type" not in tools[1]


def test_a_tool_that_is_added_in_mid_conversation_becomes_a_custom_tool_too() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL}}
    turn = {"role": "system", "content": [text("Now search."), added]}
    words, addition = plain(user("Hi"), turn, tools=[LOOK])["messages"][1]["content"]
    assert words == text("Now search.")
    assert addition["tool"]["definition"]["input_schema"]["required"] == ["query"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_tool_of_the_client_s_with_the_same_name_is_the_client_s(order: int) -> None:
    mine, dropped = tool("web_search"), DroppedFields()
    request = plain(user("Hi"), tools=[TOOL, mine][::order], dropped=dropped)
    assert request["tools"] == [mine]
    assert dropped.names == [f"tools.{0 if order == 1 else 1}"]


def test_of_two_searches_the_first_is_offered() -> None:
    dropped = DroppedFields()
    tools = plain(user("Hi"), tools=[TOOL, {**TOOL, "type": "web_search_20260209"}], dropped=dropped)["tools"]
    assert [each["name"] for each in tools] == ["web_search"]
    assert dropped.names == ["tools.1"]


def test_a_definition_that_is_not_as_documented_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"tools\.0\.max_uses: "):
        plain(user("Hi"), tools=[{**TOOL, "max_uses": "many"}])


@pytest.mark.parametrize(
    "request_", [{}, {"tools": 7, "messages": None}, {"tools": [None, "x"], "messages": [None, {"content": [3]}]}]
)
def test_a_request_of_another_shape_is_left_as_it_is(request_: Json) -> None:
    given = {"messages": [], **request_}
    assert asyncio.run(opened(given)) == (given, [])


# --- the history ---


def told(*messages: Json) -> list[tuple[Any, ...]]:
    return [(message["role"], *map(block, message["content"])) for message in plain(*messages)["messages"][1:]]


def block(given: Json) -> Any:
    return given.get("text") or given.get("id") or given.get("tool_use_id")


def test_a_search_and_its_result_are_a_call_and_its_answer() -> None:
    turn = assistant(text("Let me look."), searched(), found(OTTERS), text("They swim."))
    assert plain(user("Otters?"), turn, user("Why?"))["messages"] == [
        user("Otters?"),
        assistant(text("Let me look."), tool_use("srvtoolu_1", "web_search", query="otters")),
        user(tool_result("srvtoolu_1", READ)),
        assistant(text("They swim.")),
        user("Why?"),
    ]


def test_searches_at_once_and_one_after_another_keep_their_order() -> None:
    pair = [searched("a", "s1"), searched("b", "s2"), found(ident="s2"), found(ident="s1")]
    turn = assistant(*pair, text("Hm."), searched("c", "s3"), found(ident="s3"), text("So."))
    assert told(user("?"), turn) == [
        ("assistant", "s1", "s2"),
        ("user", "s2", "s1"),
        ("assistant", "Hm.", "s3"),
        ("user", "s3"),
        ("assistant", "So."),
    ]


def test_a_turn_that_was_paused_ends_with_what_was_found() -> None:
    assert told(user("?"), assistant(searched(), found()))[-1] == ("user", "srvtoolu_1")


def test_calls_of_the_client_s_come_behind_the_searches() -> None:
    turn = assistant(tool_use("toolu_1", "look"), searched(), found())
    assert told(user("?"), turn, user(tool_result("toolu_1", "An otter."))) == [
        ("assistant", "srvtoolu_1"),
        ("user", "srvtoolu_1"),
        ("assistant", "toolu_1"),
        ("user", "toolu_1"),
    ]


def test_a_search_that_failed_is_an_error() -> None:
    messages = plain(user("?"), assistant(searched(), error_block("srvtoolu_1", "unavailable")))["messages"]
    result = {**tool_result("srvtoolu_1", "The search failed: unavailable"), "is_error": True}
    assert messages[-1] == user(result)


def test_a_search_without_a_result_and_a_result_without_a_search_stay() -> None:
    turn = assistant(found(ident="s9"), searched("a", "s1"), searched("b", "s2"), found(ident="s2"), text("So."))
    first, *others = plain(user("?"), turn)["messages"][1:]
    assert [each["type"] for each in first["content"]] == ["web_search_tool_result", "server_tool_use", "tool_use"]
    assert others == [user(tool_result("s2", "Nothing was found.")), assistant(text("So."))]


def test_an_id_counts_once() -> None:
    uses = [searched(ident="s1"), searched(ident="s2"), found(ident="s1"), searched(ident="s1"), found(ident="s1")]
    assert told(user("?"), assistant(*uses, found(ident="s2"))) == [
        ("assistant", "s1", "s1", "s1", "s2"),
        ("user", "s1", "s2"),
    ]
    taken = assistant(searched(ident="x"), found(ident="x"))
    turns = [assistant(tool_use("x", "look")), taken, user(tool_result("x", "y"))]
    assert plain(user("?"), *turns)["messages"][1:] == turns


def test_a_result_of_another_shape_stays() -> None:
    turn = assistant(searched(), {**found(), "content": [{"type": "web_search_result"}]})
    assert plain(user("?"), turn)["messages"][-1] == turn


BLOCKS = st.sampled_from(
    [
        text("a"),
        searched(ident="s1"),
        searched(ident="s2"),
        found(ident="s1"),
        found(OTTERS, ident="s2"),
        error_block("s1", "unavailable"),
        tool_use("t1", "look"),
        tool_use("t2", "look"),
    ]
)
TURNS = st.lists(st.lists(BLOCKS, max_size=7), min_size=1, max_size=3)


@given(TURNS)
def test_every_call_that_was_made_here_has_its_answer_in_the_next_turn(turns: list[list[Json]]) -> None:
    messages: list[Json] = [user("?")]
    for blocks in turns:
        messages += [assistant(*blocks) if blocks else assistant("b"), user("?")]
    waiting: list[str] = []
    for message in plain(*messages)["messages"]:
        blocks = message["content"] if isinstance(message["content"], list) else []
        answers = [each["tool_use_id"] for each in blocks if each["type"] == "tool_result"]
        assert sorted(answers) == sorted(waiting)
        waiting = [each["id"] for each in blocks if each["type"] == "tool_use" and each["name"] == "web_search"]
    assert waiting == []


@given(TURNS)
def test_a_request_that_is_plain_is_not_changed_again(turns: list[list[Json]]) -> None:
    once = plain(user("?"), *(assistant(*blocks) if blocks else assistant("b") for blocks in turns))
    kept = [m for m in once["messages"] if not any(b["type"].startswith(("server", "web")) for b in blocks_of(m))]
    assert plain(*kept, tools=once["tools"])["messages"] == kept


def blocks_of(message: Json) -> list[Json]:
    return message["content"] if isinstance(message["content"], list) else []


def test_tools_of_a_server_that_come_and_go_are_bounded() -> None:
    """One block may stand for all of a server's tools: the blocks that come of a request are not what it holds times
    what its servers list.
    """

    class Server:
        definitions = tuple({"name": f"mcp_{number}"} for number in range(1000))

        def call_fields(self, name: str) -> dict[str, Any]:
            return {"type": "mcp_tool_use", "server_name": "docs", "name": name.removeprefix("mcp_")}

    def turn(times: int) -> list[dict[str, Any]]:
        reference = {"type": "mcp_toolset_reference", "server_name": "docs"}
        return [{"type": "tool_removal", "tool": reference}] * times

    changes = ToolChanges([cast("ServerTool", Server())])
    assert len(changes.plain(turn(20), "messages.0.content")) == 20_000
    with pytest.raises(InvalidRequestError, match=r"^messages\.1\.content\.0: "):
        changes.plain(turn(1), "messages.1.content")
