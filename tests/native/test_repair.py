"""Native streams and messages, mended: as engines send them, and for any order of events."""

import contextlib
import json
import sys
from collections.abc import Iterable
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.errors import ErrorType, UpstreamError
from llama_stack_messages_provider.native import blocks
from llama_stack_messages_provider.native.message import repair_message
from llama_stack_messages_provider.native.repair import StreamRepair
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder
from tests.support import sse
from tests.support.fixtures import sse_bytes, sse_names
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import (
    Json,
    anthropic_message,
    anthropic_stream,
    text_block,
    thinking_block,
    tool_use_block,
)

steady = settings(deadline=None, max_examples=200)

MESSAGE_START: Json = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 1},
    },
}
MESSAGE_DELTA: Json = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"output_tokens": 5},
}
MESSAGE_STOP: Json = {"type": "message_stop"}
PING: Json = {"type": "ping"}
ENDING = (MESSAGE_DELTA, MESSAGE_STOP)


def start(index: int, kind: str, **fields: Any) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}}


def text_start(index: int) -> Json:
    return start(index, "text", text="")


def thinking_start(index: int) -> Json:
    return start(index, "thinking", thinking="", signature="")


def call_start(index: int, name: str) -> Json:
    return start(index, "tool_use", id=f"toolu_{name}", name=name, input={})


def delta(index: int, kind: str, **fields: Any) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def text(index: int, said: str) -> Json:
    return delta(index, "text_delta", text=said)


def thinking(index: int, said: str) -> Json:
    return delta(index, "thinking_delta", thinking=said)


def signature(index: int, value: str) -> Json:
    return delta(index, "signature_delta", signature=value)


def arguments(index: int, part: str) -> Json:
    return delta(index, "input_json_delta", partial_json=part)


def stop(index: int) -> Json:
    return {"type": "content_block_stop", "index": index}


def sign(said: str) -> str:
    return f"signed:{said}"


def repairer(**options: Any) -> StreamRepair:
    return StreamRepair(sign, **{"message_id": "msg_ours", "model": "m", **options})


def mended(message: Json, **options: Any) -> Json:
    return repair_message(message, sign, **{"message_id": "msg_ours", "model": message.get("model", "m"), **options})


def repaired(events: Iterable[Json]) -> list[Json]:
    repair = repairer()
    out = [made for event in events for made in repair.feed(event)]
    return out + repair.close()


# --- the laws ---

SAID = st.text(max_size=6)
UNKNOWN = st.sampled_from([PING, {"type": "x_news", "index": 9, "of": ["tomorrow"]}])


@st.composite
def _deltas(draw: st.DrawFn, kind: str, index: int) -> list[Json]:
    parts = draw(st.lists(SAID, max_size=4))
    match kind:
        case "text":
            cited = {"type": "char_location", "cited_text": "c"}
            more = [delta(index, "citations_delta", citation=cited)] if draw(st.booleans()) else []
            return [text(index, part) for part in parts] + more
        case "thinking":
            return [*(thinking(index, part) for part in parts), signature(index, "c2ln")]
        case "tool_use" | "server_tool_use":
            return [arguments(index, part) for part in ("", *parts)]
        case _:
            return []


def _opening(kind: str, index: int) -> Json:
    match kind:
        case "text":
            return text_start(index)
        case "thinking":
            return thinking_start(index)
        case "tool_use" | "server_tool_use":
            return start(index, kind, id=f"id_{index}", name=f"n{index}", input={}, caller={"type": "direct"})
        case "redacted_thinking":
            return start(index, kind, data="opaque")
        case _:
            return start(index, kind, content=[{"new": True}])


KINDS = ("text", "thinking", "tool_use", "server_tool_use", "redacted_thinking", "web_search_tool_result", "x_new")


