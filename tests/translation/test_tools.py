"""Tools, the choice among them, and names that OpenAI-style servers take."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.api_support import SUPPORT
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.toolset_schemas import TOOLSETS
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion
from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.translation.tools import ToolNames
from tests.support.laws import fold
from tests.support.wire import call, chat_chunks, chat_completion
from tests.test_api_support import TOOLS as SERVER_TOOLS
from tests.translation.helpers import assistant, tool, tool_result, tool_use, translated, user

type Json = dict[str, Any]

EMPTY = {"type": "object", "properties": {}}
WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search"}
BASH = {"type": "bash_20250124", "name": "bash"}
BROWSER = {"type": "browser_toolset_20260801"}
LONG = "mcp__" + "a_server_with_a_long_name__" * 4 + "look"


def function(name: str = "look", **fields: Any) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": EMPTY, **fields}}


def names_of(tools: list[Json]) -> list[str]:
    return [each["function"]["name"] for each in tools]


# --- definitions ---


@dataclass
class Case:
    id: str
    given: list[Json]
    sent: list[Json]
    dropped: list[str] = field(default_factory=list)


EMPTY: Json = {"type": "object", "properties": {}}
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"at": {"anyOf": [{"type": "string", "minLength": 1}, {"const": None}]}},
    "required": ["at"],
    "additionalProperties": False,
}

DEFINITIONS = [
    Case("no tools", [], []),
    Case("name and schema", [tool()], [function()]),
    Case("description", [tool(description="Looks.")], [function(description="Looks.")]),
    Case("an empty description", [tool(description="")], [function()]),
    Case("the schema as it is", [tool(input_schema=SCHEMA)], [function(parameters=SCHEMA)]),
    Case(
        "a schema without a type", [tool(input_schema={})], [function(parameters={"type": "object", "properties": {}})]
    ),
    Case("strict", [tool(strict=True)], [function(strict=True)]),
    Case("not strict", [tool(strict=False)], [function(strict=False)]),
    Case("the type said aloud", [tool(type="custom")], [function()]),
    Case("the type null", [tool(type=None)], [function()]),
    Case(
        "options of Anthropic's alone",
        [tool(defer_loading=False, eager_input_streaming=True, allowed_callers=["direct"])],
        [function()],
    ),
    Case(
        "examples of inputs",
        [tool(description="Looks.", input_examples=[{"at": "é"}, {}])],
        [function(description='Looks.\n\nExamples of its input:\n{"at":"é"}\n{}')],
    ),
    Case(
        "examples without a description",
        [tool(input_examples=[{}])],
        [function(description="Examples of its input:\n{}")],
    ),
    Case("no examples", [tool(input_examples=[])], [function()]),
    Case("a server tool", [WEB_SEARCH, tool()], [function()], ["tools.0"]),
    Case("an MCP toolset", [tool(), {"type": "mcp_toolset", "mcp_server_name": "x"}], [function()], ["tools.1"]),
    Case("something new", [tool(), {"type": "hologram_20310101", "depth": 3}], [function()], ["tools.1"]),
    Case("something new that looks like a tool", [tool(type="custom_20310101")], [function()]),
    Case("something new with odd fields", [{"type": "x", "name": 3, "input_schema": []}], [], ["tools.0"]),
    Case("the second tool of a name", [tool(), tool(description="Again.")], [function()], ["tools.1"]),
]


@pytest.mark.parametrize("case", DEFINITIONS, ids=lambda case: case.id)
def test_tools_become_functions(case: Case) -> None:
    translation = translated(tools=case.given)

    assert translation.params.get("tools", []) == case.sent
    assert translation.dropped == case.dropped
    if case.dropped:
        with pytest.raises(InvalidRequestError, match=f"^{case.dropped[0]}: "):
            translated(tools=case.given, options={"strict": True})


def test_client_tools_come_with_their_documented_schemas() -> None:
    translation = translated(tools=[BASH, tool()])

    assert names_of(translation.params["tools"]) == ["bash", "look"]
    assert "command" in translation.params["tools"][0]["function"]["parameters"]["properties"]
    assert translation.dropped == []


def test_examples_of_a_client_tool_s_inputs_are_told_once() -> None:
    given = {**BASH, "input_examples": [{"command": "ls"}]}
    [plain] = translated(tools=[BASH]).params["tools"]

    [told] = translated(tools=[given]).params["tools"]
    [again] = translated(tools=[given]).params["tools"]

    words = plain["function"]["description"] + '\n\nExamples of its input:\n{"command":"ls"}'
    assert told == again == {**plain, "function": {**plain["function"], "description": words}}


def test_a_client_tool_cannot_be_strict() -> None:
    translation = translated(tools=[{**BASH, "strict": True}])

    assert translation.params["tools"] == translated(tools=[BASH]).params["tools"]
    assert translation.dropped == ["tools.0.strict"]


def test_a_tool_that_is_added_in_mid_conversation_is_offered() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool("count")}}
    given = [user("Hi"), assistant("Yes"), user(added)]

    translation = translated(*given, tools=[tool()])

    assert names_of(translation.params["tools"]) == ["look", "count"]
    assert translation.params["messages"][-1]["content"] == "The tool count is available now."
    assert translation.dropped == []


def test_a_server_tool_that_is_added_is_named_where_it_stands() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": WEB_SEARCH}}

    translation = translated(user("Hi"), user(added), tools=[tool()])

    assert translation.params["messages"] == [user("Hi")]
    assert translation.dropped == ["messages.1.content.0.tool.definition"]


@pytest.mark.parametrize("of", [{"type": "mcp_toolset_reference"}, {"type": "mcp_tool_reference", "name": "look"}])
def test_a_tool_of_an_mcp_server_is_not_said_to_be_there(of: Json) -> None:
    added = {"type": "tool_addition", "tool": {**of, "server_name": "files"}}

    translation = translated(user("Hi"), user(added))

    assert translation.params["messages"] == [user("Hi")]
    assert translation.dropped == ["messages.1.content.0"]


def test_a_toolset_that_is_added_is_offered() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": BROWSER}}

    translation = translated(user("Hi"), user(added))

    assert translation.params["messages"] == [user("Hi\n\nThe tool browser_toolset_20260801 is available now.")]
    assert "browser_navigate" in names_of(translation.params["tools"])


# --- the choice ---

FORCED = {"type": "function", "function": {"name": "look"}}


@dataclass
class Choice:
    id: str
    given: Json
    sent: Json
    tools: list[Json] = field(default_factory=lambda: [tool()])


CHOICES = [
    Choice("auto", {"type": "auto"}, {"tool_choice": "auto"}),
    Choice("any", {"type": "any"}, {"tool_choice": "required"}),
    Choice("none", {"type": "none"}, {"tool_choice": "none"}),
    Choice("one tool", {"type": "tool", "name": "look"}, {"tool_choice": FORCED}),
    Choice(
        "one call at most",
        {"type": "auto", "disable_parallel_tool_use": True},
        {"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    Choice(
        "exactly one call",
        {"type": "any", "disable_parallel_tool_use": True},
        {"tool_choice": "required", "parallel_tool_calls": False},
    ),
    Choice(
        "exactly one call of one tool",
        {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        {"tool_choice": FORCED, "parallel_tool_calls": False},
    ),
    Choice("parallel calls by default", {"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
    Choice("none without tools", {"type": "none"}, {}, tools=[]),
    Choice("none where no tool is left", {"type": "none", "disable_parallel_tool_use": True}, {}, tools=[WEB_SEARCH]),
    Choice(
        "auto where the members of a toolset are off",
        {"type": "auto"},
        {},
        tools=[{**BROWSER, "configs": {name: {"enabled": False} for name in TOOLSETS[BROWSER["type"]].members}}],
    ),
]


@pytest.mark.parametrize("case", CHOICES, ids=lambda case: case.id)
def test_the_choice_among_tools_is_carried(case: Choice) -> None:
    params = translated(tools=case.tools, tool_choice=case.given).params

    assert {name: params[name] for name in ("tool_choice", "parallel_tool_calls") if name in params} == case.sent


REFUSED = [
    ([], {"type": "auto"}, "tool_choice: may only be specified while providing tools"),
    ([], {"type": "any"}, "tool_choice: may only be specified while providing tools"),
    ([tool()], {"type": "tool", "name": "gone"}, "tool_choice.name: there is no tool named gone"),
    (
        [tool(), WEB_SEARCH],
        {"type": "tool", "name": "web_search"},
        "tool_choice.name: web_search is a tool that this server cannot run",
    ),
    *(
        ([WEB_SEARCH], choice, "tools: the only tools are ones that this server cannot run (web_search_20250305)")
        for choice in (None, {"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "web_search"})
    ),
    (
        [{**BROWSER, "configs": {name: {"enabled": False} for name in TOOLSETS[BROWSER["type"]].members}}],
        {"type": "any"},
        "tool_choice: there is no tool to call",
    ),
]


@pytest.mark.parametrize(("tools", "choice", "message"), REFUSED, ids=[message[:50] for _, _, message in REFUSED])
def test_a_choice_that_cannot_be_honoured_is_refused(tools: list[Json], choice: Json | None, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        translated(tools=tools, **({"tool_choice": choice} if choice else {}))

    assert refusal.value.message == message
    assert refusal.value.status == 400


NOT_RUN = [name for name, row in SUPPORT["tool"].items() if row.translated == "dropped"]


@pytest.mark.parametrize("name", [*NOT_RUN, "web_search_20250305", "web_search_20260209", "web_search_20260318"])
def test_a_request_with_no_tool_but_a_server_s_is_refused_and_its_prompt_is_counted(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"^tools: the only tools .* cannot run \({name}\)$"):
        translated(tools=[SERVER_TOOLS[name]])

    request = {"model": "m", "messages": [user("Hi")], "tools": [SERVER_TOOLS[name]]}
    counted = to_chat_completion(request, model="m", dialect=ENGINES["unknown"].chat, options=TranslationOptions())
    assert "tools" not in counted.params
    assert counted.dropped == ["tools.0"]


def test_a_toolset_is_forced_by_offering_its_members_alone() -> None:
    params = translated(tools=[tool(), BROWSER], tool_choice={"type": "tool", "name": "browser"}).params

    assert params["tool_choice"] == "required"
    assert names_of(params["tools"])
    assert all(name.startswith("browser_") for name in names_of(params["tools"]))


# --- names ---


def test_a_long_name_is_short_upstream_and_long_again_for_the_client() -> None:
    given = [user("Hi"), assistant(tool_use("a", LONG)), user(tool_result("a", "Blue"))]
    translation = translated(*given, tools=[tool(LONG)], tool_choice={"type": "tool", "name": LONG})

    [short] = names_of(translation.params["tools"])
    history = translation.params["messages"][1]["tool_calls"][0]["function"]["name"]
    whole = to_message(
        chat_completion(tool_calls=[call(short)]),
        message_id="msg_1",
        model="claude-x",
        restore=translation.restore,
    )
    translator = StreamTranslator("msg_1", "claude-x", restore=translation.restore)
    chunks = chat_chunks(tool_calls=[call(short)])
    streamed = fold([event for chunk in chunks for event in translator.feed(chunk)] + translator.close())

    assert len(short) == 64
    assert history == short
    assert translation.params["tool_choice"]["function"]["name"] == short
    assert [block["name"] for block in whole["content"]] == [LONG]
    assert [block["name"] for block in streamed["content"]] == [LONG]


def test_a_toolsets_member_gets_its_own_name_and_family_back() -> None:
    translation = translated(tools=[BROWSER])
    [*names] = names_of(translation.params["tools"])

    assert translation.restore(names[0]) == {
        "name": names[0].removeprefix("browser_"),
        "toolset_name": "browser",
    }


def test_a_name_that_the_model_made_up_stays() -> None:
    assert translated(tools=[tool()]).restore("made_up") == {"name": "made_up"}


@given(st.lists(st.text(min_size=1, max_size=90), unique=True, max_size=5))
def test_every_name_is_one_that_servers_take_and_comes_back(names: list[str]) -> None:
    short = ToolNames()

    sent = [short.sent(name) for name in names]

    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in sent)
    assert [short.restored.get(name, name) for name in sent] == names
    assert sent == [ToolNames().sent(name) for name in names]


def test_a_trailing_line_feed_is_not_part_of_a_name() -> None:
    assert ToolNames().sent("look\n") != "look\n"
