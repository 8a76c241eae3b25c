"""Fingerprints: where a request parts from the one before it, whatever marks of caches it has."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.cache_diagnostics.fingerprint import (
    MAX_PREFIXES,
    cache_miss_reason,
    fingerprint,
    kept,
)

type Json = dict[str, Any]

TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"cache_control": {"type": "string"}}}}
MARK = {"cache_control": {"type": "ephemeral"}}


def turn(n: int) -> Json:
    return {"role": "assistant" if n % 2 else "user", "content": [{"type": "text", "text": f"turn {n} " * 20}]}


def request(turns: int = 4, **fields: Any) -> Json:
    messages = [turn(n) for n in range(turns)]
    return {"model": "m", "system": "Be brief. " * 30, "tools": [TOOL], "messages": messages, **fields}


def reason(before: Json, after: Json, models: tuple[str, str] = ("a/m", "a/m")) -> Json | None:
    return cache_miss_reason(kept(fingerprint(before, models[0])), fingerprint(after, models[1]))


@given(st.integers(0, 200), st.integers(0, 5))
def test_a_conversation_that_grew_begins_as_it_did(turns: int, more: int) -> None:
    assert reason(request(turns), request(turns + more)) is None


@given(st.integers(1, 200), st.data())
def test_a_turn_that_changed_is_told_with_what_comes_after_it(turns: int, data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, turns - 1))
    after = request(turns + 2)
    after["messages"][changed] = {"role": "user", "content": "something else"}
    found = reason(request(turns), after)
    assert found is not None
    assert found["type"] == "messages_changed"
    whole, before = fingerprint(request(turns), "a/m"), fingerprint(request(changed), "a/m")
    exact = whole.tokens[-1] - (before.tokens[-1] if changed else before.system_tokens)
    step = -(-turns // MAX_PREFIXES)
    assert exact <= found["cache_missed_input_tokens"] <= exact + step * 60


def test_turns_that_are_gone_are_a_change() -> None:
    found = reason(request(6), request(4))
    assert found is not None
    assert found["type"] == "messages_changed"


def test_what_comes_first_in_a_prompt_is_told_first() -> None:
    before = request()
    total = fingerprint(before, "a/m").tokens[-1]
    everything = {"tools": [], "system": "", "thinking": {"type": "disabled"}, "messages": []}
    assert reason(before, {**before, **everything}, ("a/m", "b/m")) == {
        "type": "model_changed",
        "cache_missed_input_tokens": total,
    }
    assert reason(before, {**before, "speed": "fast"}) == {"type": "model_changed", "cache_missed_input_tokens": total}
    assert reason(before, {**before, **everything}) == {"type": "tools_changed", "cache_missed_input_tokens": total}
    found = reason(before, {**before, "system": "", "thinking": {"type": "disabled"}, "messages": []})
    assert found is not None
    assert found["type"] == "system_changed"
    assert 0 < found["cache_missed_input_tokens"] < total
    for name, value in (("thinking", {"type": "disabled"}), ("tool_choice", {"type": "any"})):
        assert reason(before, {**before, name: value, "messages": []}) == {"type": "unavailable"}
    assert reason(before, {**before, "max_tokens": 9, "metadata": {"user_id": "u"}, "temperature": 1}) is None


def test_nobody_knows_of_a_message_before() -> None:
    assert cache_miss_reason(None, fingerprint(request(), "a/m")) == {"type": "previous_message_not_found"}


def test_marks_of_caches_and_the_form_of_a_text_change_no_prompt() -> None:
    text = {"type": "text", "text": "hello"}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text]}
    before = request(
        system=[text], messages=[{"role": "user", "content": [text]}, {"role": "user", "content": [result]}]
    )
    marked = {**result, **MARK, "content": [{**text, **MARK}]}
    after = request(
        system=[{**text, **MARK}],
        tools=[{**TOOL, **MARK}],
        messages=[{"role": "user", "content": "hello"}, {"role": "user", "content": [marked]}],
    )
    assert reason(before, after) is None
    # What a tool is called with, or takes, is part of the prompt by whatever name.
    called = {"type": "tool_use", "id": "t", "name": "look", "input": MARK}
    without = {**called, "input": {}}
    turns = [[{"role": "assistant", "content": [each]}] for each in (called, without)]
    assert reason(request(messages=turns[0]), request(messages=turns[1])) is not None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["content", "type", "text", "cache_control", "x"]), inner)
        ),
    )
)
def test_whatever_a_client_sends_has_a_fingerprint(value: Any) -> None:
    asked = {"model": "m", "messages": value, "tools": value, "system": value, "thinking": value}
    assert reason(asked, asked) is None


def test_a_long_conversation_takes_no_more_room() -> None:
    small = kept(fingerprint(request(10_000), "a/m"))
    assert len(small.counts) == len(small.prefixes) == len(small.tokens) <= MAX_PREFIXES
    assert small.counts[-1] == 10_000


def test_a_fingerprint_is_small_whatever_a_client_sends() -> None:
    fast = {"speed": "fast" * 100_000}
    assert len(fingerprint(request(**fast), "a/m").model) < 100
    assert reason(request(), request(**fast)) == reason(request(), request(), ("a/m", "b/m"))
    assert reason(request(**fast), request(**fast)) is None
