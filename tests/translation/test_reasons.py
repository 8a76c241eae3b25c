"""Why a turn ended, in order of precedence, and what it cost."""

from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from anthropic.types import StopReason as SDKStopReason
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.chat_completion import Choice

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.translation.calls import ToolCallAccumulator, parse_arguments
from llama_stack_messages_provider.translation.reasons import (
    FINISH_TO_STOP,
    Stop,
    StopReason,
    finished_choice,
    stop_of,
    usage_of,
)
from tests.strategies import json_objects, json_values

type Json = dict[str, Any]

WHOLE, CUT = '{"at":"sky"}', '{"at":"s'
REFUSED = Stop("refusal", details={"type": "refusal", "category": None, "explanation": None})


@dataclass
class Case:
    id: str
    finish: str | None
    stop: Stop
    choice: Json = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    """Of the calls that were sent."""
    refused: bool = False
    cut: str | None = None
    max_tokens: int | None = 64
    output_tokens: int = 10
    window: int | None = None


PLAIN = [
    Case("stop", "stop", Stop("end_turn")),
    Case("nothing said", None, Stop("end_turn")),
    Case("a word for the end", "eos_token", Stop("end_turn")),
    Case("another service's word for the end", "STOP", Stop("end_turn")),
    Case("Anthropic's word for the end", "end_turn", Stop("end_turn")),
    Case("an unknown word makes no whole answer", "other", Stop("max_tokens")),
    Case("an unknown word after calls", "other", Stop("tool_use"), arguments=[WHOLE]),
    Case("Gemini's word for a limit", "MAX_TOKENS", Stop("max_tokens")),
    Case("Anthropic's word for a limit", "max_tokens", Stop("max_tokens")),
    Case("Gemini's word for a filter", "SAFETY", REFUSED),
    Case("Gemini's word for what is not its own", "RECITATION", REFUSED),
    Case("Anthropic's word for a refusal", "refusal", REFUSED),
    Case("tool_calls", "tool_calls", Stop("tool_use"), arguments=[WHOLE]),
    Case("function_call", "function_call", Stop("tool_use"), arguments=[WHOLE]),
    Case("tool_calls without a call", "tool_calls", Stop("end_turn")),
    Case("length", "length", Stop("max_tokens"), output_tokens=64),
    Case("content_filter", "content_filter", REFUSED),
    Case("a refusal in words", "stop", REFUSED, refused=True),
    Case("Z.ai's word for a filter", "sensitive", REFUSED),
]

WINDOW = [
    Case("nobody knows the window", "length", Stop("max_tokens"), output_tokens=10),
    Case("prompt and output fill it", "length", Stop("model_context_window_exceeded"), window=30),
    Case("one token less is a way of counting", "length", Stop("model_context_window_exceeded"), window=31),
    Case("there was room", "length", Stop("max_tokens"), window=32),
    Case("both limits are reached", "length", Stop("max_tokens"), output_tokens=64, window=84),
    Case("a count of none", "length", Stop("max_tokens"), output_tokens=0, window=64),
    Case("nothing was asked for", "length", Stop("max_tokens"), max_tokens=None),
    Case("Mistral says so", "model_length", Stop("model_context_window_exceeded"), output_tokens=64),
    Case("Z.ai says so", "model_context_window_exceeded", Stop("model_context_window_exceeded"), output_tokens=0),
]

SEQUENCES = [
    Case("vLLM says the sequence", "stop", Stop("stop_sequence", "END"), {"stop_reason": "END"}),
    Case("SGLang says the sequence", "stop", Stop("stop_sequence", "END"), {"matched_stop": "END"}),
    Case("llama.cpp says the sequence", "stop", Stop("stop_sequence", "END"), {"stopping_word": "END"}),
    Case("a token id is no sequence", "stop", Stop("end_turn"), {"stop_reason": 128009, "matched_stop": 2}),
    Case("a sequence that nobody asked for", "stop", Stop("end_turn"), {"stop_reason": "</s>"}),
    Case("null", "stop", Stop("end_turn"), {"stop_reason": None}),
    Case("an empty word", "stop", Stop("end_turn"), {"stopping_word": ""}),
    Case("the text was cut here", "length", Stop("stop_sequence", "\n\n"), cut="\n\n"),
    Case("the upstream fails after the cut", "error", Stop("stop_sequence", "\n\n"), cut="\n\n"),
    Case("a whole call before the cut", "stop", Stop("tool_use"), {}, [WHOLE], cut="\n\n"),
]

PRECEDENCE = [
    Case("a refusal before all", "content_filter", REFUSED, {"stop_reason": "END"}, [WHOLE]),
    Case("a limit before a call, which may be cut off", "length", Stop("max_tokens"), {}, [CUT], output_tokens=64),
    Case("a limit before a sequence", "length", Stop("max_tokens"), {"stop_reason": "END"}, output_tokens=64),
    Case("a whole call before a sequence", "stop", Stop("tool_use"), {"stop_reason": "END"}, [WHOLE]),
    Case("a call without arguments is whole", "stop", Stop("tool_use"), {"stop_reason": "END"}, [""]),
    Case("a sequence that cut a call off", "stop", Stop("stop_sequence", "END"), {"stop_reason": "END"}, [WHOLE, CUT]),
    Case("a call, whatever the upstream calls it", "stop", Stop("tool_use"), arguments=[WHOLE]),
    Case("a call that is cut off for no known reason", "stop", Stop("tool_use"), arguments=[CUT]),
]


