"""What refusals ask for, in the upstreams' own words, and what they do not."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.adaptation.adaptations import adaptations_for, native_adaptations_for
from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.changes import (
    CapMaxTokens,
    DropParameter,
    InsertAssistantTurn,
    MergeSystem,
    RenameParameter,
    RoundEffort,
    ShortIds,
    Translate,
)
from llama_stack_messages_provider.adaptation.refusals import read_refusal
from llama_stack_messages_provider.adaptation.room import FitWindow
from llama_stack_messages_provider.adaptation.schemas import RelaxStrict

type Json = dict[str, Any]

HI = {"role": "user", "content": "Hi"}


def params(*messages: Json, **fields: Any) -> Json:
    return {"model": "m", "messages": list(messages) or [HI], "max_tokens": 32000, **fields}


def change_for(said: Any, params: Json) -> Change | None:
    """The first change that a refusal asks for."""
    return next(adaptations_for(read_refusal(400, said), params), None)


def helps(said: Any, request: Json) -> bool:
    return Translate() in native_adaptations_for(read_refusal(400, said), request)


@dataclass
class Case:
    id: str
    said: str | Json | list[Json]
    """The upstream's text, or its body."""
    change: Change | None


FULL = params(
    {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."},
    HI,
    temperature=0.2,
    top_p=0.9,
    top_k=40,
    user="u-1",
    reasoning_effort="high",
    parallel_tool_calls=False,
    stream=True,
    stream_options={"include_usage": True, "continuous_usage_stats": True},
    chat_template_kwargs={"enable_thinking": True},
    thinking_token_budget=1024,
    continue_final_message=True,
    add_generation_prompt=False,
)


def extra_forbidden(*loc: str | int) -> Json:
    detail = {"type": "extra_forbidden", "loc": ["body", *loc], "msg": "Extra inputs are not permitted", "input": "x"}
    return {"object": "error", "message": {"detail": [detail]}, "type": "invalid_request_error"}


REFUSED_PARAMETERS = [
    Case(
        "OpenAI",
        "Unsupported parameter: 'reasoning_effort' is not supported with this model.",
        DropParameter("reasoning_effort"),
    ),
    Case("OpenAI, an argument", "Unrecognized request argument supplied: top_k", DropParameter("top_k")),
    Case(
        "OpenAI, a value",
        "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is "
        "supported.",
        DropParameter("temperature"),
    ),
    Case(
        "OpenAI, calls",
        "Invalid value for 'parallel_tool_calls': only allowed with tools",
        DropParameter("parallel_tool_calls", lasting=False),
    ),
    Case("Azure", "Unrecognized request argument supplied: stream_options", DropParameter("stream_options")),
    Case("Groq", "property 'top_k' is unsupported", DropParameter("top_k")),
    Case("Groq, an effort", "`reasoning_effort` must be one of `none` or `default`", DropParameter("reasoning_effort")),
    Case(
        "Groq, thinking of the history",
        "'messages.0' : for 'role:assistant' the following must be satisfied[('messages.0' : property "
        "'reasoning_content' is unsupported)]",
        DropParameter("reasoning_content"),
    ),
    Case("Mistral", extra_forbidden("reasoning_effort"), DropParameter("reasoning_effort")),
    Case("Mistral, a user", extra_forbidden("user"), DropParameter("user")),
    Case(
        "Mistral, thinking of the history",
        extra_forbidden("messages", 0, "assistant", "reasoning_content"),
        DropParameter("reasoning_content"),
    ),
    Case(
        "FastAPI, within stream_options",
        extra_forbidden("stream_options", "continuous_usage_stats"),
        DropParameter("continuous_usage_stats"),
    ),
    Case(
        "vLLM without a reasoning parser",
        "thinking_token_budget is set but reasoning_config is not configured",
        DropParameter("thinking_token_budget"),
    ),
    Case("xAI", "Model grok-4 does not support parameter reasoningEffort.", DropParameter("reasoning_effort")),
    Case("a user by name", "Unknown parameter: 'user'.", DropParameter("user")),
    Case("a template's variables", "chat_template_kwargs is not supported", DropParameter("chat_template_kwargs")),
    Case(
        "vLLM with a Mistral tokenizer",
        "chat_template is not supported for Mistral tokenizers.",
        DropParameter("chat_template_kwargs"),
    ),
    Case("a prefill", "Unknown field: continue_final_message", DropParameter("continue_final_message")),
]


@pytest.mark.parametrize("case", REFUSED_PARAMETERS, ids=lambda case: case.id)
def test_a_parameter_that_is_refused_is_left_out(case: Case) -> None:
    change = change_for((case.said), FULL)

    assert change == case.change


@pytest.mark.parametrize("case", REFUSED_PARAMETERS, ids=lambda case: case.id)
def test_a_change_is_not_offered_twice(case: Case) -> None:
    assert case.change is not None

    assert change_for((case.said), case.change.apply(FULL)) is None


UNRELATED = [
    "invalid base64",
    "Invalid base64 image in user message",
    "Unexpected role 'user' after role 'tool'",
    "Invalid 'messages[0].role': unknown value 'bot'. Supported values are: 'system', 'user', 'assistant'.",
    "Reasoning is not supported by nobody",
    "Invalid schema for function 'look': In context=(), 'additionalProperties' is required",
    "model 'gpt-9' does not exist",
    "top_k is great",
    "prompt is too long: 9000 tokens > 8192 maximum",
    "Rate limit: you used 100 tokens, the limit is 2000 a minute",
    "Invalid 'tools[0].function.name': string does not match pattern",
    "",
]


@pytest.mark.parametrize("said", UNRELATED)
def test_other_refusals_have_no_change(said: str) -> None:
    assert change_for(said, FULL) is None


def test_what_was_not_sent_is_no_change() -> None:
    assert change_for("Unrecognized request argument supplied: top_k", params()) is None


# --- the output limit ---

ROOM = [
    Case(
        "vLLM of 2025",
        "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 8192 "
        "tokens and your request has 300 input tokens (32000 > 8192 - 300).",
        CapMaxTokens(7892),
    ),
    Case(
        "vLLM of 2024",
        "This model's maximum context length is 6048 tokens. However, you requested 32568 tokens (568 in the messages, "
        "32000 in the completion). Please reduce the length of the messages or completion.",
        CapMaxTokens(5480),
    ),
    Case(
        # The count stops where both together exceed the window, so that it says nothing about the prompt.
        "vLLM of 2026",
        "This model's maximum context length is 40960 tokens. However, you requested 32000 output tokens and your "
        "prompt contains at least 8961 input tokens, for a total of at least 40961 tokens.",
        FitWindow(40960, least=8961),
    ),
    Case(
        "vLLM of 2026, before it counts",
        "max_completion_tokens=32000 cannot be greater than max_model_len=max_total_tokens=8192",
        FitWindow(8192),
    ),
    Case(
        "SGLang",
        "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of "
        "32300 tokens: 300 tokens from the input messages and 32000 tokens for the completion.",
        CapMaxTokens(7892),
    ),
    Case(
        "TGI",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 4000 `inputs` tokens and "
        "32000 `max_new_tokens`",
        CapMaxTokens(97),
    ),
    Case(
        "Anthropic",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease input length",
        CapMaxTokens(10000),
    ),
    Case(
        "OpenAI, a model's own limit",
        "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you provided "
        "32000.",
        CapMaxTokens(16384, of_model=True),
    ),
    Case(
        "Groq, a model's own limit",
        "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
        "`context_window` for this model",
        CapMaxTokens(8192, of_model=True),
    ),
    Case(
        "DeepSeek",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        CapMaxTokens(8192, of_model=True),
    ),
]


@pytest.mark.parametrize("case", ROOM, ids=lambda case: case.id)
def test_too_large_an_output_is_made_to_fit(case: Case) -> None:
    change = change_for({"error": {"message": case.said}}, params())

    assert change == case.change


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("room", "sent"), [(7892, 7892), (64000, 32000), (0, None)])
def test_the_limit_is_lowered_under_its_name(name: str, room: int, sent: int | None) -> None:
    given = {"model": "m", "messages": [HI], name: 32000}

    applied = CapMaxTokens(room).apply(given)

    assert applied == {"model": "m", "messages": [HI], **({name: sent} if sent else {})}


