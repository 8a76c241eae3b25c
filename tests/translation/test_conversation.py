"""Turns to messages: roles, order, calls and their results."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from llama_stack_messages_provider.errors import InvalidRequestError
from tests.translation.helpers import (
    assistant,
    image,
    messages_of,
    system,
    text,
    tool_result,
    tool_use,
    translated,
    user,
)

type Json = dict[str, Any]


def call(id: str, name: str = "look", arguments: str = "{}") -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answer(id: str, content: str = "") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": content}


NO_RESULT = "[tool error] No result: the call was interrupted."
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@dataclass
class Case:
    id: str
    given: list[Json]
    sent: list[Json]
    fields: Json = field(default_factory=dict)


SYSTEM = [
    Case("a string", [user("Hi")], [system("Be brief."), user("Hi")], {"system": "Be brief."}),
    Case("blocks", [user("Hi")], [system("A\n\nB"), user("Hi")], {"system": [text("A"), text(""), text("B")]}),
    Case("nothing", [user("Hi")], [user("Hi")], {"system": ""}),
    Case("no blocks", [user("Hi")], [user("Hi")], {"system": []}),
    Case(
        "in mid-conversation it keeps its place",
        [user("Hi"), system("Now in French."), assistant("Salut"), system(text("Shout.")), user("?")],
        [user("Hi"), system("Now in French."), assistant("Salut"), system("Shout."), user("?")],
    ),
    Case(
        "one at the head follows the system prompt",
        [system("B"), user("Hi")],
        [system("A\n\nB"), user("Hi")],
        {"system": "A"},
    ),
    Case(
        "merged into the head where configured",
        [user("Hi"), system("B"), assistant("Yes"), system("C"), user("?")],
        [system("A\n\nB\n\nC"), user("Hi"), assistant("Yes"), user("?")],
        {"system": "A", "options": {"merge_system": True}},
    ),
    Case(
        "never between calls and their results",
        [user("Hi"), assistant(tool_use("a")), system("Note."), user(tool_result("a", "A"), text("Go on."))],
        [
            user("Hi"),
            {"role": "assistant", "tool_calls": [call("a")]},
            answer("a", "A"),
            system("Note."),
            user("Go on."),
        ],
    ),
    Case("one without content only changes settings", [{"role": "system"}, user("Hi")], [user("Hi")]),
    Case(
        "one that holds until the next user turn is gone after it",
        [user("Hi"), system("Once.", clear_at="next_user_message"), assistant("Yes"), user("?")],
        [user("Hi"), assistant("Yes"), user("?")],
    ),
    Case(
        "one that holds until the next user turn is there before it",
        [user("Hi"), system("Once.", clear_at="next_user_message")],
        [user("Hi"), system("Once.")],
    ),
    Case(
        "one that holds for ever stays",
        [user("Hi"), system("Always.", clear_at="never"), user("?")],
        [user("Hi"), system("Always."), user("?")],
    ),
]

TURNS = [
    Case("several turns", [user("A"), assistant("B"), user("C")], [user("A"), assistant("B"), user("C")]),
    Case("consecutive user turns are one", [user("A"), user(text("B"))], [user("A\n\nB")]),
    Case(
        "consecutive user turns with a picture",
        [user("A"), user(image())],
        [user({"type": "text", "text": "A"}, PICTURE)],
    ),
    Case("consecutive assistant turns are one", [assistant("A"), assistant("B")], [assistant("A\n\nB")]),
    Case("text blocks of a user", [user(text("A"), text("B"))], [user("A\n\nB")]),
    # A model's text is cut where a citation begins or where a stream was joined: between words and within them.
    Case("text blocks of an assistant", [assistant(text("It is "), text("blue."))], [assistant("It is blue.")]),
    Case("empty text blocks", [user(text(""), text("A"), text(""))], [user("A")]),
    Case(
        "an empty turn is no turn",
        [user("A"), assistant(), user(text("")), assistant("B")],
        [user("A"), assistant("B")],
    ),
    Case("an empty turn between two of a role", [user("A"), assistant(""), user("B")], [user("A\n\nB")]),
]

CALLS = [
    Case(
        "a call and its result",
        [assistant(text("Looking."), tool_use("a", at="sky")), user(tool_result("a", "Blue"))],
        [
            {"role": "assistant", "content": "Looking.", "tool_calls": [call("a", arguments='{"at":"sky"}')]},
            answer("a", "Blue"),
        ],
    ),
    Case(
        "parallel calls, results in another order, text behind them",
        [
            assistant(tool_use("a"), tool_use("b", "count")),
            user(text("Here:"), tool_result("b", [text("1"), text("2")]), tool_result("a"), text("Go on.")),
        ],
        [
            {"role": "assistant", "tool_calls": [call("a"), call("b", "count")]},
            answer("b", "1\n\n2"),
            answer("a"),
            user("Here:\n\nGo on."),
        ],
    ),
    Case(
        "results over two user turns",
        [assistant(tool_use("a"), tool_use("b")), user(tool_result("a"), text("A.")), user(tool_result("b"))],
        [{"role": "assistant", "tool_calls": [call("a"), call("b")]}, answer("a"), answer("b"), user("A.")],
    ),
    Case(
        "calls over two assistant turns",
        [assistant(tool_use("a")), assistant(text("And"), tool_use("b")), user(tool_result("a"), tool_result("b"))],
        [
            {"role": "assistant", "tool_calls": [call("a"), call("b")], "content": "And"},
            answer("a"),
            answer("b"),
        ],
    ),
    Case(
        "a failure is marked",
        [assistant(tool_use("a")), user(tool_result("a", [text("No file")], is_error=True))],
        [{"role": "assistant", "tool_calls": [call("a")]}, answer("a", "[tool error] No file")],
    ),
    Case(
        "a failure without words is marked",
        [assistant(tool_use("a")), user(tool_result("a", is_error=True))],
        [{"role": "assistant", "tool_calls": [call("a")]}, answer("a", "[tool error] ")],
    ),
    Case(
        "a success says nothing",
        [assistant(tool_use("a")), user(tool_result("a", "ok", is_error=False))],
        [{"role": "assistant", "tool_calls": [call("a")]}, answer("a", "ok")],
    ),
    Case(
        "the marker is a setting",
        [assistant(tool_use("a")), user(tool_result("a", "No file", is_error=True))],
        [{"role": "assistant", "tool_calls": [call("a")]}, answer("a", "FAILED: No file")],
        {"options": {"tool_error_marker": "FAILED: "}},
    ),
    Case(
        "pictures of results follow all results",
        [
            assistant(tool_use("a"), tool_use("b")),
            user(tool_result("a", [text("One"), image()]), tool_result("b", [image()]), text("Compare.")),
        ],
        [
            {"role": "assistant", "tool_calls": [call("a"), call("b")]},
            answer("a", "One"),
            answer("b"),
            user(
                {"type": "text", "text": "From the result of the tool call a:"},
                PICTURE,
                {"type": "text", "text": "From the result of the tool call b:"},
                PICTURE,
                {"type": "text", "text": "Compare."},
            ),
        ],
    ),
    Case(
        "arguments keep their characters",
        [assistant({**tool_use("a"), "input": {"q": "é ✓", "n": [1, 2.5, None]}}), user(tool_result("a"))],
        [
            {"role": "assistant", "tool_calls": [call("a", arguments='{"q":"é ✓","n":[1,2.5,null]}')]},
            answer("a"),
        ],
    ),
]

REPAIRS = [
    Case(
        "a call without a result gets one",
        [assistant(tool_use("a")), user("Never mind.")],
        [{"role": "assistant", "tool_calls": [call("a")]}, answer("a", NO_RESULT), user("Never mind.")],
    ),
    Case(
        "a call at the very end gets one",
        [user("Hi"), assistant(tool_use("a"))],
        [user("Hi"), {"role": "assistant", "tool_calls": [call("a")]}, answer("a", NO_RESULT)],
    ),
    Case(
        "one of two calls without a result",
        [assistant(tool_use("a"), tool_use("b")), user(tool_result("b", "B")), assistant("Well.")],
        [
            {"role": "assistant", "tool_calls": [call("a"), call("b")]},
            answer("b", "B"),
            answer("a", NO_RESULT),
            assistant("Well."),
        ],
    ),
    Case(
        "a result without a call is text",
        [user(tool_result("a", "A")), assistant("Yes")],
        [user("Result of the tool call a:\nA"), assistant("Yes")],
    ),
    Case(
        "a failed result without a call, with a picture",
        [user(tool_result("a", [text("A"), image()], is_error=True))],
        [user({"type": "text", "text": "Result of the tool call a:\n[tool error] A"}, PICTURE)],
    ),
    Case(
        "a second result of the same call is text",
        [assistant(tool_use("a")), user(tool_result("a", "A"), tool_result("a", "B"))],
        [{"role": "assistant", "tool_calls": [call("a")]}, answer("a", "A"), user("Result of the tool call a:\nB")],
    ),
    Case(
        "a result that comes a turn late is text",
        [assistant(tool_use("a")), user("Wait."), assistant("Yes?"), user(tool_result("a", "A"))],
        [
            {"role": "assistant", "tool_calls": [call("a")]},
            answer("a", NO_RESULT),
            user("Wait."),
            assistant("Yes?"),
            user("Result of the tool call a:\nA"),
        ],
    ),
    Case(
        "two calls of one id are one",
        [assistant(tool_use("a"), tool_use("a", "count")), user(tool_result("a", "A"))],
        [{"role": "assistant", "tool_calls": [call("a")]}, answer("a", "A")],
    ),
    Case(
        "an id that comes again in a later turn is another call",
        [assistant(tool_use("a")), user(tool_result("a", "A")), assistant(tool_use("a")), user(tool_result("a", "B"))],
        [
            {"role": "assistant", "tool_calls": [call("a")]},
            answer("a", "A"),
            {"role": "assistant", "tool_calls": [call("a")]},
            answer("a", "B"),
        ],
    ),
]


@pytest.mark.parametrize("case", SYSTEM + TURNS + CALLS + REPAIRS, ids=lambda case: case.id)
def test_turns_become_messages(case: Case) -> None:
    translation = translated(*case.given, **case.fields)

    assert translation.params["messages"] == case.sent
    assert translation.dropped == []


@pytest.mark.parametrize("case", [c for c in REPAIRS if "again" not in c.id], ids=lambda case: case.id)
def test_strict_mode_refuses_what_would_be_repaired(case: Case) -> None:
    with pytest.raises(InvalidRequestError, match=r"^messages(\.\d+\.content(\.\d+\.\w+)?)?: ") as refusal:
        translated(*case.given, options={"strict": True})

    assert refusal.value.status == 400


def test_strict_mode_takes_what_is_whole() -> None:
    given = [user("Hi"), assistant(tool_use("a")), user(tool_result("a", "A"), text("Go on."))]

    assert messages_of(*given, options={"strict": True}) == messages_of(*given)


def test_a_repair_is_told_by_its_path() -> None:
    given = [user("Hi"), assistant("Yes"), user(text("So:"), tool_result("gone", "A"))]

    with pytest.raises(InvalidRequestError) as refusal:
        translated(*given, options={"strict": True})

    assert refusal.value.message == "messages.2.content.1.tool_use_id: no tool_use with the id gone in the turn before"


@pytest.mark.parametrize("given", [[user("")], [user()], [user(text("")), assistant("")], [{"role": "system"}]])
def test_a_conversation_without_a_word_is_refused(given: list[Json]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^messages: at least one message must have content"):
        translated(*given)


# --- thinking of the history ---

THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "from elsewhere"}


@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        ("vllm", {"reasoning": "Hm."}),
        ("ollama", {"reasoning": "Hm."}),
        ("sglang", {"reasoning_content": "Hm."}),
        ("llama.cpp", {"reasoning_content": "Hm."}),
        ("unknown", {"reasoning_content": "Hm."}),
        ("openai", {}),
        ("anthropic", {}),
    ],
)
def test_thinking_goes_back_where_the_engine_takes_it(dialect: str, sent: Json) -> None:
    given = [assistant(THOUGHT, text("Yes"), tool_use("a")), user(tool_result("a"))]

    assert messages_of(*given, dialect=dialect)[0] == {
        "role": "assistant",
        "content": "Yes",
        **sent,
        "tool_calls": [call("a")],
    }


def test_thinking_of_joined_turns_is_joined() -> None:
    given = [user("Hi"), assistant(THOUGHT, text("A")), assistant({**THOUGHT, "thinking": "Ah."}, text("B"))]

    assert messages_of(*given)[1:] == [{"role": "assistant", "content": "A\n\nB", "reasoning_content": "Hm.\nAh."}]


def test_a_turn_of_thinking_alone_has_the_content_that_servers_insist_on() -> None:
    given = [user("Hi"), assistant(THOUGHT), user("?")]

    assert messages_of(*given)[1] == {"role": "assistant", "content": "", "reasoning_content": "Hm."}
    assert messages_of(*given, dialect="openai") == [user("Hi\n\n?")]


@pytest.mark.parametrize("block", [{"type": "redacted_thinking", "data": "x"}, {**THOUGHT, "thinking": ""}])
def test_thinking_that_cannot_be_read_is_passed_over(block: Json) -> None:
    translation = translated(user("Hi"), assistant(block, text("Yes")))

    assert translation.params["messages"][1] == assistant("Yes")
    assert translation.dropped == []


# --- what does not belong into a turn ---


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ([user(text("Hi"), tool_use("a"))], "messages.0.content.1"),
        ([user("Hi"), assistant(text("Yes"), tool_result("a", "A"))], "messages.1.content.1"),
        ([user("Hi"), assistant(text("Yes"), image())], "messages.1.content.1"),
        ([user("Hi"), system(text("Yes"), image())], "messages.1.content.1"),
    ],
    ids=["a call of a user", "a result of an assistant", "an assistant's picture", "a system picture"],
)
def test_a_block_in_the_wrong_turn_is_dropped_and_named(given: list[Json], path: str) -> None:
    translation = translated(*given)

    assert translation.dropped == [path]
    assert translation.params["messages"][-1]["content"] in ("Hi", "Yes")
    with pytest.raises(InvalidRequestError, match=f"^{path}: "):
        translated(*given, options={"strict": True})