@st.composite
def well_formed_streams(draw: st.DrawFn) -> list[Json]:
    """Streams that break nothing, with unknown events, fields, blocks and several message_deltas."""
    events: list[Json] = [{**MESSAGE_START, "x_extra": 1}]
    for index, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), max_size=5))):
        events += [_opening(kind, index), *draw(_deltas(kind, index)), {**stop(index), "x_extra": None}]
    ending = [{**MESSAGE_DELTA, "x_extra": [1]}] * draw(st.integers(1, 2))
    error = {"type": "error", "error": {"type": draw(st.sampled_from(get_args(ErrorType))), "message": "m"}}
    last = draw(st.sampled_from([MESSAGE_STOP, error]))
    events += [*ending, last]
    for _ in range(draw(st.integers(0, 3))):
        events.insert(draw(st.integers(1, len(events) - 1)), draw(UNKNOWN))
    return events


@steady
@given(well_formed_streams())
def test_what_needs_no_repair_comes_out_equal_event_by_event(events: list[Json]) -> None:
    repair = repairer()
    assert [repair.feed(event) for event in events] == [[event] for event in events]
    assert repair.close() == []
    assert repair.finished
    assert repair.lost == 0


@steady
@given(well_formed_streams(), st.booleans(), st.data())
def test_what_needs_no_repair_keeps_its_bytes_however_they_are_cut(
    events: list[Json], spaced: bool, data: st.DataObject
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    frames = [f"event: {e['type']}\ndata: {json.dumps(e, separators=separators)}\n\n".encode() for e in events]
    raw = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    repair, decoder = repairer(), SSEDecoder()
    pieces = [raw[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert b"".join(repair.mended(event) for piece in pieces for event in decoder.decode(piece)) == raw


@pytest.mark.parametrize("data", [b"<html>", b"[1]", b"null", b'{"type":'])
def test_what_no_client_can_read_is_told(data: bytes) -> None:
    with pytest.raises(UpstreamError, match="an event that is not JSON"):
        repairer().mended(ServerSentEvent(b"x", data))


@pytest.mark.parametrize("data", [b"", b" ", b"[DONE]"])
def test_what_says_nothing_makes_nothing(data: bytes) -> None:
    assert repairer().mended(ServerSentEvent(b"x", data)) == b""


def test_halves_of_a_character_in_two_events_become_one() -> None:
    repair = repairer()
    raw = orjson.dumps(text(0, "X")).replace(b"X", b"%s")
    out = b"".join(
        repair.mended(ServerSentEvent(b"content_block_delta", raw % half)) for half in (rb"\ud83d", rb"\ude00")
    )
    assert "".join(event["delta"]["text"] for event in sse.events(out) if "delta" in event) == "😀"


def calls_in_parallel(count: int) -> int:
    """How many lines are run for calls whose fragments come by turns."""
    steps = 0

    def counted(frame: Any, kind: str, argument: Any) -> Any:
        nonlocal steps
        steps += kind == "line"
        return counted

    events = [MESSAGE_START, *(call_start(index, f"n{index}") for index in range(count))]
    events += [arguments(index, part) for part in ("{", "}") for index in range(count)]
    events += [*(stop(index) for index in range(count)), *ENDING]
    before = sys.gettrace()
    sys.settrace(counted)
    try:
        out = repaired(events)
    finally:
        sys.settrace(before)
    assert len(calls(out)) == count
    return steps


def test_twice_as_many_calls_in_parallel_are_twice_the_work() -> None:
    assert calls_in_parallel(400) < 2.1 * calls_in_parallel(200)


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_HELD_EVENTS", 10)
    repair = repairer()
    repair.feed(MESSAGE_START)
    repair.feed(call_start(0, "a"))
    for index in range(1, 11):
        repair.feed(call_start(index, "b"))
    with pytest.raises(UpstreamError, match="than can be held"):
        repair.feed(call_start(11, "b"))


def test_an_event_without_its_name_gets_it() -> None:
    (received,) = SSEDecoder().decode(b"data: " + orjson.dumps(MESSAGE_START) + b"\n\n")
    assert repairer().mended(received).startswith(b"event: message_start\ndata: ")


@st.composite
def overlapping_streams(draw: st.DrawFn) -> list[Json]:
    """Blocks whose events interleave in any way, with stops where they belong, at the end, or nowhere."""
    lanes: list[list[Json]] = []
    for index, kind in enumerate(draw(st.lists(st.sampled_from(KINDS[:3]), min_size=1, max_size=5))):
        closing = [stop(index)] if draw(st.booleans()) else []
        lanes.append([_opening(kind, index), *draw(_deltas(kind, index)), *closing])
    merged: list[Json] = []
    while lanes:
        lane = draw(st.sampled_from(lanes))
        merged.append(lane.pop(0))
        lanes = [lane for lane in lanes if lane]
    return [MESSAGE_START, *merged, *ENDING]


def said(events: list[Json], kind: str, field: str) -> str:
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(delta[field] for delta in deltas if delta["type"] == kind)


def calls(events: list[Json]) -> dict[str, str]:
    """Each call's arguments, by its id; whatever index it has."""
    found: dict[str, str] = {}
    ids: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_start" and "id" in event["content_block"]:
            ids[event["index"]] = event["content_block"]["id"]
            found[event["content_block"]["id"]] = ""
        elif event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            found[ids[event["index"]]] += event["delta"]["partial_json"]
    return found


@steady
@given(overlapping_streams())
def test_blocks_that_overlap_come_out_in_sequence_and_nothing_is_lost(events: list[Json]) -> None:
    repair = repairer()
    out = [made for event in events for made in repair.feed(event)]
    assert_well_formed(out)
    assert repair.lost == 0
    assert calls(out) == calls(events)
    assert said(out, "text_delta", "text") == said(events, "text_delta", "text")
    assert said(out, "thinking_delta", "thinking") == said(events, "thinking_delta", "thinking")
    opened = [event["content_block"] for event in out if event["type"] == "content_block_start"]
    assert sum(block["type"] == "tool_use" for block in opened) == len(calls(events))
    signatures = [event["delta"]["signature"] for event in out if "signature" in event.get("delta", {})]
    assert len(signatures) == sum(block["type"] == "thinking" for block in opened)
    assert all(signatures)


ANY_EVENT = st.one_of(
    st.sampled_from([MESSAGE_START, *ENDING, PING, {"type": "message_start"}, {"type": "message_delta"}]),
    st.builds(_opening, st.sampled_from(KINDS[:3]), st.integers(0, 2)),
    st.builds(lambda i, kind: start(i, kind), st.integers(0, 2), st.sampled_from(["text", "thinking"])),
    st.builds(text, st.integers(0, 2), SAID),
    st.builds(thinking, st.integers(0, 2), SAID),
    st.builds(signature, st.integers(0, 2), SAID),
    st.builds(arguments, st.integers(0, 2), SAID),
    st.builds(stop, st.integers(0, 2)),
    st.just({"type": "content_block_stop"}),
    st.just({"type": "content_block_delta"}),
    st.just({"error": {"message": "broke"}}),
)


@settings(steady, max_examples=600)
@given(st.lists(ANY_EVENT, max_size=14))
def test_any_events_in_any_order_make_a_stream_that_obeys_the_grammar(events: list[Json]) -> None:
    repair = repairer(model="client-name")
    out = [made for event in events for made in repair.feed(event)]
    # A stream may end without a reason given: the upstream's own message_delta said none.
    assert_well_formed([event for event in out if event["type"] != "message_stop"], complete=False)
    assert repair.finished == bool(out and out[-1]["type"] in ("message_stop", "error"))


# --- overlap, step by step ---


def test_a_block_is_closed_when_text_or_thinking_gives_way_to_another_block() -> None:
    repair = repairer()
    repair.feed(MESSAGE_START)
    assert repair.feed(thinking_start(0)) == [thinking_start(0)]
    assert repair.feed(thinking(0, "hm")) == [thinking(0, "hm")]
    assert repair.feed(text_start(1)) == [signature(0, "signed:hm"), stop(0), text_start(1)]
    assert repair.feed(text(1, "hi")) == [text(1, "hi")]
    assert repair.feed(signature(0, "")) == []
    assert repair.feed(stop(0)) == []
    assert repair.feed(stop(1)) == [stop(1)]


def test_late_text_goes_on_in_a_new_block() -> None:
    out = repaired([MESSAGE_START, text_start(0), text(0, "a"), thinking_start(1), text(0, "b"), *ENDING])
    assert fold(out)["content"] == [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "", "signature": "signed:"},
        {"type": "text", "text": "b"},
    ]


def test_a_call_stays_open_while_other_blocks_wait_for_it() -> None:
    repair = repairer()
    repair.feed(MESSAGE_START)
    assert repair.feed(call_start(0, "a")) == [call_start(0, "a")]
    assert repair.feed(call_start(1, "b")) == []
    assert repair.feed(arguments(1, "{}")) == []
    assert repair.feed(text_start(2)) == []
    assert repair.feed(text(2, "x")) == []
    assert repair.feed(arguments(0, "{")) == [arguments(0, "{")]
    assert repair.feed(PING) == [PING]
    assert repair.feed(stop(0)) == [stop(0), call_start(1, "b"), arguments(1, "{}")]
    assert repair.feed(stop(2)) == []
    assert repair.feed(MESSAGE_DELTA) == [stop(1), text_start(2), text(2, "x"), stop(2), MESSAGE_DELTA]


def test_text_that_carries_the_open_calls_index_gets_a_block_of_its_own() -> None:
    events = [call_start(0, "a"), text(0, "x"), arguments(0, "{}"), stop(0), text(0, "y")]
    out = repaired([MESSAGE_START, *events, *ENDING])
    assert_well_formed(out)
    assert fold(out)["content"] == [tool_use_block("a"), {"type": "text", "text": "xy"}]


def test_a_thinking_delta_in_a_text_block_gets_a_block_of_its_own() -> None:
    """The SDK drops a delta that does not fit its block, in silence."""
    out = repaired([MESSAGE_START, text_start(0), text(0, "a"), thinking(0, "b"), stop(0), *ENDING])
    assert_well_formed(out)
    assert [block["type"] for block in fold(out)["content"]] == ["text", "thinking"]


def test_two_calls_that_share_an_index_are_two_blocks() -> None:
    events = [call_start(0, "a"), arguments(0, '{"n":1}'), call_start(0, "b"), arguments(0, '{"n":2}')]
    out = repaired([MESSAGE_START, *events, *ENDING])
    assert_well_formed(out)
    assert fold(out)["content"] == [tool_use_block("a", {"n": 1}), tool_use_block("b", {"n": 2})]


def test_indexes_with_gaps_become_contiguous() -> None:
    out = repaired([MESSAGE_START, text_start(3), text(3, "a"), stop(3), call_start(7, "b"), stop(7), *ENDING])
    assert_well_formed(out)
    assert fold(out)["content"] == [{"type": "text", "text": "a"}, tool_use_block("b")]


def test_a_block_that_was_never_started_is_started() -> None:
    out = repaired([MESSAGE_START, text(0, "a"), thinking(1, "b"), *ENDING])
    assert_well_formed(out)
    assert [block["type"] for block in fold(out)["content"]] == ["text", "thinking"]


def test_fragments_of_a_call_that_is_closed_or_unknown_are_counted_as_lost() -> None:
    repair = repairer()
    for event in (MESSAGE_START, arguments(0, "{"), call_start(1, "a"), stop(1), arguments(1, "}")):
        repair.feed(event)
    assert repair.lost == 2


def test_many_nested_calls_do_not_exhaust_the_stack() -> None:
    count = 1500
    starts = [call_start(index, f"n{index}") for index in range(count)]
    out = repaired([MESSAGE_START, *starts, *(stop(index) for index in reversed(range(count))), *ENDING])
    assert_well_formed(out)
    assert len(calls(out)) == count


# --- engines ---


def llama_cpp_stream() -> list[Json]:
    """Thinking, text and two calls; every block stops at the end, the last chunk starts two blocks again."""
    return [
        MESSAGE_START,
        start(0, "thinking", thinking=""),
        thinking(0, "Let me "),
        thinking(0, "see."),
        start(1, "text", text=""),
        text(1, "I will"),
        start(2, "tool_use", id="a1", name="look"),
        arguments(2, '{"at":'),
        arguments(2, '"sky"}'),
        start(3, "tool_use", id="a2", name="listen"),
        start(1, "text", text=""),
        text(1, " look."),
        start(3, "tool_use", id="a2", name="listen"),
        arguments(3, "{}"),
        signature(0, ""),
        stop(0),
        stop(1),
        stop(2),
        stop(3),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 30},
        },
        MESSAGE_STOP,
    ]


