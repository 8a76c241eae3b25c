"""Which call a fragment belongs to."""

from dataclasses import dataclass
from typing import Any

import pytest

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.translation.calls import Call, ToolCallAccumulator

type Json = dict[str, Any]
type Calls = list[tuple[str, str, str]]


def fragment(index: int | None = None, id: Any = None, name: Any = None, arguments: Any = None) -> Json:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


@dataclass
class Case:
    id: str
    fragments: list[Json]
    calls: Calls
    """Id, name and arguments of each."""


CASES = [
    Case("by index", [fragment(0, "a", "f", "{"), fragment(0, arguments="}")], [("a", "f", "{}")]),
    Case(
        "a new index with a name is a new call, whatever its id",
        [fragment(0, "a", "f", "{}"), fragment(1, "a", "g", "{}")],
        [("a", "f", "{}"), ("toolu_1", "g", "{}")],
    ),
    Case(
        "a new id at an index is a new call",
        [fragment(0, "a", "f", "{}"), fragment(0, "b", "g", "{"), fragment(0, arguments="}")],
        [("a", "f", "{}"), ("b", "g", "{}")],
    ),
    Case(
        "an id that lost its index is still its call",
        [
            fragment(0, "a", "f", "{"),
            fragment(0, "b", "g", "{"),
            fragment(0, "a", None, "}"),
            fragment(0, "b", None, "}"),
        ],
        [("a", "f", "{}"), ("b", "g", "{}")],
    ),
    Case(
        "an id that comes late is taken",
        [fragment(0, None, "f"), fragment(0, "a", None, "{}")],
        [("a", "f", "{}")],
    ),
    Case(
        "by id, without an index",
        [fragment(id="a", name="f", arguments="{"), fragment(id="b", name="g"), fragment(id="a", arguments="}")],
        [("a", "f", "{}"), ("b", "g", "")],
    ),
    Case(
        "neither id nor index goes on with the last call",
        [fragment(id="a", name="f", arguments="{"), fragment(arguments="}")],
        [("a", "f", "{}")],
    ),
    Case(
        "a name without id and index begins a call",
        [fragment(name="f", arguments="{}"), fragment(name="g", arguments="{}")],
        [("toolu_0", "f", "{}"), ("toolu_1", "g", "{}")],
    ),
    Case("arguments of null", [fragment(0, "a", "f", "null")], [("a", "f", "")]),
    Case(
        "null within arguments",
        [fragment(0, "a", "f", '{"x":'), fragment(0, arguments="null"), fragment(0, arguments="}")],
        [("a", "f", '{"x":null}')],
    ),
    Case("a name in pieces", [fragment(0, "a", "fo"), fragment(0, None, "ot")], [("a", "foot", "")]),
    Case("a name again and again", [fragment(0, "a", "f"), fragment(0, "a", "f", "{}")], [("a", "f", "{}")]),
    Case("a name after arguments began", [fragment(0, "a", "f", "{"), fragment(0, None, "f", "}")], [("a", "f", "{}")]),
    Case(
        "an id that changes within a call",
        [fragment(0, "a", "f", ""), fragment(0, "b", None, '{"x":'), fragment(0, "b", None, "1}")],
        [("a", "f", '{"x":1}')],
    ),
    Case(
        "the head of the second call under the first one's index",
        [
            fragment(0, "a", "f", ""),
            fragment(0, None, None, "{}"),
            fragment(0, "b", "g", ""),
            fragment(1, None, None, '{"x":'),
            fragment(1, None, None, "1}"),
        ],
        [("a", "f", "{}"), ("b", "g", '{"x":1}')],
    ),
    Case(
        "two calls with one index and no ids",
        [fragment(0, None, "f", "{}"), fragment(0, None, "g", "{"), fragment(0, None, None, "}")],
        [("toolu_0", "f", "{}"), ("toolu_1", "g", "{}")],
    ),
    Case(
        "arguments after complete ones are another call of the same function",
        [fragment(0, "a", "f", '{"x":1}'), fragment(0, None, None, '{"x":2}')],
        [("a", "f", '{"x":1}'), ("toolu_1", "f", '{"x":2}')],
    ),
    Case(
        "two objects in one string",
        [fragment(0, "a", "f", '{"x":"}"} {"x":2}')],
        [("a", "f", '{"x":"}"}'), ("toolu_1", "f", ' {"x":2}')],
    ),
    Case(
        "a call that is told again whole",
        [fragment(0, "a", "f", '{"x":'), fragment(0, "a", "f", "1}"), fragment(0, "a", "f", '{"x":1}')],
        [("a", "f", '{"x":1}')],
    ),
    Case(
        "a name again at the end",
        [fragment(0, "a", "f", "{}"), fragment(0, None, "f", "")],
        [("a", "f", "{}")],
    ),
    Case(
        "a name with each fragment, and nothing else",
        [fragment(name="f", arguments="{"), fragment(name="f", arguments="}")],
        [("toolu_0", "f", "{}")],
    ),
    Case("encoded twice", [fragment(0, "a", "f", '"{\\"x\\":1}"')], [("a", "f", '{"x":1}')]),
    Case(
        "encoded twice, in pieces",
        [fragment(0, "a", "f", '"{\\'), fragment(0, None, None, '"x\\":1}"')],
        [("a", "f", '{"x":1}')],
    ),
    Case("a string that is no object", [fragment(0, "a", "f", '"now"')], [("a", "f", '"now"')]),
    Case(
        "escapes at the end of a piece",
        [fragment(0, "a", "f", '{"x":"\\'), fragment(0, None, None, '"}"}')],
        [("a", "f", '{"x":"\\"}"}')],
    ),
]


def client_id(book: ToolCallAccumulator, call: Call) -> str:
    book.start(call)
    return call.id


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_fragments_find_their_call(case: Case) -> None:
    book = ToolCallAccumulator("toolu_")

    for each in case.fragments:
        book.add(each)

    assert [(client_id(book, call), call.name, call.drain()) for call in book.calls] == case.calls


@pytest.mark.parametrize("fields", [{}, {"function": None}, {"function": {"arguments": "{}"}}])
def test_a_call_of_no_tool_is_the_upstreams_fault(fields: dict[str, Any]) -> None:
    book = ToolCallAccumulator("toolu_")
    call = book.add({"index": 0, "id": "a", **fields})

    with pytest.raises(UpstreamError, match="without naming it"):
        book.start(call)


def test_an_id_that_comes_after_the_start_was_told_changes_nothing() -> None:
    book = ToolCallAccumulator("toolu_")
    call = book.add(fragment(0, None, "f", "{"))
    book.start(call)

    book.add(fragment(0, "a", None, "}"))

    assert [(each.id, each.drain()) for each in book.calls] == [("toolu_0", "{}")]


def test_what_was_drained_is_not_drained_again() -> None:
    call = ToolCallAccumulator("toolu_").add(fragment(0, "a", "f", "{}"))

    assert (call.drain(), call.drain()) == ("{}", "")
    assert call.is_whole


def test_a_book_without_calls_is_empty() -> None:
    assert not ToolCallAccumulator("toolu_")
