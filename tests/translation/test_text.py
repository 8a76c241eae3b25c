"""Text in pieces: stop sequences are met wherever they are cut, and halves of surrogate pairs find each other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.translation.text import StopCutter, join_halves, mended
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import chat_completion

type Json = dict[str, Any]

FEW = st.text(alphabet="abc", max_size=8)


def naive(text: str, sequences: list[str]) -> tuple[str, str | None]:
    """The text before the sequence that is complete first, the longest of those."""
    for end in range(len(text) + 1):
        met = [sequence for sequence in sequences if sequence and text[:end].endswith(sequence)]
        if met:
            longest = max(met, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(st.lists(FEW), st.lists(st.text(alphabet="abc", max_size=4), max_size=4))
def test_text_is_cut_at_the_first_stop_sequence_however_it_comes(pieces: list[str], sequences: list[str]) -> None:
    cutter = StopCutter(sequences)

    sent = "".join(map(cutter.feed, pieces)) + cutter.flush()

    assert (sent, cutter.found) == naive("".join(pieces), sequences)


def test_no_more_is_held_back_than_could_be_a_beginning() -> None:
    cutter = StopCutter(["</block>"])

    assert [cutter.feed(piece) for piece in ("a<", "/b", "c", "</block", "!")] == ["a", "", "</bc", "", "</block!"]


def test_nothing_comes_after_a_stop_sequence() -> None:
    cutter = StopCutter(["X"])

    assert [cutter.feed(piece) for piece in ("aX", "b")] == ["a", ""]
    assert (cutter.flush(), cutter.found) == ("", "X")


@given(st.text(alphabet=st.characters(categories=["L", "S", "Cs"]), max_size=12), st.integers(0, 24))
def test_halves_of_pairs_are_joined_wherever_they_are_cut(text: str, place: int) -> None:
    units = [char for each in text for char in halves(each)]
    first, second = "".join(units[:place]), "".join(units[place:])

    one, half = join_halves("", first)
    two, last = join_halves(half, second)

    assert one + two + mended(last) == mended("".join(units))
    (one + two).encode()


def halves(character: str) -> list[str]:
    """The UTF-16 units of a character, each a character of its own."""
    data = character.encode("utf-16-be", "surrogatepass")
    return [chr(int.from_bytes(data[at : at + 2], "big")) for at in range(0, len(data), 2)]


def events_of(*deltas: Json, finish: str = "stop", **options: Any) -> list[Json]:
    translator = StreamTranslator("msg_1", "claude-x", **options)
    chunks: list[Json] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    events = [event for chunk in chunks for event in translator.feed(chunk)] + translator.close()
    assert_well_formed(events)
    return events


def test_an_emoji_in_two_chunks_is_one() -> None:
    message = fold(events_of({"content": "Hi \ud83d"}, {"content": "\ude00 there"}, {"content": "\ud83d"}))

    assert message["content"][0]["text"] == "Hi 😀 there\ufffd"
    whole = to_message(chat_completion("Hi \ud83d\ude00 there\ud83d"), message_id="msg_1", model="claude-x")
    assert whole["content"][0]["text"] == "Hi 😀 there\ufffd"


def test_halves_of_pairs_in_arguments_are_joined() -> None:
    parts = ('{"x":"\ud83d', '\ude00"}')
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": part}} for part in parts]

    message = fold(events_of(*({"tool_calls": [call]} for call in calls), finish="tool_calls"))

    assert message["content"][0]["input"] == {"x": "😀"}


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_stop_sequence_that_the_upstream_ignores_ends_the_message(finish: str) -> None:
    deltas = [{"content": "<block>no</bl"}, {"content": "ock> and more"}, {"content": "!"}]

    streamed = fold(events_of(*deltas, finish=finish, stop_sequences=["</block>"]))
    completion = chat_completion("<block>no</block> and more!", choice={"finish_reason": finish})
    whole = to_message(completion, message_id="msg_1", model="claude-x", stop_sequences=["</block>"])

    for message in (streamed, whole):
        assert [block["text"] for block in message["content"]] == ["<block>no"]
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "</block>")


def test_white_space_between_thinking_and_a_call_is_no_block() -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "Bash", "arguments": "{}"}}

    message = fold(events_of({"reasoning_content": "hm"}, {"content": "\n\n"}, {"tool_calls": [call]}))

    assert [block["type"] for block in message["content"]] == ["thinking", "tool_use"]


def test_white_space_before_text_is_part_of_it() -> None:
    message = fold(events_of({"content": "\n"}, {"content": "\n"}, {"content": "Hi"}, {"content": "\n"}))

    assert [block["text"] for block in message["content"]] == ["\n\nHi\n"]


def test_white_space_after_thinking_that_ends_the_answer_is_no_block() -> None:
    message = fold(events_of({"content": "Hi\n"}, {"reasoning_content": "hm"}, {"content": "\n"}))

    assert [block.get("text") for block in message["content"]] == ["Hi\n", None]


def test_a_call_that_is_complete_does_not_hold_up_the_next_one() -> None:
    translator = StreamTranslator("msg_1", "claude-x")

    def feed(index: int, arguments: str) -> list[str]:
        function = {"name": f"f{index}", "arguments": arguments}
        call = {"index": index, "id": f"call_{index}", "function": function}
        return [event["type"] for event in translator.feed({"choices": [{"delta": {"tool_calls": [call]}}]})]

    assert feed(0, '{"x":1}') == ["message_start", "content_block_start", "content_block_delta"]
    assert feed(1, '{"y"') == ["content_block_stop", "content_block_start", "content_block_delta"]
    assert feed(1, ":2}") == ["content_block_delta"]