@pytest.mark.parametrize("case", ROOM, ids=lambda case: case.id)
def test_a_limit_that_fits_already_is_left_alone(case: Case) -> None:
    assert case.change is not None

    # Where only the window is known, having no limit is left.
    assert change_for(case.said, case.change.apply(params())) in (None, CapMaxTokens(0))


def test_a_prompt_that_is_too_long_by_itself_has_no_change() -> None:
    said = (
        "This model's maximum context length is 8192 tokens. However, you requested 0 output tokens and your prompt "
        "contains at least 8193 input tokens, for a total of at least 8193 tokens."
    )

    assert change_for(said, params()) is None


# --- other names ---


def test_a_limit_that_has_a_new_name_gets_it() -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."

    change = change_for(said, params())

    assert change == RenameParameter("max_tokens", "max_completion_tokens")
    assert change.apply(params()) == {"model": "m", "messages": [HI], "max_completion_tokens": 32000}


@pytest.mark.parametrize(
    "said",
    [
        "Unrecognized request argument supplied: max_completion_tokens",
        (extra_forbidden("max_completion_tokens")),
    ],
)
def test_a_limit_whose_new_name_is_unknown_gets_the_old_one(said: str) -> None:
    given = {"model": "m", "messages": [HI], "max_completion_tokens": 64}

    change = change_for(said, given)

    assert change == RenameParameter("max_completion_tokens", "max_tokens")
    assert change.apply(given) == {"model": "m", "messages": [HI], "max_tokens": 64}


