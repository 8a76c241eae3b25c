"""What a window leaves for an answer, by an estimate of the prompt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.adaptation.changes import CapMaxTokens
from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.adaptation.refusals import Refusal, read_refusal
from llama_stack_messages_provider.adaptation.room import FitWindow, learned_window, may_exceed
from llama_stack_messages_provider.engines import Kind

SCOPE = ("http://upstream", "m")
ROOM = (
    "maximum context length is 6048 tokens. However, you requested 32568 tokens (568 in the messages, 32000 in the "
    "completion)"
)


def asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 32_000, **fields}


@pytest.mark.parametrize(("window", "asked"), [(32_768, 32_000), (40_960, 32_000), (141_000, 128_000)])
def test_a_first_request_of_an_agent_fits(window: int, asked: int) -> None:
    request = asking("word " * 10_000, max_tokens=asked)

    fitted = FitWindow(window).apply(request)["max_tokens"]

    assert window // 3 < fitted < asked
    assert fitted + 13_000 <= window


@given(text=st.text(max_size=400), times=st.integers(1, 500), asked=st.integers(1, 200_000))
def test_the_limit_never_grows_and_is_never_nothing(text: str, times: int, asked: int) -> None:
    fitted = FitWindow(8192).apply(asking(text * times, max_tokens=asked))["max_tokens"]

    assert 1 <= fitted <= asked


def test_what_fits_is_left_alone() -> None:
    request = asking("Hello", max_tokens=1000)

    assert FitWindow(8192).apply(request) == request


def test_a_long_conversation_keeps_the_answer_that_fits() -> None:
    """The prompt has some 114,000 tokens by the estimate, and fewer in truth."""
    long = asking("word " * 80_000, max_tokens=8000)
    longer = asking("word " * 88_000, max_tokens=8000)

    assert FitWindow(131_072).apply(long) == long
    assert 2000 < FitWindow(131_072).apply(longer)["max_tokens"] < 8000


def test_a_lower_bound_of_the_prompt_counts_where_the_estimate_is_lower() -> None:
    request = asking("Hello")

    assert FitWindow(40_960).apply(request) == request
    assert 30_000 < FitWindow(40_960, least=8961).apply(request)["max_tokens"] < 40_960 - 8961


def test_the_other_name_of_the_limit_and_none() -> None:
    request = {"messages": [], "max_completion_tokens": 32_000}

    assert FitWindow(8192).apply(request)["max_completion_tokens"] < 8192
    assert FitWindow(8192).apply({"messages": []}) == {"messages": []}


def test_the_budget_of_thinking_stays_below_the_limit() -> None:
    fitted = FitWindow(8192).apply(asking("Hello", thinking={"type": "enabled", "budget_tokens": 31_999}))

    assert fitted["thinking"]["budget_tokens"] < fitted["max_tokens"] < 8192


def test_a_prompt_that_fills_the_window_is_for_the_upstream_to_refuse() -> None:
    assert FitWindow(8192).apply(asking("word " * 100_000))["max_tokens"] == 256


def test_images_and_signatures_are_not_read_as_text() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000}}
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "A" * 1_000_000}
    request = asking("", max_tokens=8000) | {"messages": [{"role": "user", "content": [image, thought]}]}

    assert FitWindow(8192).apply(request)["max_tokens"] > 5000


def test_only_what_may_be_too_much_is_looked_through() -> None:
    assert not may_exceed(8192, {"max_tokens": 4096}, 8192)
    assert may_exceed(8192, {"max_tokens": 4097}, 8192)
    assert not may_exceed(8192, {"max_tokens": "many"}, 1_000_000)


def test_a_window_is_learned_from_the_refusal_that_told_it_and_replaces_another() -> None:
    memory = AdaptationMemory(60, lambda: 0.0)
    memory.confirm(SCOPE, CapMaxTokens(5480), read_refusal(400, ROOM))
    assert memory.changes(SCOPE) == (FitWindow(6048),)

    memory.confirm(SCOPE, CapMaxTokens(7480), read_refusal(400, ROOM.replace("6048", "8048")))
    assert memory.changes(SCOPE) == (FitWindow(8048),)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (CapMaxTokens(8192, of_model=True), Refusal(Kind.OUTPUT_LIMIT, "", limit=8192)),
        (CapMaxTokens(5), Refusal(Kind.ROOM, "", limit=10)),
        (CapMaxTokens(0), Refusal(Kind.ROOM, "")),
    ],
)
def test_other_limits_say_nothing_about_the_window(change: CapMaxTokens, refusal: Refusal) -> None:
    assert learned_window(change, refusal) is None
