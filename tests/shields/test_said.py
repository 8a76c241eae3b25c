"""What of a request is judged: turns of the user, results of tools, and whatever else a client may have put there."""

from typing import Any

import pytest
from hypothesis import given

from llama_stack_messages_provider.shields.said import MAX_UNREAD, parts_in, said_in, text_of_call
from tests.strategies import create_requests, json_values
from tests.support.wire import Json, text_block, tool_use_block

IMAGE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}


def said(*messages: Any, system: Any = None, judged: bool = False) -> list[tuple[str, str, tuple[str, ...]]]:
    request = {"messages": list(messages), "system": system}
    return [(each.path, each.text, each.unread) for each in said_in(request, system=judged)]


def user(*content: Any) -> Json:
    return {"role": "user", "content": list(content)}


def test_a_turn_is_one_text_and_each_result_another() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": "first"},
        {"type": "tool_result", "tool_use_id": "b", "content": [text_block("second"), IMAGE]},
    ]
    assert said(user(*results, text_block("one"), text_block("two"))) == [
        ("messages.0", "one\ntwo", ()),
        ("messages.0.content.0", "first", ()),
        ("messages.0.content.1", "second", ("image",)),
    ]


def test_what_a_model_said_is_not_judged_but_what_a_client_has_begun_is() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [text_block("b")]}]
    assert said(*turns, {"role": "user", "content": "c"}) == [("messages.0", "a", ()), ("messages.2", "c", ())]
    assert said(*turns) == [("messages.0", "a", ()), ("messages.1", "b", ())]
    begun = {"role": "assistant", "content": [tool_use_block("Bash", {"command": "ls"})]}
    assert said(begun) == [("messages.0", "command\nls", ())]


def test_results_of_an_upstream_s_own_tools_in_earlier_turns_are_judged() -> None:
    result = {"type": "mcp_tool_result", "tool_use_id": "a", "content": [text_block("found")]}
    answer = {"role": "assistant", "content": [text_block("I looked."), result]}
    assert said(answer, {"role": "user", "content": "Go on."}) == [
        ("messages.0.content.1", "found", ()),
        ("messages.1", "Go on.", ()),
    ]


def test_documents_are_read_and_files_are_named() -> None:
    text = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "body"}}
    parts = {"type": "document", "context": "C", "source": {"type": "content", "content": [text_block("part")]}}
    found = {"type": "search_result", "source": "https://a.test", "title": "S", "content": [text_block("hit")]}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    assert said(user(text, parts, found, pdf, IMAGE)) == [
        ("messages.0", "T\nbody\nC\npart\nS\nhit\nhttps://a.test", ("file", "image"))
    ]


@pytest.mark.parametrize("field", ["text", "data", "content", "title", "context", "stdout"])
def test_no_field_hides_a_text(field: str) -> None:
    block = {"type": "text", "text": "fine", field: "BAD"}
    assert "BAD" in said(user(block))[0][1]


def test_system_prompts_are_judged_where_that_is_configured() -> None:
    turn = {"role": "system", "content": "Be brief."}
    assert said(turn, user(text_block("a")), system="Be kind.") == [("messages.1", "a", ())]
    assert said(turn, user(text_block("a")), system=[text_block("Be kind.")], judged=True) == [
        ("system", "Be kind.", ()),
        ("messages.0", "Be brief.", ()),
        ("messages.1", "a", ()),
    ]


@given(json_values())
def test_turns_that_nobody_has_checked_are_read_all_the_same(value: Any) -> None:
    for message in (
        value,
        {"role": "user", "content": value},
        {"role": "user", "content": [value]},
        {"content": value},
    ):
        list(said_in({"messages": [message, message]}, system=True))
        list(said_in({"messages": [{"role": "assistant", "content": value}], "system": value}, system=True))


@given(create_requests())
def test_every_valid_request_is_read(request: Json) -> None:
    assert all(isinstance(each.text, str) for each in said_in(request, system=True))


def test_arguments_are_read_without_json_s_escapes() -> None:
    call = {"input": {"code": 'print("a")\nx = 1', "n": 3, "flags": [True, None, {"deep": "é"}]}}
    assert text_of_call(call) == 'code\nprint("a")\nx = 1\nn\n3\nflags\nTrue\ndeep\né'


def test_equal_texts_have_one_digest_wherever_they_stand_and_others_have_another() -> None:
    def digests(*texts: str) -> list[bytes]:
        request = {"messages": [{"role": "user", "content": text} for text in texts]}
        return [part.digest for part in parts_in(request, system=False, characters=10, overlap=2)[0]]

    assert digests("a", "b", "a") == [*digests("a"), *digests("b"), *digests("a")]
    assert len(set(digests("a", "b"))) == 2
    assert len(digests("c" * 27)) == 4
    assert digests(" ", "\ud800")  # a lone half is a text too


def test_of_very_many_images_not_all_are_named() -> None:
    request = {"messages": [user(IMAGE) for _ in range(MAX_UNREAD + 9)]}
    assert len(parts_in(request, system=False, characters=10, overlap=2)[1]) == MAX_UNREAD