def book_of(arguments: list[str]) -> ToolCallAccumulator:
    book = ToolCallAccumulator("toolu_")
    for index, text in enumerate(arguments):
        book.add({"index": index, "id": f"call_{index}", "function": {"name": "look", "arguments": text}})
    return book


@pytest.mark.parametrize("case", PLAIN + WINDOW + SEQUENCES + PRECEDENCE, ids=lambda case: case.id)
def test_a_turn_ends_for_the_weightiest_reason(case: Case) -> None:
    stop = stop_of(
        case.finish,
        case.choice,
        calls=book_of(case.arguments),
        refused=case.refused,
        cut=case.cut,
        stop_sequences=["", "END", "\n\n"],
        max_tokens=case.max_tokens,
        window=case.window,
        usage=usage_of({"prompt_tokens": 20, "completion_tokens": case.output_tokens}),
    )

    assert stop == case.stop


def test_llama_cpp_tells_the_sequence_beside_the_choice() -> None:
    choice = {"index": 0, "finish_reason": "stop"}

    assert finished_choice(choice, {"__verbose": {"stopping_word": "END"}}) == {**choice, "stopping_word": "END"}
    assert finished_choice(choice, {"__verbose": None}) == finished_choice(choice, {}) == choice


MALFORMED = ["function_call_filter: MALFORMED_FUNCTION_CALL", "malformed_function_call", "MALFORMED_FUNCTION_CALL"]


@pytest.mark.parametrize("finish", ["abort", "error", "network_error", "insufficient_system_resource", *MALFORMED])
def test_an_engine_that_gave_up_is_an_error(finish: str) -> None:
    with pytest.raises(UpstreamError, match=f"finish_reason: {finish}") as failure:
        stop_of(
            finish,
            {},
            calls=book_of([]),
            refused=False,
            cut=None,
            stop_sequences=(),
            max_tokens=None,
            window=None,
            usage=usage_of(None),
        )

    assert failure.value.status == 502


def test_every_finish_reason_of_openai_is_known() -> None:
    finish_reasons = get_args(Choice.model_fields["finish_reason"].annotation)

    assert set(finish_reasons) <= set(FINISH_TO_STOP)


def test_every_stop_reason_is_one_of_anthropics() -> None:
    assert set(get_args(StopReason)) == set(get_args(SDKStopReason))


# --- usage ---


@dataclass
class Usage:
    id: str
    given: Json | None
    counted: tuple[int, int, int]
    """Input, cached input, output."""
    thinking: int | None = None


USAGES = [
    Usage("nothing", None, (0, 0, 0)),
    Usage("plain", {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}, (12, 0, 3)),
    Usage(
        "cached tokens are apart",
        {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}},
        (4, 8, 3),
    ),
    Usage(
        "never more cached than there is",
        {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 64}},
        (0, 12, 3),
    ),
    Usage(
        "details of null",
        {"prompt_tokens": 1, "prompt_tokens_details": None, "completion_tokens_details": None},
        (1, 0, 0),
    ),
    Usage("counts of null", {"prompt_tokens": None, "completion_tokens": None}, (0, 0, 0)),
    Usage("counts below zero", {"prompt_tokens": -1, "completion_tokens": -1}, (0, 0, 0)),
    Usage(
        "thinking is part of the output",
        {
            "prompt_tokens": 1,
            "completion_tokens": 9,
            "completion_tokens_details": {"reasoning_tokens": 7},
        },
        (1, 0, 9),
        thinking=7,
    ),
    Usage(
        "SGLang tells it beside the details",
        {"prompt_tokens": 1, "completion_tokens": 9, "total_tokens": 10, "reasoning_tokens": 7},
        (1, 0, 9),
        thinking=7,
    ),
    Usage(
        "xAI counts it apart, and the total says so",
        {
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        },
        (32, 0, 103),
        thinking=94,
    ),
]


@pytest.mark.parametrize("case", USAGES, ids=lambda case: case.id)
def test_usage_is_counted_as_anthropic_does(case: Usage) -> None:
    usage = usage_of(case.given)

    details = {} if case.thinking is None else {"output_tokens_details": {"thinking_tokens": case.thinking}}
    assert usage == {
        "input_tokens": case.counted[0],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": case.counted[1],
        "output_tokens": case.counted[2],
        "server_tool_use": None,
        **details,
    }


@given(st.fixed_dictionaries({}, optional={name: json_values() for name in ("prompt_tokens", "completion_tokens")}))
def test_no_usage_is_too_odd_to_count(usage: Json) -> None:
    counted = usage_of({**usage, "prompt_tokens_details": usage, "completion_tokens_details": usage})

    assert all(isinstance(counted[name], int) and counted[name] >= 0 for name in ("input_tokens", "output_tokens"))


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "input"),
    [
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ("null", {}),
        ('{"at":"sky"}', {"at": "sky"}),
        ('{"at":"sky","n":', {"at": "sky"}),
        ('{"at":"s', {}),
        ("[1]", {"_unparsed": "[1]"}),
        ("look at the sky", {"_unparsed": "look at the sky"}),
        ("{'at': 'sky'}", {"_unparsed": "{'at': 'sky'}"}),
    ],
)
def test_an_input_is_an_object_whatever_the_model_wrote(arguments: str, input: Json) -> None:
    assert parse_arguments(arguments) == input


@given(json_objects())
def test_arguments_that_are_json_are_whole(input: Json) -> None:
    import json

    arguments = json.dumps(input)

    assert book_of([arguments]).are_whole
    assert not book_of([arguments[:-1]]).are_whole
    assert parse_arguments(arguments) == input
