"""Thinking and effort as each engine's reasoning controls."""

from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from llama_stack_api import OpenAIChatCompletionRequestWithExtraBody

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.translation.thinking import EFFORTS, Thinking, reasoning_params, thinking_in_answer
from tests.translation.helpers import system, translated, user

type Json = dict[str, Any]

ON = {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}}
OFF = {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}


def effort(name: str) -> Json:
    return {"reasoning_effort": name}


@dataclass
class Case:
    id: str
    thinking: Json | None
    effort: str | None
    sent: dict[str, Json] = field(default_factory=dict)
    """By dialect."""


CASES = [
    Case(
        "nothing is asked for",
        None,
        None,
        {"vllm": {}, "sglang": {}, "llama.cpp": {}, "ollama": {}, "openai": {}, "anthropic": {}, "unknown": {}},
    ),
    Case(
        "a budget",
        {"type": "enabled", "budget_tokens": 2048},
        None,
        {
            "vllm": {**ON, "thinking_token_budget": 2048, **effort("low")},
            "sglang": {**ON, **effort("low")},
            "llama.cpp": {**ON, "thinking_budget_tokens": 2048, **effort("low")},
            "ollama": effort("low"),
            "openai": effort("low"),
            "unknown": effort("low"),
        },
    ),
    Case(
        "a middling budget",
        {"type": "enabled", "budget_tokens": 16384},
        None,
        {"vllm": {**ON, "thinking_token_budget": 16384, **effort("medium")}, "openai": effort("medium")},
    ),
    Case(
        "a large budget",
        {"type": "enabled", "budget_tokens": 31999},
        None,
        {"vllm": {**ON, "thinking_token_budget": 31999, **effort("high")}, "openai": effort("high")},
    ),
    Case(
        "a budget below Anthropic's own least",
        {"type": "enabled", "budget_tokens": 0},
        None,
        {"vllm": {**ON, "thinking_token_budget": 0, **effort("low")}, "openai": effort("low")},
    ),
    Case(
        "an effort says more than a budget",
        {"type": "enabled", "budget_tokens": 2048},
        "high",
        {"vllm": {**ON, "thinking_token_budget": 2048, **effort("high")}, "openai": effort("high")},
    ),
    Case(
        "adaptive",
        {"type": "adaptive", "display": "omitted"},
        None,
        {"vllm": ON, "sglang": ON, "llama.cpp": ON, "ollama": {}, "openai": {}, "unknown": {}},
    ),
    Case(
        "adaptive with an effort",
        {"type": "adaptive"},
        "medium",
        {"vllm": {**ON, **effort("medium")}, "ollama": effort("medium"), "openai": effort("medium")},
    ),
    Case(
        "an effort alone",
        None,
        "low",
        {"vllm": effort("low"), "llama.cpp": effort("low"), "openai": effort("low"), "unknown": effort("low")},
    ),
    Case(
        "an effort that few engines have",
        None,
        "xhigh",
        {"vllm": effort("high"), "sglang": effort("high"), "openai": effort("xhigh"), "unknown": effort("high")},
    ),
    Case(
        "an effort that the inference API does not take",
        None,
        "max",
        {"vllm": effort("high"), "sglang": effort("high"), "openai": effort("xhigh"), "unknown": effort("high")},
    ),
    Case(
        "disabled",
        {"type": "disabled"},
        None,
        {
            "vllm": OFF,
            "sglang": OFF,
            "llama.cpp": OFF,
            "ollama": effort("none"),
            "openai": effort("none"),
            "unknown": effort("none"),
            "anthropic": {},
        },
    ),
    Case("disabled, whatever the effort", {"type": "disabled"}, "high", {"vllm": OFF, "openai": effort("none")}),
    Case("between tools is off too", {"type": "between_tools"}, None, {"vllm": OFF, "openai": effort("none")}),
]


@pytest.mark.parametrize(
    ("case", "dialect"),
    [(case, name) for case in CASES for name in case.sent],
    ids=lambda each: getattr(each, "id", each),
)
def test_thinking_is_put_in_the_engines_terms(case: Case, dialect: str) -> None:
    fields: Json = {"thinking": case.thinking} if case.thinking else {}
    if case.effort:
        fields["output_config"] = {"effort": case.effort}

    translation = translated(dialect=dialect, **fields)

    reasoning = ("chat_template_kwargs", "thinking_token_budget", "thinking_budget_tokens", "reasoning_effort")
    assert {k: v for k, v in translation.params.items() if k in reasoning} == case.sent[dialect]
    assert translation.dropped == []


def test_the_host_takes_every_effort_that_a_dialect_asks_for() -> None:
    annotation = OpenAIChatCompletionRequestWithExtraBody.model_fields["reasoning_effort"].annotation
    taken = {value for part in get_args(annotation) for value in get_args(part)}

    for dialect in (engine.chat for engine in ENGINES.values()):
        for wanted in EFFORTS:
            assert reasoning_params(None, wanted, dialect).get("reasoning_effort", "none") in taken
        assert set(dialect.efforts) <= taken


@pytest.mark.parametrize(
    ("given", "dialect", "dropped"),
    [
        ({"output_config": {"effort": "heroic"}}, "openai", "output_config.effort"),
        ({"output_config": {"effort": "high"}}, "anthropic", "output_config.effort"),
        ({"thinking": {"type": "adaptive"}}, "anthropic", "thinking"),
    ],
)
def test_what_an_engine_cannot_be_told_is_named(given: Json, dialect: str, dropped: str) -> None:
    translation = translated(dialect=dialect, **given)

    assert translation.dropped == [dropped]
    assert set(translation.params) <= {"model", "messages", "max_tokens", "max_completion_tokens"}
    with pytest.raises(InvalidRequestError, match=f"^{dropped}: "):
        translated(dialect=dialect, options={"strict": True}, **given)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("Hi")], "low"),
        ([user("Hi"), system("!", output_config={"effort": "high"})], "high"),
        ([user("Hi"), {"role": "system", "output_config": {"effort": "high"}}], "high"),
        ([user("Hi"), system("!", output_config={"effort": "high"}), system("?", output_config={})], "high"),
        (
            [
                user("Hi"),
                system("!", output_config={"effort": "high"}),
                user("?"),
                system("!", output_config={"effort": "medium"}),
            ],
            "medium",
        ),
    ],
    ids=["the request's", "a message's", "one without words", "nothing sets nothing", "the last one"],
)
def test_the_effort_that_was_set_last_holds(messages: list[Json], expected: str) -> None:
    assert translated(*messages, output_config={"effort": "low"}).params["reasoning_effort"] == expected


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ({}, "hidden"),
        ({"thinking": None, "tools": []}, "hidden"),
        ({"tools": [{"name": "look"}]}, "shown"),
        ({"thinking": {"type": "adaptive"}}, "shown"),
        ({"thinking": {"type": "adaptive", "display": "summarized"}}, "shown"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "updates"}}, "shown"),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, "omitted"),
        ({"thinking": {"type": "disabled"}}, "hidden"),
        ({"thinking": {"type": "disabled"}, "tools": [{"name": "look"}]}, "hidden"),
    ],
)
def test_thinking_is_in_an_answer_where_it_was_asked_for_or_has_to_come_back(request_: Json, answer: Thinking) -> None:
    assert thinking_in_answer(request_) == answer
