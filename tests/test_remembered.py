"""What is remembered stays within its bound, and nobody pushes out what another client brought."""

from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.remembered import Remembered
from llama_stack_messages_provider.rewriting.image_refs import digest_of, sources_of


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"))), st.integers(1, 8))
def test_it_holds_no_more_than_it_may_and_gives_what_it_keeps(kept: list[tuple[int, str]], most: int) -> None:
    remembered, first = Remembered(most), {}
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


def test_an_image_is_known_by_its_bytes_and_kind() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    assert digest_of(source) == digest_of({**source})
    assert (
        len({digest_of(source), digest_of({**source, "data": "AAAB"}), digest_of({**source, "media_type": "x"})}) == 3
    )
    assert digest_of({"type": "url", "url": "https://example.com"}) is None


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 5))
def test_a_conversation_that_grows_keeps_its_first_images(pictures: list[int], most: int) -> None:
    turns = [
        {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": f"{n}"}}]} for n in pictures
    ]
    found: list[str] = []
    for end in range(len(turns) + 1):
        now = list(sources_of({"messages": turns[:end]}, most, 100))
        assert now[: len(found)] == found
        assert len(now) <= most
        found = now
