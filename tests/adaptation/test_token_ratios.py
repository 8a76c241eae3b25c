"""Estimates of tokens: how good they are on recorded conversations, and what others' prompts do to them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.adaptation.token_ratios import TokenRatios
from llama_stack_messages_provider.wire.token_estimate import (
    BYTES_PER_TOKEN,
    DEFAULTS,
    Kind,
    Measure,
    measured,
    prompt_weight,
)

SCOPE = ("http://upstream", "m")
FILE = json.loads((Path(__file__).parents[1] / "fixtures/conversations.json").read_text())
RECORDED = FILE["conversations"]


def turns_of(language: str) -> list[tuple[dict[str, Any], int]]:
    """Requests of a conversation, and what the model's tokenizer counts of each."""
    texts, counted = RECORDED[language]["texts"], RECORDED[language]["input_tokens"]
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    head = {"model": "m", "system": FILE["system"]}
    return [({**head, "messages": messages[: 2 * n + 1]}, tokens) for n, tokens in enumerate(counted)]


def ratios() -> TokenRatios:
    return TokenRatios(3600, lambda: 0.0)


def test_the_estimate_of_the_next_turn_is_within_a_tenth() -> None:
    """All five at once, by one client: each turn is estimated by what the turns before it cost."""
    known, errors = ratios(), {}
    for n in range(4):
        for language in RECORDED:
            request, tokens = turns_of(language)[n]
            if n:
                estimate = measured(request).tokens(known.ratios(SCOPE, "me"))
                errors[language, n] = estimate / tokens - 1
        for language in RECORDED:
            request, tokens = turns_of(language)[n]
            known.observe(SCOPE, "me", measured(request), tokens)
    print({f"{language}, turn {n + 1}": f"{error:+.1%}" for (language, n), error in errors.items()})
    assert all(abs(error) < 0.1 for error in errors.values()), errors


@pytest.mark.parametrize("language", RECORDED)
def test_another_clients_conversation_will_do(language: str) -> None:
    known = ratios()
    for request, tokens in turns_of(language)[:2]:
        known.observe(SCOPE, "somebody", measured(request), tokens)
    request, tokens = turns_of(language)[-1]
    assert measured(request).tokens(known.ratios(SCOPE, "me")) == pytest.approx(tokens, rel=0.1)


@given(texts=st.lists(st.text(max_size=2000), min_size=1, max_size=20), tokens=st.integers(-5, 100_000))
def test_what_others_send_changes_nothing_for_who_has_been_here(texts: list[str], tokens: int) -> None:
    known = ratios()
    for request, counted in turns_of("english"):
        known.observe(SCOPE, "me", measured(request), counted)
    before = known.ratios(SCOPE, "me")
    for text in texts:
        known.observe(SCOPE, "mallory", measured({"messages": [text]}), tokens)
    assert known.ratios(SCOPE, "me") == before
    assert all(1 <= ratio <= 8 for ratio in known.ratios(SCOPE, "mallory"))


def test_one_of_many_does_not_decide_for_a_stranger() -> None:
    known = ratios()
    prompt = Measure((0, 40_000, 0, 0, 0), 0, 40_000)
    for n in range(5):
        known.observe(SCOPE, f"user-{n}", prompt, 10_000)
    before = known.ratios(SCOPE, "new")
    for _ in range(50):
        known.observe(SCOPE, "mallory", prompt, 39_000)
    assert before[Kind.PROSE] == known.ratios(SCOPE, "new")[Kind.PROSE] == pytest.approx(4.0, rel=0.01)


def test_the_ratio_of_edits_changes_rarely() -> None:
    known, prompt = ratios(), Measure((0, 40_000, 0, 0, 0), 0, 40_000)
    assert known.bytes_per_token(SCOPE) == BYTES_PER_TOKEN
    seen = set()
    for tokens in (10_000, 10_300, 9_800, 9_600, 10_500, 9_900):
        known.observe(SCOPE, "me", prompt, tokens)
        seen.add(known.bytes_per_token(SCOPE))
    assert seen == {4.0}


def test_what_is_known_is_bounded() -> None:
    known, prompt = ratios(), Measure((0, 40_000, 0, 0, 0), 0, 40_000)
    for n in range(3000):
        known.observe(("http://upstream", str(n)), "me", prompt, 5000)
        known.observe(SCOPE, str(n), prompt, 5000)
    assert len(known._known) <= 1024
    assert len(known._known[SCOPE].clients) <= 32


def test_a_measure_weighs_what_a_prompt_weighs() -> None:
    for language in RECORDED:
        request, _ = turns_of(language)[-1]
        assert (
            measured(request).weight == prompt_weight(request) == pytest.approx(sum(measured(request).texts), rel=0.4)
        )
    assert measured({"messages": ["word " * 20]}).texts == (0, 100, 0, 0, 0)
    assert len(DEFAULTS) == len(Kind)


def test_later_on_few_counts_are_looked_at() -> None:
    known = ratios()
    known.observe(SCOPE, "me", Measure((0, 40_000, 0, 0, 0), 0, 40_000), 10_000)
    assert sum(known.wants(SCOPE, "me") for _ in range(160)) == 16 + 9


def test_counts_that_tell_nothing_are_not_looked_at_for_ever() -> None:
    """Nor those of many clients, each of whom comes once."""
    known, prompt = ratios(), Measure((0, 40_000, 0, 0, 0), 0, 40_000)
    looked_at = 0
    for _ in range(160):
        if known.wants(SCOPE, "me"):
            looked_at += 1
            known.observe(SCOPE, "me", prompt, 1)
    assert looked_at == 16 + 9
    assert known.ratios(SCOPE, "me") == DEFAULTS
    assert sum(known.wants(SCOPE, str(n)) for n in range(5000)) < 16 * 32 + 5000 / 16 + 1
