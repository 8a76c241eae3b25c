"""Images of a conversation are known by their digests, the same ones at every turn."""

from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.rewriting.image_refs import digest_of, sources_of


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