# --- system messages ---

SYSTEM = {"role": "system", "content": "Now in French."}


@pytest.mark.parametrize(
    "said",
    [
        "System message must be at the beginning.",
        "Error: System message must be at the beginning and there must be only one system message",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "After the optional system message, conversation roles must alternate user and assistant roles.",
        "Unexpected role 'system' after role 'user'",
        "Expected last role User or Tool (or Assistant with prefix True) for serving but got system",
        "Unexpected message role.",
    ],
)
def test_a_template_that_takes_no_system_messages_later_on_gets_them_first(said: str) -> None:
    assert change_for(said, params(HI, SYSTEM, temperature=0.2)) == MergeSystem()
    assert change_for(said, params(SYSTEM, HI, temperature=0.2)) is None


def test_a_word_about_a_system_prompt_is_not_about_its_place() -> None:
    assert change_for("The system prompt is not valid UTF-8", params(HI, SYSTEM)) is None


# --- what follows the results of tools ---

CALLED = {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {}}]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "A"}
MISTRAL = (
    "Unexpected role 'user' after role 'tool'",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "After the optional system message, conversation roles must alternate user and assistant roles except for tool "
    "calls and results.",
)


@pytest.mark.parametrize("said", MISTRAL)
def test_a_template_that_wants_an_answer_to_each_result_gets_one(said: str) -> None:
    given = params(HI, CALLED, RESULT, RESULT, HI, CALLED, RESULT, HI)

    change = change_for(said, given)

    assert change == InsertAssistantTurn()
    assert change.lasting
    assert change.dropped(given) == []
    said_first = {"role": "assistant", "content": "Understood."}
    changed = change.apply(given)
    assert changed == params(HI, CALLED, RESULT, RESULT, said_first, HI, CALLED, RESULT, said_first, HI)
    assert change_for(said, changed) is None
    assert change.apply(params(HI)) == params(HI)


