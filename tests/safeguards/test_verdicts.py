"""Verdicts as clients read them: what a classifier did not say clearly lets nothing through."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.errors import (
    InvalidRequestError,
    MessagesError,
    OverloadedError,
    UpstreamTimeoutError,
)
from llama_stack_messages_provider.safeguards.verdicts import (
    NOT_FLAGGED,
    asked_types,
    available,
    flagged,
    read_verdict,
    reason_of,
    safeguard_results,
    unavailable,
)
from tests.support.wire import anthropic_message, text_block, thinking_block

FINE = '{"explanation": "It lists files.", "outcome": "not_flagged"}'


def said(text: str, **fields: Any) -> Any:
    return read_verdict({**anthropic_message(text), **fields})


@pytest.mark.parametrize("text", [FINE, f"\n {FINE}\n", f"```json\n{FINE}\n```", f"```\n{FINE}```"])
def test_a_clear_answer_is_read(text: str) -> None:
    assert said(text) == NOT_FLAGGED


def test_thinking_is_not_the_answer() -> None:
    content = [thinking_block('{"outcome": "flagged"}'), text_block(FINE)]
    assert read_verdict({"content": content, "stop_reason": "end_turn"}) == NOT_FLAGGED


@pytest.mark.parametrize(
    ("explanation", "told"),
    [('"It deletes."', "It deletes."), ("7", "without saying why"), ('"  "', "without saying why")],
)
def test_a_flag_counts_whatever_its_explanation_is(explanation: str, told: str) -> None:
    verdict = said(f'{{"outcome": "flagged", "explanation": {explanation}}}')
    assert verdict["outcome"] == "flagged"
    assert told in verdict["explanation"]
    assert len(said(f'{{"outcome": "flagged", "explanation": "{"x" * 5000}"}}')["explanation"]) == 600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not_flagged",
        '"not_flagged"',
        '["not_flagged"]',
        '{"outcome": "not flagged"}',
        '{"outcome": ["not_flagged"]}',
        '{"outcome": true}',
        '{"verdict": "not_flagged"}',
        '{"outcome": "flagged", "outcome": "not_flagged"}',
        f"The call says {FINE}",
        f"{FINE}\n{FINE}",
        f"```json\n{FINE}\n```\n```json\n{FINE}\n```",
        FINE[:-1],
        FINE + " " * 10 + "but",
        "[" * 5000,
        FINE.replace("files", "x" * 20_000),
    ],
)
def test_an_answer_that_is_not_clear_is_no_verdict(text: str) -> None:
    assert said(text) == unavailable("error")


@given(st.text())
def test_no_text_but_the_one_object_lets_a_call_through(text: str) -> None:
    assert said(text) == unavailable("error")


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("refusal", "refused"),
        ("max_tokens", "truncated"),
        ("model_context_window_exceeded", "input_too_long"),
    ],
)
def test_an_answer_that_did_not_come_to_its_end_is_no_verdict(stop: str, reason: str) -> None:
    assert said(FINE, stop_reason=stop) == unavailable(reason)


def too_long(kind: Kind) -> MessagesError:
    error = InvalidRequestError("prompt is too long: 9000 tokens > 8192 maximum")
    error.refusal = Refusal(kind, error.message)
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamTimeoutError(), "timeout"),
        (too_long(Kind.PROMPT_TOO_LONG), "input_too_long"),
        (too_long(Kind.VALUE_BAD), "error"),
        (OverloadedError(), "error"),
    ],
)
def test_a_failure_has_a_reason(error: MessagesError, reason: str) -> None:
    assert reason_of(error) == reason


def test_of_two_calls_with_one_id_the_worse_verdict_counts() -> None:
    bad, late = flagged("It deletes."), unavailable("timeout")
    for first, second, worse in ((NOT_FLAGGED, bad, bad), (bad, late, bad), (late, NOT_FLAGGED, late)):
        assert available([("a", first), ("a", second)])["tool_uses"] == {"a": worse}
        assert available([("a", second), ("a", first)])["tool_uses"] == {"a": worse}


def test_safeguards_of_other_types_are_told_to_be_unsupported() -> None:
    types = asked_types([{"type": "newer"}, {"type": "dangerous_tool_use"}, {"type": "newer"}])
    assert safeguard_results(types, available([])) == [
        {"type": "newer", "status": {"type": "unsupported"}},
        {"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": {}}},
    ]


@pytest.mark.parametrize("given", [None, [], [7, None, [], {}, {"type": 7}, {"type": ""}, {"type": "x" * 65}]])
def test_entries_that_cannot_be_read_count_for_nothing(given: Any) -> None:
    assert asked_types(given) == []


def test_types_are_bounded() -> None:
    assert len(asked_types([{"type": str(n)} for n in range(1000)])) == 8


@pytest.mark.parametrize("given", ["x", 7, {}, True])
def test_what_is_no_array_is_refused_by_name(given: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^safeguards: Input should be an array$"):
        asked_types(given)
