"""Signatures of thinking blocks."""

from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.config import MessagesConfig
from llama_stack_messages_provider.rewriting.signatures import Signer, is_ours


@given(st.text())
def test_a_signature_is_never_empty_and_known_again(thinking: str) -> None:
    signature = Signer(b"key", "m")(thinking)

    assert signature.isascii()
    assert is_ours(signature)


def test_a_signature_belongs_to_a_key_a_model_and_a_text() -> None:
    signature = Signer(b"key", "m")("Hm.")

    assert signature == Signer(b"key", "m")("Hm.")
    assert signature not in {Signer(b"other", "m")("Hm."), Signer(b"key", "n")("Hm."), Signer(b"key", "m")("Ah.")}
    # The model's name and the text are kept apart.
    assert Signer(b"key", "mH")("m.") != Signer(b"key", "m")("Hm.")


def test_a_summary_has_another_signature_than_thinking_of_the_same_text() -> None:
    signer = Signer(b"key", "m")

    assert is_ours(signer.of_summary("Hm."))
    assert signer.of_summary("Hm.") == Signer(b"key", "m").of_summary("Hm.") != signer("Hm.")
    assert signer.carried("Hm.", signer.of_summary("Hm.")) is None


def test_a_lone_surrogate_can_be_signed() -> None:
    assert is_ours(Signer(b"key", "m")("\ud800"))


@given(st.none() | st.text() | st.integers() | st.lists(st.text()))
def test_nothing_else_is_ours(signature: object) -> None:
    assert not is_ours(signature)
    assert not is_ours("c2lnbmVk")


def test_the_key_is_the_configured_one_or_one_of_the_process_s_own() -> None:
    keys = [MessagesConfig.model_validate(config).key() for config in ({}, {}, {"signing_key": ""})]

    assert len(set(keys)) == 3
    assert all(len(key) == 32 for key in keys)
    assert MessagesConfig.model_validate({"signing_key": "shared"}).key() == b"shared"