@pytest.mark.parametrize("said", MISTRAL)
def test_where_the_order_is_right_there_is_nothing_to_put_in(said: str) -> None:
    assert change_for(said, params(HI, CALLED, RESULT)) is None


@pytest.mark.parametrize("said", MISTRAL)
def test_a_native_endpoint_that_wants_one_is_left(said: str) -> None:
    assert helps(said, {"messages": [HI, HI]})
    assert not helps(said, {"messages": [HI]})


TOO_MANY_STOPS = (
    "2 validation errors:\n  {'type': 'string_type', 'loc': 'body.stop', 'msg': 'Input should be a valid string', "
    "'input': '<list of 5 items>'}\n  {'type': 'too_long', 'loc': 'body.stop', 'msg': 'List should have at most 4 "
    "items after validation, not 5', 'input': '<list of 5 items>'}"
)


def test_more_stop_sequences_than_vllm_takes_are_kept_here() -> None:
    """The text is cut at all of them, whichever are sent."""
    assert change_for(TOO_MANY_STOPS, params(HI, stop=[*"abcde"])) == DropParameter("stop", lasting=False)
    assert helps(TOO_MANY_STOPS.replace("body.stop", "body.stop_sequences"), {"messages": [HI]})


# --- ids of calls ---


@pytest.mark.parametrize(
    "said",
    [
        "Tool call id was toolu_01A09q90qw90lq917835lq9 but must be a-z, A-Z, 0-9, with a length of 9.",
        f"Tool call id was chatcmpl-tool-{'0' * 90} but must be a-z, A-Z, 0-9, with a length of 9.",
        "Tool call IDs should be alphanumeric strings with length 9!",
        "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 40, but got "
        "a string with length 45 instead.",
        "Invalid 'messages[2].tool_call_id': string too long. Expected a string with maximum length 40.",
    ],
)
def test_ids_that_a_model_does_not_take_become_ones_that_all_take(said: str) -> None:
    short = {**CALLED, "tool_calls": [{"id": "a1B2c3D4e", "type": "function", "function": {}}]}
    answer = {**RESULT, "tool_call_id": "a1B2c3D4e"}
    given = params(HI, short, answer, CALLED, RESULT)

    change = change_for(said, given)

    assert change == ShortIds()
    assert change.lasting
    assert change.dropped(given) == []
    *same, call, result = change.apply(given)["messages"]
    assert same == [HI, short, answer]
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert re.fullmatch("[a-zA-Z0-9]{9}", result["tool_call_id"])
    assert change.apply(given) == change.apply(change.apply(given))
    assert change_for(said, change.apply(given)) is None
    assert helps(said, {"messages": [HI]})


# --- efforts ---

LOW_TO_HIGH = ("low", "medium", "high")


@pytest.mark.parametrize(
    "said",
    [
        "Unsupported value: 'reasoning_effort' does not support 'none' with this model. Supported values are: 'low', "
        "'medium', and 'high'.",
        ({"detail": [{"loc": ["body", "reasoning_effort"], "msg": "Input should be 'low', 'medium' or 'high'"}]}),
        "`reasoning_effort` must be one of `low`, `medium`, or `high`",
    ],
)
@pytest.mark.parametrize(("wanted", "sent", "lost"), [("none", "low", ["thinking"]), ("xhigh", "high", [])])
def test_an_effort_that_a_model_has_not_becomes_the_nearest(said: str, wanted: str, sent: str, lost: list[str]) -> None:
    given = params(reasoning_effort=wanted)

    change = change_for(said, given)

    assert change == RoundEffort(LOW_TO_HIGH)
    assert change.lasting
    assert change.dropped(given) == lost
    assert change.apply(given) == params(reasoning_effort=sent)
    assert change_for(said, change.apply(given)) is None


