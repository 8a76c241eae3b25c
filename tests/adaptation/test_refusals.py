"""What refusals are read as, and above all what they are not: at least as many of the one as of the other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.adaptation.adaptations import (
    adaptations_for,
    native_adaptations_for,
)
from llama_stack_messages_provider.adaptation.refusals import read_refusal
from llama_stack_messages_provider.engines import ENGINES, Kind
from tests.adaptation.test_changes import FULL
from tests.strategies import json_values

type Json = dict[str, Any]

READ = [
    ("Unsupported parameter: 'max_tokens' is not supported with this model.", Kind.PARAMETER_UNKNOWN, "max_tokens"),
    ("Model grok-4.6 does not support parameter reasoningEffort.", Kind.PARAMETER_UNKNOWN, "reasoning_effort"),
    ("AsyncCompletions.create() got an unexpected keyword argument 'top_k'", Kind.PARAMETER_UNKNOWN, "top_k"),
    ('json: unknown field "top_k"', Kind.PARAMETER_UNKNOWN, "top_k"),
    ("unknown field `parallel_tool_calls`, expected one of `model`", Kind.PARAMETER_UNKNOWN, "parallel_tool_calls"),
    ("messages[1].reasoning_content: Extra inputs are not permitted", Kind.PARAMETER_UNKNOWN, "reasoning_content"),
    ("invalid temperature: only 0.6 is allowed for this model", Kind.PARAMETER_UNKNOWN, "temperature"),
    ("`temperature` is deprecated for this model.", Kind.PARAMETER_UNKNOWN, "temperature"),
    ('"llama3" does not support thinking', Kind.PARAMETER_UNKNOWN, "reasoning_effort"),
    ("Invalid value for 'temperature': 0.0", Kind.VALUE_BAD, "temperature"),
    ("temperature: Input should be less than or equal to 1", Kind.VALUE_BAD, "temperature"),
    ("Range of top_k should be [0, 100]", Kind.VALUE_BAD, "top_k"),
    (
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
        Kind.SOMETHING_MISSING,
        "reasoning_content",
    ),
    (
        "Function call is missing a thought_signature in functionCall parts.",
        Kind.SOMETHING_MISSING,
        "thought_signature",
    ),
    ("Provider returned error: This response_format type is unavailable now", Kind.RESPONSE_FORMAT, None),
]


@pytest.mark.parametrize(("said", "kind", "parameter"), READ, ids=[said[:60] for said, _, _ in READ])
def test_a_refusal_is_read(said: str, kind: Kind, parameter: str | None) -> None:
    read = read_refusal(400, {"error": {"message": said}})

    assert (read.kind, read.parameter) == (kind, parameter)


FIELDS: list[tuple[Json, Kind, str | None]] = [
    (
        {"error": {"message": "Nope.", "param": "top_k", "code": "unsupported_parameter"}},
        Kind.PARAMETER_UNKNOWN,
        "top_k",
    ),
    (
        {"error": {"message": "Nope.", "param": "messages[0].reasoning", "code": "unknown_parameter"}},
        Kind.PARAMETER_UNKNOWN,
        "reasoning",
    ),
    (
        {
            "error": {
                "message": "Unknown parameter: 'tools[0].function.temperature'.",
                "param": "tools[0].function.temperature",
                "code": "unknown_parameter",
            }
        },
        Kind.PARAMETER_UNKNOWN,
        "tools[0].function.temperature",
    ),
    (
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra inputs are not permitted"}]},
        Kind.PARAMETER_UNKNOWN,
        "user",
    ),
    (
        {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", "tools", 0, "function", "parameters", "temperature"],
                    "msg": "Extra inputs are not permitted",
                }
            ]
        },
        Kind.PARAMETER_UNKNOWN,
        "tools.0.function.parameters.temperature",
    ),
]


@pytest.mark.parametrize(("body", "kind", "parameter"), FIELDS)
def test_fields_that_say_it_count_most(body: Json, kind: Kind, parameter: str | None) -> None:
    read = read_refusal(400, body)

    assert (read.kind, read.parameter) == (kind, parameter)


NOT_UNDERSTOOD = [
    # Schemas and messages that mention parameters.
    "Invalid schema for function 'get_weather': In context=('properties', 'temperature'), array schema missing items.",
    "Invalid schema for function 'top_p': In context=(), schema must be an object.",
    "Invalid schema for function 'f': In context=('properties', 'user'), 'type' is missing.",
    "Invalid 'tools[0].function.name': string does not match pattern. Expected '^[a-zA-Z0-9_-]+$'.",
    "Invalid 'tools[0].function.parameters.temperature': unknown type",
    "tools.0.function.parameters.properties.temperature.type: Input should be a valid string",
    "tools[0].function.temperature is not permitted",
    "Missing required parameter: 'tools[0].function.name'.",
    "Missing required parameter: 'temperature'.",
    "Tool 'stop' not found in tools",
    "messages.0.content: Field required",
    "messages: at least one message is required",
    "Invalid 'messages[0].role': unknown value 'bot'. Supported values are: 'system', 'user', 'assistant'.",
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
    "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.",
    "Invalid value: 'function'. Supported values are: 'json_object' and 'text'.",
    # Of whom, and when.
    "model 'gpt-9' does not exist",
    "The model `temperature` does not exist or you do not have access to it.",
    "Your organization must be verified to stream this model.",
    "Rate limit: you used 100 tokens, the limit is 2000 a minute",
    "You exceeded your current quota, please check your plan and billing details.",
    "Insufficient Balance",
    "The engine is currently overloaded, please try again later",
    "internal error",
    "CUDA out of memory. Tried to allocate 2.00 GiB (max_tokens 4096)",
    # Of content.
    "invalid base64",
    "Invalid base64 image in user message",
    "The maximum number of images is 10, got 12",
    "Image size exceeds 20 MB",
    "The image is too large: 9000 > 8192 pixels",
    "Output blocked by content filtering policy",
    "Input data may contain inappropriate content.",
    "The response was filtered due to the prompt triggering content management policy.",
    # Words alone.
    "Reasoning is not supported by nobody",
    "top_k is great",
    "temperature",
    "stop",
    "unsupported",
    "bad request",
    "Invalid request",
    "max_tokens must be positive",
    "max_tokens: Input should be a valid integer",
    "The system is not supported on this hardware",
    "",
]
ASKED: Json = {
    **FULL,
    "max_tokens": 32000,
    "stop": ["x"],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "tool_choice": "required",
}
REQUEST: Json = {
    "model": "m",
    "max_tokens": 32000,
    "temperature": 0.5,
    "top_k": 4,
    "metadata": {"user_id": "u"},
    "messages": [{"role": "user", "content": "Hi"}],
}


@pytest.mark.parametrize("said", NOT_UNDERSTOOD)
@pytest.mark.parametrize("status", [400, 422])
def test_what_means_something_else_changes_nothing(said: str, status: int) -> None:
    read = read_refusal(status, {"error": {"message": said, "type": "invalid_request_error"}})

    assert list(adaptations_for(read, ASKED)) == []
    assert list(native_adaptations_for(read, REQUEST)) == []


@pytest.mark.parametrize("status", [401, 403, 408, 429])
def test_who_is_asking_or_how_often_is_no_matter_of_parameters(status: int) -> None:
    read = read_refusal(status, {"error": {"message": "Unsupported parameter: 'temperature'"}})

    assert read.kind in (Kind.CREDENTIALS, Kind.RATE)
    assert list(adaptations_for(read, ASKED)) == []


def test_more_is_not_understood_than_understood() -> None:
    assert len(NOT_UNDERSTOOD) >= len(READ)


def test_a_bad_value_is_left_out_once_and_a_parameter_that_nobody_knows_for_longer() -> None:
    (once,) = adaptations_for(read_refusal(400, "Invalid value for 'temperature': 0.0"), ASKED)
    (always,) = adaptations_for(read_refusal(400, "Unsupported parameter: 'temperature'"), ASKED)

    assert not once.lasting
    assert always.lasting
    assert once.apply(ASKED) == always.apply(ASKED)


@given(st.integers(400, 599), json_values() | st.dictionaries(st.sampled_from(["error", "message"]), json_values()))
def test_no_body_is_too_odd_to_read(status: int, body: Any) -> None:
    assert read_refusal(status, body).kind in Kind


WORDS = [row.sample for _, row in ENGINES.words()]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=20), max_size=4))
def test_no_mixture_of_words_breaks_a_change(words: list[str]) -> None:
    read = read_refusal(400, " ".join(words))

    for change in adaptations_for(read, ASKED):
        changed = change.apply(ASKED)
        assert changed["messages"]
        assert changed["model"] == "m"
