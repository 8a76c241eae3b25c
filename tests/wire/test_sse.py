"""Events to bytes and bytes to events, under any chunking."""

import sys
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.wire.sse import PING, EventTooLargeError, SSEDecoder, encode, encode_all
from tests.strategies import json_objects

type Json = dict[str, Any]
type Events = list[tuple[bytes, bytes]]


def decoded(pieces: list[bytes], *, flush: bool = False) -> Events:
    decoder = SSEDecoder()
    events = [event for piece in pieces for event in decoder.decode(piece)]
    return [(event.event, event.data) for event in events + (decoder.flush() if flush else [])]


def in_three_ways(wire: bytes, *, flush: bool = False) -> Events:
    """The events, the same whether the bytes come whole, one by one, or with empty pieces between."""
    whole = decoded([wire], flush=flush)
    one_by_one = [wire[i : i + 1] for i in range(len(wire))]
    assert decoded(one_by_one, flush=flush) == whole
    assert decoded([piece for one in one_by_one for piece in (one, b"")], flush=flush) == whole
    return whole


CASES: list[tuple[str, bytes, Events]] = [
    ("data alone", b"data: x\n\n", [(b"", b"x")]),
    ("event and data", b"event: ping\ndata: {}\n\n", [(b"ping", b"{}")]),
    ("data before event", b"data: {}\nevent: ping\n\n", [(b"ping", b"{}")]),
    ("no space after the colon", b"event:a\ndata:x\n\n", [(b"a", b"x")]),
    ("one space is not part of it, two are", b"event:  a\ndata:  x\n\n", [(b" a", b" x")]),
    ("several lines of data", b"data: x\ndata: y\n\n", [(b"", b"x\ny")]),
    ("an empty line of data", b"data\n\n", [(b"", b"")]),
    ("a line of data without a value", b"data: x\ndata\ndata: y\n\n", [(b"", b"x\n\ny")]),
    ("a comment", b": keep-alive\n\ndata: x\n\n", [(b"", b"x")]),
    ("a comment within an event", b"event: a\n: x\ndata: y\n\n", [(b"a", b"y")]),
    ("other fields", b"id: 7\nretry: 9\nnew: z\ndata: x\n\n", [(b"", b"x")]),
    ("an event without data is none", b"event: a\n\ndata: x\n\n", [(b"", b"x")]),
    ("the name does not last", b"event: a\ndata: x\n\ndata: y\n\n", [(b"a", b"x"), (b"", b"y")]),
    ("many empty lines", b"\n\n\ndata: x\n\n\n\n", [(b"", b"x")]),
    ("CRLF", b"event: a\r\ndata: x\r\n\r\ndata: y\r\n\r\n", [(b"a", b"x"), (b"", b"y")]),
    ("CR", b"event: a\rdata: x\r\rdata: y\r\r", [(b"a", b"x"), (b"", b"y")]),
    ("line ends mixed", b"data: x\r\n\ndata: y\n\r\n", [(b"", b"x"), (b"", b"y")]),
    ("CRLF and then LF", b"data: x\r\n\n\ndata: y\r\r\n", [(b"", b"x"), (b"", b"y")]),
    ("UTF-8", "data: é ✓ 😀\n\n".encode(), [(b"", "é ✓ 😀".encode())]),
    ("U+2028 ends no line", "data: a\u2028b\n\n".encode(), [(b"", "a\u2028b".encode())]),
    ("NUL", b"data: a\0b\n\n", [(b"", b"a\0b")]),
    ("the end of OpenAI's streams", b"data: [DONE]\n\n", [(b"", b"[DONE]")]),
    ("an unfinished event", b"data: x\n\ndata: y\n", [(b"", b"x")]),
    ("nothing", b"", []),
    ("a byte order mark", b"\xef\xbb\xbfdata: x\n\n\xef\xbb\xbfdata: y\n\ndata: z\n\n", [(b"", b"x"), (b"", b"z")]),
    ("half of a byte order mark", b"\xef\xbbdata: x\n\ndata: y\n\n", [(b"", b"y")]),
    ("a CR before a blank line of LF", b"data: x\n\ndata: y\r\n\ndata: z\n\n", [(b"", b"x"), (b"", b"y"), (b"", b"z")]),
]