def test_an_effort_that_a_model_has_is_kept() -> None:
    assert RoundEffort(LOW_TO_HIGH).apply(params(reasoning_effort="medium")) == params(reasoning_effort="medium")
    assert RoundEffort(LOW_TO_HIGH).apply(params()) == params()


# --- schemas ---

CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
OPEN = {**CLOSED, "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
MISSING = (
    "Invalid schema for response_format 'answer': In context=(), 'required' is required to be supplied and to be an "
    "array including every key in properties. Missing 'b'."
)


def with_schemas(form: Json, function: Json, *, strict: bool = True) -> Json:
    said = {"strict": True} if strict else {}
    return params(
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": form, **said}},
        tools=[{"type": "function", "function": {"name": "look", "parameters": function, **said}}],
    )


@pytest.mark.parametrize(
    "said",
    [
        MISSING,
        "Invalid schema for response_format 'answer': In context=('properties', 'a'), 'additionalProperties' is "
        "required to be supplied and to be false.",
        "Invalid schema for function 'look': In context=(), 'required' is required to be supplied and to be an array "
        "including every key in properties. Missing 'b'.",
        "invalid JSON schema for response_format: 'answer': /required: `required` is required to be supplied and to "
        "be an array including every key in properties",
        (extra_forbidden("response_format", "json_schema", "strict")),
    ],
)
def test_a_schema_that_is_refused_strictly_is_asked_for_without(said: str) -> None:
    change = change_for(said, with_schemas(OPEN, OPEN))

    assert change == RelaxStrict("open")
    assert change.lasting
    assert change.dropped(with_schemas(OPEN, OPEN)) == ["output_config.format.strict", "tools.look.strict"]
    assert change.apply(with_schemas(OPEN, OPEN)) == with_schemas(OPEN, OPEN, strict=False)


def test_a_schema_without_optional_properties_stays_strict() -> None:
    change = RelaxStrict("open")

    applied = change.apply(with_schemas(CLOSED, OPEN))

    assert applied["response_format"]["json_schema"]["strict"]
    assert "strict" not in applied["tools"][0]["function"]
    assert change.dropped(with_schemas(CLOSED, OPEN)) == ["tools.look.strict"]


def test_a_closed_schema_that_is_refused_all_the_same_is_loosened_once() -> None:
    said = "Invalid schema for response_format 'answer': In context=('properties', 'a'), 'minLength' is not permitted."

    change = change_for(said, with_schemas(CLOSED, CLOSED))

    assert change == RelaxStrict("all")
    assert not change.lasting
    assert change.apply(with_schemas(CLOSED, CLOSED)) == with_schemas(CLOSED, CLOSED, strict=False)


def test_a_schema_that_is_not_strict_has_no_change() -> None:
    assert change_for(MISSING, with_schemas(OPEN, OPEN, strict=False)) is None
    assert change_for(MISSING, params()) is None


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (CLOSED, True),
        ({"type": "string"}, True),
        ({"anyOf": [CLOSED, {"type": "null"}]}, True),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": CLOSED}}}, True),
        ({"type": "object"}, False),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({"anyOf": [CLOSED, OPEN]}, False),
        ({**CLOSED, "properties": {"a": {"type": "array", "items": OPEN}}}, False),
        ({**CLOSED, "$defs": {"x": OPEN}}, False),
    ],
)
def test_optional_properties_are_found_at_any_depth(schema: Json, strict: bool) -> None:
    applied = RelaxStrict("open").apply(with_schemas(schema, CLOSED))

    assert ("strict" in applied["response_format"]["json_schema"]) is strict


# --- applying ---


def test_a_change_changes_nothing_else() -> None:
    applied = DropParameter("top_k").apply(FULL)

    assert applied == {name: value for name, value in FULL.items() if name != "top_k"}