def test_llama_cpp_overlapping_blocks() -> None:
    out = repaired(llama_cpp_stream())
    assert_well_formed(out)
    message = fold(out)
    assert message["content"] == [
        thinking_block("Let me see.", "signed:Let me see."),
        text_block("I will"),
        tool_use_block("look", {"at": "sky"}, id="a1"),
        tool_use_block("listen", {}, id="a2"),
        text_block(" look."),
    ]
    assert message["stop_reason"] == "tool_use"


def test_llama_cpp_streams_text_and_the_first_call_live() -> None:
    repair = repairer()
    for event in llama_cpp_stream()[:9]:
        assert repair.feed(event), event


def test_llama_cpp_says_where_it_stopped_but_not_that_it_did() -> None:
    ended = {"stop_reason": "end_turn", "stop_sequence": "###"}
    out = repaired([MESSAGE_START, {**MESSAGE_DELTA, "delta": ended}, MESSAGE_STOP])
    assert fold(out)["stop_reason"] == "stop_sequence"
    assert fold(out)["stop_sequence"] == "###"


def test_llama_cpp_sends_its_error_object_bare() -> None:
    repair = repairer(request_id="req_1")
    repair.feed(MESSAGE_START)
    raw = {"code": 500, "message": "Compute error.", "type": "server_error"}
    assert repair.feed(raw, name="error") == [
        {"type": "error", "error": {"type": "api_error", "message": "Compute error."}, "request_id": "req_1"}
    ]
    assert repair.finished
    assert repair.feed(MESSAGE_STOP) == []


