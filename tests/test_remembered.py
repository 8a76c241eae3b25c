"""What is remembered stays within its bound, and nobody pushes out what another client brought."""

from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.remembered import Remembered


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"))), st.integers(1, 8))
def test_it_holds_no_more_than_it_may_and_gives_what_it_keeps(kept: list[tuple[int, str]], most: int) -> None:
    remembered: Remembered[str] = Remembered(most)
    first: dict[int, str] = {}
    for n, (key, owner) in enumerate(kept):
        known = remembered.get(key)
        text = remembered.keep(key, f"{n}", owner)
        if known is None:
            first[key] = text
        assert text == (known or f"{n}")
        assert len(remembered) <= most
        assert remembered.get(key) == first[key]


def test_a_client_that_brings_much_pushes_out_its_own() -> None:
    remembered = Remembered(10)
    for n in range(5):
        remembered.keep(f"calm {n}", "text", "calm")
    for n in range(1000):
        remembered.keep(n, "text", "busy")
    assert all(remembered.get(f"calm {n}") for n in range(5))
    assert [n for n in range(1000) if remembered.get(n)] == [995, 996, 997, 998, 999]


def test_what_is_used_stays() -> None:
    remembered = Remembered(3)
    for n in range(10):
        remembered.keep("old", "text", "a")
        remembered.keep(n, "text", "a")
    assert remembered.get("old") == "text"


def test_a_value_can_take_the_place_of_another() -> None:
    remembered: Remembered[str] = Remembered(2)
    for text in "abc":
        remembered.replace("key", text, "ann")
    assert (remembered.get("key"), len(remembered)) == ("c", 1)
