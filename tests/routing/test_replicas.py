"""Which replica a conversation belongs to, and what is remembered of those that are down."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.routing.replicas import UNREACHED_SECONDS, Unreached, pin_of, ranked

steady = settings(deadline=None)
NAMES = st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=8, unique=True)
PINS = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=50)


@steady
@given(NAMES, PINS, st.data())
def test_a_replica_that_goes_moves_its_own_conversations_only(
    names: list[str], pins: list[bytes], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(names))
    left = [name for name in names if name != gone]
    for pin in pins:
        assert ranked(pin, left) == [name for name in ranked(pin, names) if name != gone]


@steady
@given(NAMES, PINS, st.randoms(use_true_random=False))
def test_the_order_of_the_configuration_does_not_matter(names: list[str], pins: list[bytes], random: Any) -> None:
    shuffled = random.sample(names, len(names))
    assert [ranked(pin, names) for pin in pins] == [ranked(pin, shuffled) for pin in pins]
    assert sorted(ranked(pins[0], names)) == sorted(names)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_conversations_are_spread_evenly(count: int) -> None:
    """Their own, and those of a replica that is gone over the others."""
    names = [f"vllm-{n}/m" for n in range(count)]
    orders = [ranked(pin_of(f"session-{n}", {}), names) for n in range(4000)]
    for place in (0, 1):
        for name in names:
            share = sum(order[place] == name for order in orders) / len(orders)
            assert abs(share * count - 1) < 0.15


def request(**fields: Any) -> dict[str, Any]:
    turn = {"role": "user", "content": "Hello"}
    return {"model": "m", "system": "Be brief.", "tools": [{"name": "read"}], "messages": [turn], **fields}


MARK = {"cache_control": {"type": "ephemeral"}}
LINE = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=00001;"}
ANSWERED = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "More"}]
SAME = [
    request(messages=[{"role": "user", "content": "Hello"}, *ANSWERED]),
    request(messages=[{"role": "user", "content": [{"type": "text", "text": "Hello", **MARK}]}]),
    request(system=[{"type": "text", "text": "Be brief.", **MARK}]),
    request(system=[LINE, {"type": "text", "text": "Be brief."}]),
    request(max_tokens=9, stream=True, temperature=0),
]
OTHER = [
    request(system="Be long."),
    request(system=None),
    request(tools=[]),
    request(messages=[{"role": "user", "content": "Hello!"}]),
    request(messages=[{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "AA"}}]}]),
    request(messages=[{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "AB"}}]}]),
    request(messages=[]),
    request(prompt_cache_key="k"),
]


@pytest.mark.parametrize("turn", SAME)
def test_without_a_session_a_conversation_is_known_by_its_beginning(turn: dict[str, Any]) -> None:
    assert pin_of(None, turn) == pin_of(None, request())


def test_other_beginnings_are_other_conversations() -> None:
    assert len({pin_of(None, each) for each in [request(), *OTHER]}) == len(OTHER) + 1


def test_a_session_goes_before_a_key_and_a_key_before_the_beginning() -> None:
    keyed = request(prompt_cache_key="k")
    assert pin_of("s", keyed) == pin_of("s", request()) == pin_of("s", {})
    assert pin_of(None, keyed) == pin_of(None, {"prompt_cache_key": "k"}) == pin_of("k", {})


@steady
@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each))
)
def test_whatever_a_client_sends_has_a_pin(value: Any) -> None:
    body = dict.fromkeys(("system", "tools", "messages", "prompt_cache_key"), value)
    assert (
        len(pin_of(None, body)) == len(pin_of(None, {**body, "messages": [{"role": "user", "content": value}]})) == 16
    )


def test_a_text_that_is_no_unicode_has_a_pin() -> None:
    assert pin_of(None, request(system="\ud800")) != pin_of(None, request())


def test_a_replica_that_was_not_reached_is_tried_by_one_request_after_a_time() -> None:
    now = 100.0
    unreached = Unreached(lambda: now)
    assert not unreached.passes_over("a")
    unreached.add("a")
    assert unreached.passes_over("a")
    assert not unreached.passes_over("b")
    now += UNREACHED_SECONDS
    assert [unreached.passes_over("a") for _ in range(3)] == [False, True, True]
    unreached.discard("a")
    assert not unreached.passes_over("a")


def test_what_should_be_a_name_and_is_none_is_not_read() -> None:
    """It may be megabytes of anything: as a text it would take half a second, in which nobody else is served."""
    other: dict[str, Any] = {
        "tools": [{"name": ["x"] * 9}],
        "messages": [{"role": "user", "content": [{"type": ["y"] * 9}]}],
    }
    blank: dict[str, Any] = {"tools": [{}], "messages": [{"role": "user", "content": [{}]}]}
    assert pin_of(None, other) == pin_of(None, blank)