@pytest.mark.parametrize(("wire", "events"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bytes_are_decoded_as_the_standard_says(wire: bytes, events: Events) -> None:
    assert in_three_ways(wire) == events


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        (b"data: x\n", [(b"", b"x")]),
        (b"data: x", [(b"", b"x")]),
        (b"event: a\r\ndata: x\r", [(b"a", b"x")]),
        (b"data: x\n\n", [(b"", b"x")]),
        (b"event: a\n", []),
        (b"", []),
    ],
)
def test_the_last_event_counts_without_its_blank_line(wire: bytes, events: Events) -> None:
    assert in_three_ways(wire, flush=True) == events


def test_a_flushed_decoder_is_empty() -> None:
    decoder = SSEDecoder()
    decoder.decode(b"data: x")

    assert len(decoder.flush()) == 1
    assert decoder.flush() == []


def test_what_follows_the_end_is_still_decoded() -> None:
    assert in_three_ways(b"data: [DONE]\n\ndata: more\n\n") == [(b"", b"[DONE]"), (b"", b"more")]


def test_an_event_says_what_it_is() -> None:
    [event] = SSEDecoder().decode(b"event: a\ndata: x\n\n")

    assert repr(event) == "ServerSentEvent(event=b'a', data=b'x')"


def test_an_event_has_anthropics_framing() -> None:
    assert encode({"type": "ping"}) == PING
    assert encode({"type": "error", "error": {"message": "é\n"}}) == (
        'event: error\ndata: {"type":"error","error":{"message":"é\\n"}}\n\n'.encode()
    )


def test_several_events_are_one_piece() -> None:
    assert encode_all([{"type": "ping"}, {"type": "ping"}]) == PING + PING
    assert encode_all([]) == b""


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)


@given(st.lists(st.tuples(NAMES, json_objects()), max_size=4), st.data())
def test_decoding_undoes_encoding_however_the_bytes_are_cut(
    events: list[tuple[str, Json]], data: st.DataObject
) -> None:
    given = [{**fields, "type": name} for name, fields in events]
    wire = encode_all(given)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]

    assert decoded(pieces) == [(event["type"].encode(), orjson.dumps(event)) for event in given]


LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINES = st.sampled_from([b"", b"data: x", b"data:y", b"data", b"event: a", b": c", b"id: 1", b"data: \xc3\xa9"])


@given(st.lists(st.tuples(LINES, LINE_ENDS), max_size=9), st.data())
def test_cuts_never_matter(lines: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    wire = b"".join(line + end for line, end in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]

    assert decoded(pieces, flush=True) == decoded([wire], flush=True)


@pytest.mark.parametrize("line", [b"data: " + b"x" * 1000, b": " + b"x" * 1000, b"event: " + b"x" * 1000])
def test_an_event_that_does_not_end_is_not_held_without_bound(line: bytes) -> None:
    decoder = SSEDecoder(max_event_bytes=10_000)
    with pytest.raises(EventTooLargeError, match="more than 10000 bytes"):
        list(map(decoder.decode, [line] * 20))


def test_lines_of_data_that_do_not_end_are_not_held_without_bound() -> None:
    decoder = SSEDecoder(max_event_bytes=10_000)
    with pytest.raises(EventTooLargeError, match="more than 10000 bytes"):
        list(map(decoder.decode, [b"data:\n"] * 20_000))
    spare = SSEDecoder(max_event_bytes=1_000)
    for _ in range(20):  # nothing of these is kept
        assert spare.decode(b": x\nid: 1\n" * 1_000) == []


def steps_of(pieces: list[bytes]) -> int:
    """How many lines of the decoder are run for these pieces."""
    steps = 0

    def count(frame: Any, kind: str, argument: Any) -> Any:
        nonlocal steps
        steps += kind == "line"
        return count

    decoder = SSEDecoder()
    before = sys.gettrace()
    sys.settrace(count)
    try:
        for piece in pieces:
            decoder.decode(piece)
    finally:
        sys.settrace(before)
    return steps


@pytest.mark.parametrize("piece", [b"x" * 64, b"\ndata: x", b"data: x\n\n", b"\r", b": x\r\n"])
def test_twice_as_many_pieces_are_twice_the_work(piece: bytes) -> None:
    once, twice = steps_of([b"data: ", *[piece] * 500]), steps_of([b"data: ", *[piece] * 1000])
    assert twice < 2.1 * once


def test_a_long_line_is_joined_once() -> None:
    """Bytes that were held are not copied again for each piece that follows them."""
    decoder = SSEDecoder()
    tracemalloc.start()
    try:
        for _ in range(2_000):
            decoder.decode(b"data: " + b"x" * 1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 2_000 * 1_100