def test_llama_cpp_tells_a_full_context_in_its_own_words() -> None:
    raw = {
        "code": 400,
        "message": "the request exceeds the available context size, try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 900,
        "n_ctx": 512,
    }
    (error,) = repairer().feed(raw)
    assert error["error"] == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 900 tokens > 512 maximum",
    }


def test_vllm_names_its_errors_itself() -> None:
    (error,) = repairer().feed({"type": "error", "error": {"type": "internal_error", "message": "gone"}})
    assert error["error"] == {"type": "api_error", "message": "gone"}


def test_sglang_leaves_nulls_out_and_sends_message_stop_after_an_error() -> None:
    bare = {name: value for name, value in MESSAGE_START["message"].items() if value is not None}
    error = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
    events = [
        {**MESSAGE_START, "message": bare},
        start(0, "thinking", thinking=""),
        thinking(0, "hm"),
        stop(0),
        error,
        MESSAGE_STOP,
    ]
    assert repaired(events) == [
        MESSAGE_START,
        thinking_start(0),
        thinking(0, "hm"),
        signature(0, "signed:hm"),
        stop(0),
        error,
    ]


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"error": {"message": "no", "code": 503}}, ""),
        ({"error": "no"}, "error"),
        ({"message": "no"}, ""),
        ({"type": "error", "error": {"type": "rate_limit_error"}}, ""),
        ({"type": "error"}, ""),
        ({"anything": 1}, "error"),
    ],
)
def test_errors_of_any_shape_are_put_in_the_envelope(event: Json, name: str) -> None:
    (out,) = repairer(request_id="req_1").feed(event, name)
    assert out["type"] == "error"
    assert out["request_id"] == "req_1"
    assert out["error"]["type"] in get_args(ErrorType)
    assert out["error"]["message"]


