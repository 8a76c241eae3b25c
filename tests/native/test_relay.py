"""The byte relay: nothing changes but the model's name, and every piece ends where an event ends."""

import re
from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.native.relay import Relay
from llama_stack_messages_provider.wire.sse import PING, EventTooLargeError, encode_all
from tests.support import sse
from tests.support.fixtures import sse_bytes, sse_names
from tests.support.wire import Json, anthropic_message, anthropic_stream

steady = settings(deadline=None, max_examples=300)

EVENTS = anthropic_stream({**anthropic_message("event: message_stop\n\ndata: hi"), "model": "up"})
STREAM = encode_all(EVENTS)
FRAMES = [frame + b"\n\n" for frame in STREAM.split(b"\n\n")[:-1]]


def relayed(relay: Relay, pieces: Iterable[bytes]) -> bytes:
    out = [relay.feed(piece) for piece in pieces]
    for made in out:
        assert not made or re.search(rb"\n\r?\n\Z", made) or not made.strip(), made
    return b"".join(out)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The bytes in any number of pieces, empty ones included."""
    at = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[begin:end] for begin, end in zip([0, *at], [*at, len(data)], strict=True)]


LINE = st.sampled_from([b"\n", b"\r\n"])
FRAME = st.sampled_from(
    [
        b"event: content_block_delta|data: {}||",
        b'event: x|data: {"type":"x","text":"\\n\\nevent: message_stop"}||',
        b'id: 7|event: x|data: {"a":|data: 2}||',
        b": note|event: x|data: {}||",
        b'event: message_start|data: {"type":"message_start","message":{"model":"up"}}||',
        b"event: message_stop|data: {}||",
    ]
)
START = b"event: message_start"
NOTHING = st.sampled_from([b": keep-alive||", b":||", b"|", b"data: [DONE]||", b"data:||", b"id: 7||"])


def expected(frames: list[tuple[bytes, bool]]) -> bytes:
    """What comes out of events, of which some say nothing: one start, and nothing after the end."""
    out: list[bytes] = []
    for frame, says in frames:
        if says and not (
            b"event: message_start" in frame and any(each.startswith(b"event: message_start") for each in out)
        ):
            out.append(frame)
        if frame.startswith(b"event: message_stop"):
            break
    return b"".join(out)


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[bytes, bool]]:
    """Events of any kind and whether they say something, lines ending either way even within one stream."""
    frame = st.tuples(FRAME, st.just(True)) | st.tuples(NOTHING, st.just(False))
    frames = draw(st.lists(st.tuples(frame, LINE), max_size=8))
    return [(frame.replace(b"|", end), says) for (frame, says), end in frames]


@steady
@given(st.data())
def test_bytes_are_the_same_in_any_pieces(data: st.DataObject) -> None:
    frames = data.draw(streams())
    stream = b"".join(frame for frame, _ in frames)
    for model in (None, "up"):
        assert relayed(Relay(model), data.draw(cut(stream))) == expected(frames)


@steady
@given(st.data())
def test_only_the_model_of_message_start_changes_in_any_pieces(data: st.DataObject) -> None:
    stream = STREAM.replace(b"\n", data.draw(LINE))
    relay = Relay("claude-x")
    out = relayed(relay, data.draw(cut(stream)))
    assert out == stream.replace(b'"model":"up"', b'"model":"claude-x"', 1)
    assert relay.started
    assert relay.ended


@steady
@given(st.data())
def test_a_stream_that_is_cut_is_not_ended_and_gives_whole_events(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(STREAM) - len(FRAMES[-1])))
    relay = Relay("up")
    out = relayed(relay, data.draw(cut(STREAM[:at])))
    assert STREAM.startswith(out)
    assert out == b"".join(FRAMES[: out.count(b"\n\n")])
    assert at - len(out) < max(map(len, FRAMES))
    assert not relay.ended
    assert relay.started == (at >= len(FRAMES[0]))


def test_pieces_come_out_as_soon_as_an_event_is_whole() -> None:
    relay = Relay("up")
    for frame in FRAMES:
        assert relay.feed(frame[:-1]) == b""
        assert relay.feed(frame[-1:]) == frame


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"type":"message_start","message":{"model" : "up","usage":{"model":"up"}}}\n\n',
        b'data: {"model":"up","type":"message_start","message":{"usage":{"model":"up"},"model":"up"}}\n\n',
        b'data: {"type":"message_start","message":{"x":"\\"model\\":\\"up\\"","model":"a\\"b"}}\n\n',
        b'data: {"type":"message_start",\ndata: "message":{"model":"up"}}\n\n',
        b'data: {"type":"message_start","message":{"mod\\u0065l":"up"}}\n\n',
    ],
)
def test_the_right_model_is_found_whatever_surrounds_it(frame: bytes) -> None:
    ((_, before),) = sse.parse(frame)
    ((_, after),) = sse.parse(Relay('new "name"').feed(frame))
    assert after == {**before, "message": {**before["message"], "model": 'new "name"'}}


@pytest.mark.parametrize(
    "frame",
    [
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m"}}\n\n',
        b'event: message_start\ndata: {"type":"message_start"}\n\n',
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"\\"message_start\\""}}\n\n',
    ],
)
def test_what_has_no_model_is_left_alone(frame: bytes) -> None:
    assert Relay("new").feed(frame) == frame


def test_only_the_first_message_start_comes_out() -> None:
    assert Relay("new").feed(b": hi\n\n" + FRAMES[0] * 2) == FRAMES[0].replace(b'"model":"up"', b'"model":"new"')


def test_the_name_is_exchanged_behind_an_event_that_only_mentions_message_start() -> None:
    odd = b'event: x\ndata: {"x":"message_start"}\n\n'
    out = Relay("new").feed(odd + FRAMES[0])
    assert out == odd + FRAMES[0].replace(b'"model":"up"', b'"model":"new"')


@pytest.mark.parametrize("name", sse_names("anthropic"))
def test_recorded_streams_are_relayed_byte_for_byte(name: str) -> None:
    raw = sse_bytes(name)
    for size in (1, 7, 64, len(raw)):
        relay = Relay("claude-opus-4-8", ping=PING)
        pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert relayed(relay, pieces) == re.sub(rb'"model":"[^"]*"', b'"model":"claude-opus-4-8"', raw, count=1)
        assert relay.ended


@pytest.mark.parametrize("name", ["ollama_cut_without_an_error", "broken_cut_mid_frame"])
def test_recorded_streams_that_were_cut_are_known_to_be(name: str) -> None:
    relay = Relay()
    relay.feed(sse_bytes(name))
    relay.close()
    assert not relay.ended


# --- the end ---


@pytest.mark.parametrize(
    ("last", "ended"),
    [
        (b'event: message_stop\ndata: {"type":"message_stop"}\n\n', True),
        (b'event:message_stop\r\ndata: {"type":"message_stop"   }\r\n\r\n', True),
        (b'data: {"type":"message_stop"}\n\n', True),
        (b'id: 1\nevent: error\ndata: {"code":500}\n\n', True),
        (b'data: {"type":"message_stop"}\n\ndata: [DONE]\n\n', True),
        (b"event: message_stop\ndata: {}\n\n: bye\n\n:\n\n\n", True),
        (b"event: error\ndata: " + orjson.dumps({"x": "y" * 5000}) + b"\n\n", True),
        (b"data: [DONE]\n\n", False),
        (b":\n\n", False),
        (b"event: ping\ndata: {}\n\n", False),
        (b'event: x\ndata: {"type":"message_stop"}\n\n', False),
        (b"data: \n\n", False),
        (b"\n\n", False),
        (b"", False),
    ],
)
def test_the_end_is_known_from_the_last_event(last: bytes, ended: bool) -> None:
    relay = Relay()
    relay.feed(FRAMES[0])
    relay.feed(last)
    assert relay.ended is ended


TRAILERS = [
    b"data: [DONE]\n\n",
    b":\n\n",
    b'event: ping\ndata: {"type":"ping"}\n\n',
    FRAMES[0],
    b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"late"}}\n\n',
    b"event: x\ndata: broken\n\n",
]


@pytest.mark.parametrize("trailer", TRAILERS)
@pytest.mark.parametrize("together", [True, False])
def test_nothing_comes_after_the_end(trailer: bytes, together: bool) -> None:
    relay = Relay("up", ping=PING)
    pieces = [STREAM + trailer * 2] if together else [*FRAMES, trailer, trailer]
    assert relayed(relay, pieces) == STREAM
    assert relay.ended
    assert relay.failure is None


def test_a_byte_order_mark_is_taken_off() -> None:
    relay = Relay("up")
    assert relayed(relay, [b"\xef\xbb", b"\xbf" + FRAMES[0][:9], FRAMES[0][9:], *FRAMES[1:]]) == STREAM
    assert relay.ended


BROKEN = [b"{", b"not json", b"[1]", b"7", b'"message_stop"', b'{"type":"x"} {}', b"null"]


@pytest.mark.parametrize("name", [b"event: content_block_delta\n", b"event: message_start\n", b""])
@pytest.mark.parametrize("data", BROKEN)
def test_an_event_that_no_client_can_read_is_told_after_those_before_it(name: bytes, data: bytes) -> None:
    relay = Relay("up")
    broken = name + b"data: " + data + b"\n\n"
    assert relay.feed(FRAMES[0] + FRAMES[1] + broken + FRAMES[3]) == FRAMES[0] + FRAMES[1]
    assert relay.failure is not None
    assert relay.failure.message == "The upstream sent an event that is not JSON"
    assert relay.feed(FRAMES[3]) == b""
    assert not relay.ended


@pytest.mark.parametrize(
    ("kind", "field"), [("content_block_start", "content_block"), ("content_block_delta", "delta")]
)
def test_an_event_whose_parts_are_of_another_type_is_told(kind: str, field: str) -> None:
    relay = Relay("up")
    relay.feed(FRAMES[0])
    assert relay.feed(encode_all([{"type": kind, "index": 0, field: 5}])) == b""
    assert relay.failure is not None


def test_an_event_without_its_name_gets_it() -> None:
    odd = b'data: {"type":["x"]}\n\n'
    assert Relay().feed(odd) == odd
    assert Relay().feed(b'data: {"type":"x"}\n\n') == b'event: x\ndata: {"type":"x"}\n\n'


def test_half_a_character_is_mended() -> None:
    relay = Relay("up")
    relay.feed(FRAMES[0])
    out = relay.feed(b'event: content_block_delta\ndata: {"type":"content_block_delta","t":"\\ud83d!"}\n\n')
    assert sse.events(out) == [{"type": "content_block_delta", "t": "\ufffd!"}]


@pytest.mark.parametrize("line", [b"x" * 1000, b"\rdata: x" * 100, b"data: x\n" * 100])
def test_an_event_that_does_not_end_is_not_held_without_bound(line: bytes) -> None:
    relay = Relay("up", max_event_bytes=10_000)
    with pytest.raises(EventTooLargeError, match="more than 10000 bytes"):
        relayed(relay, [line] * 20)


def test_a_last_event_without_its_blank_line_counts_and_half_an_event_does_not() -> None:
    whole, half = Relay(), Relay()
    whole.feed(STREAM[:-1])
    assert not whole.ended
    assert whole.close() == FRAMES[-1]
    assert whole.ended
    half.feed(STREAM[:-4])
    assert half.close() == b""
    assert not half.ended
    assert Relay().close() == b""


# --- errors and patches ---


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            {"type": "error", "error": {"type": "internal_error", "message": "gone"}},
            {"type": "api_error", "message": "gone"},
        ),
        ({"code": 503, "message": "Loading model", "type": "unavailable_error"}, None),
    ],
)
def test_an_error_in_an_engines_own_shape_is_put_in_the_envelope(data: Json, told: Json | None) -> None:
    relay = Relay(request_id="req_1")
    raw = b"event: error\ndata: %b\n\n" % orjson.dumps(data)
    start, error = sse.events(relay.feed(FRAMES[0] + raw))
    assert start["type"] == "message_start"
    assert error["type"] == "error"
    assert error["request_id"] == "req_1"
    assert error["error"] == (told or {"type": "overloaded_error", "message": "Loading model"})
    assert relay.ended
    assert relay.feed(FRAMES[3]) == b""


@pytest.mark.parametrize(
    "raw",
    [
        b'event: error\ndata: {"type":"error",  "error":{"type":"overloaded_error","message":"Busy"},"x":1}\n\n',
    ],
)
def test_an_error_that_is_anthropics_is_left_alone(raw: bytes) -> None:
    relay = Relay()
    assert relay.feed(raw) == raw
    assert relay.ended


def test_an_error_that_is_not_json_is_told() -> None:
    relay = Relay()
    [error] = sse.events(relay.feed(b"event: error\ndata: not json\n\n"))
    assert error["error"] == {"type": "api_error", "message": "The upstream sent an event that is not JSON"}
    assert relay.ended


def test_what_an_engine_always_gets_wrong_is_patched_but_never_in_text() -> None:
    wrong, right = b'{"type":"thinking","thinking":""}', b'{"type":"thinking","thinking":"","signature":""}'
    relay = Relay(patches=[(wrong, right)])
    frame = b'event: x\ndata: {"type":"x","content_block":%b,"index":0}\n\n'
    said = encode_all([{"type": "x", "text": wrong.decode()}])
    assert relay.feed(frame % wrong + said) == frame % right + said


# --- comments ---


def test_comments_become_pings_once_the_message_has_started() -> None:
    relay = Relay(ping=PING)
    assert relay.feed(b":\n\n") == b""
    relay.feed(FRAMES[0])
    assert relay.feed(b":\n\n") == PING
    assert relay.feed(b": a\r\n: b\r\n\r\n:\n\n" + FRAMES[3]) == PING + FRAMES[3]
    assert relay.feed(FRAMES[3] + b":\n\n") == FRAMES[3] + PING
    within = b": note\nevent: x\ndata: {}\n\n"
    assert relay.feed(within) == within
