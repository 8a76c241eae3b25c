"""What waits for shields: unflagged streams come out as they came, and of what is flagged nothing goes out too far."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.shields.held import HeldEvents
from llama_stack_messages_provider.shields.parts import parts_of
from llama_stack_messages_provider.wire.sse import SSEDecoder
from tests.support import sse
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import (
    Json,
    anthropic_message,
    anthropic_stream,
    encode_events,
    text_block,
    thinking_block,
    tool_use_block,
)

ALL = ("text", "thinking", "tool_use")
MOST = 100_000
DETAILS: Json = {"type": "refusal", "category": None, "explanation": "No."}

texts = st.text(st.sampled_from("abx \n"), max_size=60)
blocks = st.lists(
    st.one_of(
        texts.map(text_block),
        texts.map(thinking_block),
        texts.map(lambda text: tool_use_block("Bash", {"command": text})),
    ),
    max_size=4,
)


def held(hold_back: int | None = 4, characters: int = 16, judged: Sequence[str] = ALL, most: int = MOST) -> HeldEvents:
    return HeldEvents(judged, hold_back, characters, hold_back or characters // 2, most)


def driven(state: HeldEvents, events: Iterable[bytes], flagged: str | None = None) -> tuple[bytes, list[str]]:
    """What goes out where a text is flagged that contains a word, and all parts that were judged."""
    sent, asked, decoder = b"", [], SSEDecoder()
    for event in events:
        for received in decoder.decode(event):
            sent += state.take(received)
            if state.too_long:
                sent += state.give_up()
            elif parts := state.due():
                asked += parts
                if flagged is not None and any(flagged in part for part in parts):
                    return sent + state.refused(DETAILS), asked
                sent += state.let_through()
            elif state.is_over:
                sent += state.let_through()
    return sent, asked


def stream(content: Sequence[Json], piece: int = 3) -> list[bytes]:
    return encode_events(anthropic_stream(anthropic_message(list(content)), piece=piece))


@given(blocks, st.integers(1, 20), st.integers(1, 9) | st.none(), st.integers(0, 20))
def test_an_unflagged_stream_comes_out_byte_for_byte(
    content: list[Json], piece: int, hold_back: int | None, more: int
) -> None:
    events = stream(content, piece)
    sent, asked = driven(held(hold_back, 2 * (hold_back or 4) + more), events)
    assert sent == b"".join(events)
    assert all(len(part) <= 2 * (hold_back or 4) + more for part in asked)


@given(st.data(), texts, texts, st.integers(1, 20), st.integers(1, 9), st.integers(0, 20))
def test_no_character_of_what_is_flagged_goes_out(
    data: st.DataObject, before: str, after: str, piece: int, hold_back: int, more: int
) -> None:
    word = data.draw(st.text("XYZ", min_size=1, max_size=hold_back))
    make = data.draw(st.sampled_from([text_block, thinking_block]))
    sent, _ = driven(held(hold_back, 2 * hold_back + more), stream([make(before + word + after)], piece), word)
    events = sse.events(sent)
    assert_well_formed(events)
    answer = fold(events)
    assert (answer["stop_reason"], answer["stop_details"]) == ("refusal", DETAILS)
    shown = "".join(block.get("text", "") + block.get("thinking", "") for block in answer["content"])
    assert before.startswith(shown)
    assert len(shown) <= max(0, len(before) + len(word) - hold_back)


@given(texts, st.text("XYZ", min_size=1, max_size=40), texts, st.integers(1, 20), st.integers(1, 9))
def test_of_a_longer_stretch_at_most_all_but_the_last_characters_goes_out(
    before: str, word: str, after: str, piece: int, hold_back: int
) -> None:
    sent, _ = driven(held(hold_back, 1000), stream([text_block(before + word + after)], piece), word)
    shown = "".join(block["text"] for block in fold(sse.events(sent))["content"])
    assert (before + word).startswith(shown)
    assert len(shown) <= max(0, len(before) + len(word) - hold_back)


@given(st.text("ab", max_size=80), st.integers(1, 9), st.integers(0, 20), st.data())
def test_every_stretch_is_whole_in_a_part(text: str, overlap: int, more: int, data: st.DataObject) -> None:
    known = data.draw(st.integers(0, len(text)))
    marked = "".join(chr(0x4E00 + n) for n in range(len(text)))  # each place can be told from any other
    parts = parts_of(marked, 2 * overlap + more, overlap, known)
    assert all(len(part) <= 2 * overlap + more for part in parts)
    for start in range(len(marked)):
        stretch = marked[start : start + overlap]
        assert start + len(stretch) <= known or any(stretch in part for part in parts)


@given(blocks, st.integers(1, 9))
def test_what_is_not_to_be_judged_passes_at_once(content: list[Json], piece: int) -> None:
    state = held(judged=())
    for event in stream(content, piece):
        assert driven(state, [event]) == (event, [])


@given(texts, st.integers(1, 9))
def test_a_call_is_judged_whole_and_without_json_s_escapes(command: str, piece: int) -> None:
    events = stream([tool_use_block("Bash", {"command": command, "flags": ["-a", 1, None]})], piece)
    sent, asked = driven(held(characters=1000), events)
    assert asked == [f"command\n{command}\nflags\n-a\n1"]
    assert sent == b"".join(events)


def test_a_flagged_call_leaves_no_trace_and_what_came_before_it_stays() -> None:
    content = [text_block("I do."), tool_use_block("Bash", {"command": "rm -rf /"}), text_block("Done.")]
    sent, _ = driven(held(8, 100), stream(content), "rm -rf")
    answer = fold(sse.events(sent))
    assert [block["type"] for block in answer["content"]] == ["text"]
    assert answer["content"][0]["text"] == "I do."
    assert answer["usage"]["output_tokens"] == 1  # what its upstream had told by then


def test_arguments_that_are_no_json_are_judged_as_they_are() -> None:
    start = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}
    events: list[Json] = [
        {"type": "content_block_start", "index": 0, "content_block": start},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a": "b'}},
        {"type": "content_block_stop", "index": 0},
    ]
    assert driven(held(), encode_events(events))[1] == ['{"a": "b']


def test_a_block_that_is_begun_with_its_text_or_input_is_judged_with_it() -> None:
    text = {"type": "text", "text": "All at once"}
    call = tool_use_block("Bash", {"command": "ls"})
    for n, (block, read) in enumerate([(text, "All at once"), (call, "command\nls")]):
        events = encode_events(
            [
                {"type": "content_block_start", "index": n, "content_block": block},
                {"type": "content_block_stop", "index": n},
            ]
        )
        assert driven(held(4, 100), events) == (b"".join(events), [read])


def test_pings_pass_what_waits() -> None:
    events = stream([text_block("abc")])
    state = held()
    out = [driven(state, [event])[0] for event in events[:4]]
    assert out[2:4] == [b"", b""]
    ping = encode_events([{"type": "ping"}])
    assert driven(state, ping)[0] == ping[0]


def test_an_engine_that_names_no_events_is_judged_too() -> None:
    events = [event.partition(b"\n")[2] for event in stream([text_block("a BAD word")])]
    sent, _ = driven(held(), events, "BAD")
    assert b"BAD" not in sent
    assert b"refusal" in sent


def test_a_block_that_is_not_closed_ends_with_the_message() -> None:
    events = [event for event in stream([text_block("abc")]) if b"content_block_stop" not in event]
    sent, asked = driven(held(), events)
    assert sent == b"".join(events)
    assert asked == ["abc"]


def test_a_block_within_another_cannot_be_judged() -> None:
    begin = [event for event in stream([text_block("abc")]) if b"content_block_start" in event]
    with pytest.raises(UpstreamError):
        driven(held(), begin * 2)


@pytest.mark.parametrize("data", [b"[]", b"{}", b'{"type": "content_block_start", "content_block": 3}', b"no"])
def test_what_is_no_event_is_the_upstream_s_fault(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        driven(held(), [b"event: content_block_start\ndata: " + data + b"\n\n"])


def test_a_block_that_is_too_long_to_be_held_says_so() -> None:
    content: list[Any] = [tool_use_block("Bash", {"command": "a" * 300})]
    events = stream(content)
    assert driven(held(most=100), events) == (b"".join(events), [])


@pytest.mark.parametrize("opened", [None, {"type": "redacted_thinking", "data": "x"}, tool_use_block("a", {})])
@pytest.mark.parametrize(
    "delta",
    [{"type": "text_delta", "text": "BAD"}, {"type": "thinking_delta", "thinking": "BAD"}],
    ids=["text", "thinking"],
)
def test_text_in_a_block_of_another_type_is_a_mistake_of_the_upstream(opened: Json | None, delta: Json) -> None:
    state = held()
    begun = [] if opened is None else [{"type": "content_block_start", "index": 0, "content_block": opened}]
    with pytest.raises(UpstreamError, match="cannot be judged"):
        driven(state, encode_events([*begun, {"type": "content_block_delta", "index": 0, "delta": delta}]))


def test_text_after_its_block_is_a_mistake_of_the_upstream() -> None:
    *_, end, stop = anthropic_stream(anthropic_message([text_block("fine")]))
    stray = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "BAD"}}
    for events in ([end, stray, stop], [stop, stray]):
        with pytest.raises(UpstreamError, match="cannot be judged"):
            driven(held(), encode_events(events))


def test_a_message_that_begins_with_content_is_a_mistake_of_the_upstream() -> None:
    start, *_ = anthropic_stream(anthropic_message([text_block("fine")]))
    start["message"]["content"] = [text_block("BAD")]
    with pytest.raises(UpstreamError, match="cannot be judged"):
        driven(held(), encode_events([start]))


def test_arguments_that_a_call_begins_with_are_judged_beside_those_that_come() -> None:
    events = [
        {"type": "content_block_start", "index": 0, "content_block": tool_use_block("a", {"x": "BAD"})},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 0},
    ]
    assert driven(held(), encode_events(events))[1] == ["x\nBAD"]