def test_a_part_of_the_stream_options_leaves_the_rest() -> None:
    applied = DropParameter("continuous_usage_stats").apply(FULL)

    assert applied["stream_options"] == {"include_usage": True}


def test_a_part_of_the_stream_options_is_not_made_where_there_is_no_stream() -> None:
    assert "stream_options" not in DropParameter("continuous_usage_stats").apply(params())


@pytest.mark.parametrize(
    ("dropped", "told"),
    [
        ("top_k", ["top_k"]),
        ("user", ["metadata.user_id"]),
        ("parallel_tool_calls", ["tool_choice.disable_parallel_tool_use"]),
        ("reasoning_effort", ["output_config.effort"]),
        ("stream_options", []),
        ("verbose", []),
    ],
)
def test_a_client_is_told_in_its_own_words_what_it_asked_for(dropped: str, told: list[str]) -> None:
    given = {**FULL, "reasoning_effort": "high", "parallel_tool_calls": False, "user": "u", "top_k": 1, "verbose": True}
    assert DropParameter(dropped).dropped(given) == told
    assert DropParameter(dropped).dropped(params()) == []


def test_thinking_leaves_every_message() -> None:
    assert DropParameter("reasoning_content").apply(FULL)["messages"] == [{"role": "assistant", "content": "Yes"}, HI]


def test_a_prefill_goes_as_a_whole() -> None:
    applied = DropParameter("continue_final_message").apply(FULL)

    assert not applied.keys() & {"continue_final_message", "add_generation_prompt"}


@given(st.text(max_size=60), st.sampled_from(["system", "user", "max_tokens", "reasoning", "unsupported", "tokens"]))
def test_no_message_is_too_odd(before: str, word: str) -> None:
    change = change_for(f"{before}{word}", FULL)

    assert change is None or change.apply(FULL) != FULL


# --- what engines want back ---


def test_calls_of_other_models_get_the_signature_that_says_so() -> None:
    signed = {"id": "b", "extra_content": {"google": {"thought_signature": "s"}}}
    given = params(HI, {"role": "assistant", "tool_calls": [{"id": "a"}, signed]}, RESULT)

    change = change_for("Function call is missing a thought_signature in functionCall parts.", given)

    assert change is not None
    assert not change.lasting
    first, second = change.apply(given)["messages"][1]["tool_calls"]
    assert first["extra_content"]["google"]["thought_signature"] == "skip_thought_signature_validator"
    assert second == signed


@pytest.mark.parametrize(
    ("content", "merged"),
    [("Hi", "Be brief.\n\nHi"), ([{"type": "text", "text": "Hi"}], "Be brief.\n\nHi")],
)
def test_a_model_without_a_system_is_told_by_its_user(content: Any, merged: str) -> None:
    given = params({"role": "system", "content": "Be brief."}, {"role": "user", "content": content})

    change = change_for("System role not supported", given)

    assert change is not None
    assert change.apply(given)["messages"] == [{"role": "user", "content": merged}]
    assert change_for("System role not supported", change.apply(given)) is None


def test_a_keyword_is_left_out_and_a_property_of_its_name_is_not() -> None:
    word = {"type": "string", "pattern": "^a", "format": "date"}
    schema = {"type": "object", "properties": {"pattern": word, "format": {"type": "string"}}, "required": ["pattern"]}
    given = params(tools=[{"type": "function", "function": {"name": "Grep", "parameters": schema}}])

    change = change_for("Failed to initialize samplers: failed to parse grammar", given)

    assert change is not None
    assert not change.lasting
    assert change.dropped(given) == ["tools.Grep.input_schema.format", "tools.Grep.input_schema.pattern"]
    kept = change.apply(given)["tools"][0]["function"]["parameters"]
    assert kept == {**schema, "properties": {"pattern": {"type": "string"}, "format": {"type": "string"}}}
    assert change_for("Failed to parse grammar", change.apply(given)) is None