# --- recorded streams ---

CUT = {"ollama_cut_without_an_error", "broken_cut_mid_frame", "broken_not_json"}
UNKNOWN_EVENTS = {"anthropic_unknown_event_and_fields"}


def recorded(name: str) -> list[tuple[Json, str]]:
    """The events of a fixture, as the native route reads them."""
    decoder = SSEDecoder()
    events = []
    for event in [*decoder.decode(sse_bytes(name)), *decoder.flush()]:
        with contextlib.suppress(orjson.JSONDecodeError):
            events.append((orjson.loads(event.data), event.event.decode()))
    return [pair for pair in events if isinstance(pair[0], dict)]


@pytest.mark.parametrize("name", sse_names())
def test_recorded_streams_obey_the_laws_once_mended(name: str) -> None:
    repair = repairer(model="client-name")
    out = [made for event, sse_name in recorded(name) for made in repair.feed(event, sse_name)]
    assert repair.finished == (name not in CUT)
    assert repair.lost == 0
    if name not in UNKNOWN_EVENTS:
        assert_well_formed(out, complete=name not in CUT)


@pytest.mark.parametrize("name", [name for name in sse_names("anthropic") if name != "anthropic_crlf"])
def test_recorded_streams_of_anthropic_are_not_changed(name: str) -> None:
    events = [event for event, _ in recorded(name)]
    repair = repairer(model=events[0]["message"]["model"])
    assert [made for event in events for made in repair.feed(event)] == events


