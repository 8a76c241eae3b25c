"""A whole completion to a message."""

from typing import Any

import pytest
from anthropic.types import Message as SDKMessage

from llama_stack_messages_provider.rewriting.call_ids import decode_call_id
from llama_stack_messages_provider.translation.response import to_message
from tests.support.answers import complaints
from tests.support.wire import call, chat_completion, completion_usage

type Json = dict[str, Any]

DIRECT = {"caller": {"type": "direct"}}


def message_of(completion: Json, **options: Any) -> Json:
    message = to_message(completion, message_id="msg_1", model="claude-x", **options)
    assert complaints("Message", message) == []
    SDKMessage.model_validate(message)
    return message


def test_a_message_has_every_field_that_the_api_has() -> None:
    assert message_of(chat_completion("Hello", usage=completion_usage(11, 5, cached_tokens=8))) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Hello", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 8,
            "output_tokens": 5,
            "cache_creation": None,
            "inference_geo": None,
            "server_tool_use": None,
            "service_tier": None,
        },
        "container": None,
    }


def test_thinking_comes_before_text_and_text_before_calls() -> None:
    completion = chat_completion("Looking.", reasoning_content="Hm.", tool_calls=[call("look", {"at": "sky"}, id="a")])

    message = message_of(completion, sign=lambda thinking: f"signed:{thinking}")

    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "signed:Hm."},
        {"type": "text", "text": "Looking.", "citations": None},
        {"type": "tool_use", "id": "a", "name": "look", "input": {"at": "sky"}, **DIRECT},
    ]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_has_two_names(field: str) -> None:
    message = message_of(chat_completion("Yes", message={field: "Hm."}))

    assert message["content"][0]["thinking"] == "Hm."


def test_content_in_parts_is_thinking_and_text() -> None:
    """Mistral's, whose models that reason answer so."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm, "}, {"type": "text", "text": "yes."}]},
        {"type": "text", "text": "Paris"},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": "."},
    ]

    message = message_of(chat_completion("x", message={"content": parts}), sign=len_of)

    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm, yes.", "signature": "8"},
        {"type": "text", "text": "Paris.", "citations": None},
    ]


def test_thinking_that_is_not_to_be_shown_leaves_its_signature() -> None:
    message = message_of(chat_completion("Yes", reasoning_content="Hm."), thinking="omitted", sign=len_of)

    assert message["content"][0] == {"type": "thinking", "thinking": "", "signature": "0{'text': 'Hm.'}"}


def len_of(thinking: str, carried: Any = "") -> str:
    return f"{len(thinking)}{carried}"


@pytest.mark.parametrize("content", [None, "", [], 3])
def test_an_answer_without_words_has_no_content(content: Any) -> None:
    assert message_of(chat_completion("x", message={"content": content}))["content"] == []


def test_a_refusal_is_text_and_says_what_it_is() -> None:
    message = message_of(chat_completion("x", message={"content": None, "refusal": "No."}))

    assert message["content"] == [{"type": "text", "text": "No.", "citations": None}]
    assert message["stop_reason"] == "refusal"
    assert message["stop_details"] == {"type": "refusal", "category": None, "explanation": None}


def test_ids_that_are_missing_or_taken_are_made() -> None:
    calls = [call("look", id="a"), {**call("look"), "id": None}, call("count", id="a"), call("count", id="a/b")]

    message = message_of(chat_completion(tool_calls=calls))

    *ids, carrying = [block["id"] for block in message["content"]]
    assert ids == ["a", "toolu_1_1", "toolu_1_2"]
    assert decode_call_id(carrying, "") == ("a/b", {})


def test_an_id_that_is_a_number_is_taken_for_its_digits() -> None:
    message = message_of(chat_completion(tool_calls=[{**call("look"), "id": 7}]))

    assert message["content"][0]["id"] == "7"


def test_arguments_that_come_parsed_are_taken() -> None:
    made = {"id": "a", "type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}

    assert message_of(chat_completion(tool_calls=[made]))["content"][0]["input"] == {"at": "sky"}


def test_the_first_choice_is_the_answer() -> None:
    completion = chat_completion("First")
    completion["choices"].append({**chat_completion("Second")["choices"][0], "index": 1})

    assert message_of(completion)["content"][0]["text"] == "First"


def test_the_matched_stop_sequence_is_told() -> None:
    completion = chat_completion("One, two", choice={"stop_reason": "three"})

    message = message_of(completion, stop_sequences=["three"])

    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "three")


@pytest.mark.parametrize("choices", [[], None])
def test_a_completion_without_choices_cannot_be_used(choices: Any) -> None:
    with pytest.raises(ValueError, match="no choices"):
        to_message({"choices": choices}, message_id="msg_1", model="claude-x")


def test_a_choice_without_a_message_is_an_empty_answer() -> None:
    assert message_of({"choices": [{"finish_reason": "stop", "message": None}]})["content"] == []