# --- fields ---


@pytest.mark.parametrize(
    ("block", "reason"), [(text_start(0), "end_turn"), (call_start(0, "look"), "tool_use")], ids=["text", "call"]
)
def test_a_message_that_ends_without_a_reason_gets_one(block: Json, reason: str) -> None:
    unsaid: Json = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}
    told = {**MESSAGE_DELTA, "delta": {"stop_reason": "max_tokens", "stop_sequence": None}}
    out = repaired([MESSAGE_START, block, stop(0), unsaid, told, unsaid, MESSAGE_STOP])
    assert [event["delta"]["stop_reason"] for event in out[-4:-1]] == [reason, "max_tokens", "max_tokens"]


def test_a_message_start_is_completed() -> None:
    out = repaired([{"type": "message_start", "message": {"model": "m"}}, *ENDING])
    assert_well_formed(out)
    assert out[0]["message"]["id"] == "msg_ours"
    assert out[0]["message"]["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_a_missing_message_start_is_made_and_a_second_one_is_dropped() -> None:
    out = repaired([PING, text_start(0), text(0, "a"), MESSAGE_START, stop(0), *ENDING])
    assert_well_formed(out)
    assert [event["type"] for event in out].count("message_start") == 1


def test_the_model_is_the_name_that_the_client_used() -> None:
    repair = repairer(model="claude-x")
    (event,) = repair.feed(MESSAGE_START)
    assert event == {**MESSAGE_START, "message": {**MESSAGE_START["message"], "model": "claude-x"}}


def test_skeletons_are_filled_and_citations_stay() -> None:
    cited = start(0, "text", citations=[{"type": "char_location"}])
    out = repaired([MESSAGE_START, cited, stop(0), start(1, "tool_use", id="", name="n"), *ENDING])
    assert_well_formed(out)
    first, second = (event["content_block"] for event in out if event["type"] == "content_block_start")
    assert first == {"type": "text", "citations": [{"type": "char_location"}], "text": ""}
    assert second == {"type": "tool_use", "id": "toolu_1_1", "name": "n", "input": {}}


def test_what_a_start_carries_already_is_moved_into_deltas() -> None:
    """Claude Code reads a call's input from its deltas only, and runs the tool with {} otherwise."""
    events = [
        start(0, "thinking", thinking="hm", signature="given"),
        stop(0),
        start(1, "text", text="Hel"),
        text(1, "lo"),
        stop(1),
        start(2, "tool_use", id="t", name="n", input={"a": 1}),
        arguments(2, ""),
        stop(2),
        start(3, "tool_use", id="u", name="n", input={"a": 1}),
        arguments(3, '{"b":2}'),
    ]
    out = repaired([MESSAGE_START, *events, *ENDING])
    assert_well_formed(out)
    assert fold(out)["content"] == [
        thinking_block("hm", "given"),
        text_block("Hello"),
        tool_use_block("n", {"a": 1}, id="t"),
        tool_use_block("n", {"b": 2}, id="u"),
    ]


def test_an_upstreams_signature_is_kept() -> None:
    events = [MESSAGE_START, thinking_start(0), thinking(0, "a"), signature(0, "theirs"), stop(0), *ENDING]
    assert repaired(events) == events


def test_missing_stops_come_before_message_delta() -> None:
    out = repaired([MESSAGE_START, text_start(0), text(0, "a"), *ENDING])
    assert out == [MESSAGE_START, text_start(0), text(0, "a"), stop(0), *ENDING]


def test_output_tokens_are_never_missing() -> None:
    out = repaired([MESSAGE_START, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, MESSAGE_STOP])
    assert_well_formed(out)
    assert out[1]["usage"] == {"output_tokens": 1}
    assert out[1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}


# --- the end ---


def test_nothing_is_invented_for_a_stream_that_was_cut() -> None:
    for events in ([MESSAGE_START, call_start(0, "a"), text_start(1), text(1, "x")], [MESSAGE_START, MESSAGE_STOP]):
        repair = repairer()
        out = [made for event in events for made in repair.feed(event)] + repair.close()
        assert out == events[: len(out)]
        assert not repair.finished
        assert all(event["type"] not in ("message_delta", "message_stop") for event in out)
        assert repair.feed(text(1, "y")) == []


def test_content_after_message_delta_is_counted_as_lost() -> None:
    repair = repairer()
    for event in (MESSAGE_START, text_start(0), text(0, "a"), MESSAGE_DELTA):
        repair.feed(event)
    assert repair.feed(stop(0)) == []
    assert repair.feed(text(0, "b")) == []
    assert repair.lost == 1
    assert repair.feed(MESSAGE_STOP) == [MESSAGE_STOP]


# --- whole messages ---


def test_a_whole_message_that_lacks_nothing_is_the_same_object() -> None:
    message = anthropic_message([thinking_block("a"), text_block("b"), tool_use_block("c", {"d": 1})])
    assert mended(message) is message


def test_a_whole_message_is_completed() -> None:
    bare: Json = {
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "thinking", "thinking": "so"},
            {"type": "tool_use", "id": "a", "name": "b"},
            {"type": "x_new", "kept": True},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": "###",
        "usage": {"input_tokens": 3},
        "x_extra": 1,
    }
    assert mended(bare, message_id="msg_1") == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "signed:hm"},
            {"type": "thinking", "thinking": "so", "signature": "signed:so"},
            {"type": "tool_use", "id": "a", "name": "b", "input": {}},
            {"type": "x_new", "kept": True},
        ],
        "stop_reason": "stop_sequence",
        "stop_sequence": "###",
        "usage": {"input_tokens": 3, "output_tokens": 0},
        "x_extra": 1,
    }


def test_an_upstreams_id_is_kept_and_its_model_is_exchanged_when_told() -> None:
    message = {**anthropic_message("hi"), "id": "chatcmpl-1"}
    assert mended(message)["id"] == "chatcmpl-1"
    assert mended(message, model="claude-x") == {**message, "model": "claude-x"}


@pytest.mark.parametrize("piece", [1, 100])
def test_a_repaired_stream_folds_to_the_repaired_message(piece: int) -> None:
    content = [
        {"type": "thinking", "thinking": "Let me see.", "signature": ""},
        text_block("Here it is."),
        tool_use_block("look", {"at": "sky"}),
    ]
    message = anthropic_message(content, stop_reason="tool_use")
    streamed = fold(repaired(anthropic_stream({**message, "model": "m"}, piece=piece)))
    assert streamed == mended({**message, "model": "m"})
    assert orjson.dumps(streamed)
