"""Every recorded upstream habit, streamed: the laws hold, and the client gets what was meant."""

import re
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from llama_stack_messages_provider.adaptation.upstream_errors import from_event
from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.rewriting.call_ids import decode_call_id
from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.wire.sse import SSEDecoder, encode_all
from tests.support.answers import complaints
from tests.support.fixtures import chunk_bytes, chunk_names, chunks
from tests.support.laws import (
    assert_calls_conserved,
    assert_text_conserved,
    assert_well_formed,
    fold,
    upstream_calls,
)
from tests.support.wire import call_delta, delta, usage_chunk

type Json = dict[str, Any]

STOPS = ("three", "\nHuman:")
MAX_TOKENS = 9
"""The output tokens that most recordings count: a `length` there is this limit."""

OPTIONS: Json = {
    "stop_sequences": STOPS,
    "max_tokens": MAX_TOKENS,
    "sign": lambda thinking, carried="": f"signed:{thinking}{carried}",
}


def events_of(fed: list[Json], **options: Any) -> list[Json]:
    translator = StreamTranslator("msg_1", "claude-x", **{**OPTIONS, **options})
    return [event for chunk in fed for event in translator.feed(chunk)] + translator.close()


# --- what is expected of each recording ---


def text(words: str) -> Json:
    return {"type": "text", "text": words, "citations": None}


def thinking(words: str) -> Json:
    return {"type": "thinking", "thinking": words, "signature": f"signed:{words}"}


def call(name: str, id: str = "call_a", **input: Any) -> Json:
    return {"type": "tool_use", "id": id, "name": name, "input": input, "caller": {"type": "direct"}}


WEATHER = call("get_weather", city="Paris")
TIME = call("get_time", "call_b", zone="CET")
HELLO = [text("Hello")]


@dataclass
class Expected:
    content: list[Json] = field(default_factory=lambda: HELLO)
    stop: str = "end_turn"
    sequence: str | None = None
    tokens: tuple[int, int, int] = (21, 0, 9)
    """Of input, cached input, output."""


EXPECTED: dict[str, Expected] = {
    "openai_text": Expected([text("Hello, world.")], tokens=(21, 0, 4)),
    "openai_parallel_calls": Expected([WEATHER, TIME], "tool_use"),
    "llama_cpp_text": Expected([text("Hello there. I'm here to help")], "max_tokens", tokens=(11, 1, 8)),
    "llama_cpp_reasoning_text_and_calls": Expected(
        [
            thinking("I need the tool.\n"),
            text("Let me look.\n"),
            call("get_weather", "jeVaHS6480EeWU3RevC4bhM2c2U7iGRZ", city="Rome"),
            call("get_time", "jgWn0ZHt0nCIIOz1KRFqGnFcJ2jXZARk", zone="CET"),
        ],
        "tool_use",
        tokens=(789, 0, 83),
    ),
    "llama_cpp_stop_string": Expected([text("Repeat exactly: one two ")], tokens=(15, 3, 6)),
    "vllm_empty_arguments": Expected([call("list_files")], "tool_use"),
    "arguments_null": Expected([call("list_files")], "tool_use"),
    "arguments_missing": Expected([call("list_files")], "tool_use"),
    "parallel_calls_interleaved": Expected([WEATHER, TIME], "tool_use"),
    "parallel_calls_interleaved_in_one_chunk": Expected([WEATHER, TIME], "tool_use"),
    "parallel_calls_late_fragment": Expected([WEATHER, TIME], "tool_use"),
    "parallel_calls_same_index": Expected([WEATHER, TIME], "tool_use"),
    "parallel_calls_same_index_in_fragments": Expected([WEATHER, TIME], "tool_use"),
    "parallel_calls_without_index": Expected([WEATHER, TIME], "tool_use"),
    "parallel_calls_index_gap": Expected([WEATHER, TIME], "tool_use"),
    "parallel_calls_to_one_tool": Expected([WEATHER, {**WEATHER, "id": "call_b"}], "tool_use"),
    "whole_call_in_one_chunk": Expected([WEATHER], "tool_use"),
    "two_whole_calls_in_one_chunk": Expected([WEATHER, TIME], "tool_use"),
    "call_without_id": Expected([{**WEATHER, "id": "toolu_1_0"}, {**TIME, "id": "toolu_1_1"}], "tool_use"),
    "call_id_in_every_fragment": Expected([WEATHER], "tool_use"),
    "call_id_and_name_empty_in_later_fragments": Expected([WEATHER], "tool_use"),
    "call_id_and_name_null_in_later_fragments": Expected([WEATHER], "tool_use"),
    "call_name_in_two_chunks": Expected([WEATHER], "tool_use"),
    "call_name_in_every_fragment": Expected([WEATHER], "tool_use"),
    "call_name_after_id": Expected([WEATHER], "tool_use"),
    "text_then_call": Expected([text("Let me look."), WEATHER], "tool_use"),
    # A call is open until the upstream is done, since fragments may come back to it.
    "text_between_calls": Expected([WEATHER, TIME, text("And now:")], "tool_use"),
    "text_within_a_call": Expected([WEATHER, text("(thinking aloud)")], "tool_use"),
    "finish_stop_with_calls": Expected([WEATHER], "tool_use"),
    "length_mid_call": Expected([call("get_weather")], "max_tokens"),
    "arguments_with_unicode": Expected([call("note", text='Zürich é "x" \\ 😀 ✓')], "tool_use"),
    "reasoning_then_text": Expected([thinking("Let me think..."), text("Hello.")]),
    "reasoning_field_named_reasoning": Expected([thinking("Let me think..."), text("Hello.")]),
    "reasoning_in_both_fields": Expected([thinking("Let me think..."), *HELLO]),
    "reasoning_and_text_null_beside": Expected([thinking("Let me think"), *HELLO]),
    "reasoning_after_text": Expected([text("First."), thinking("Hm."), text(" Second.")]),
    "reasoning_then_call": Expected([thinking("I need the weather."), WEATHER], "tool_use"),
    "reasoning_only": Expected([thinking("Let me think some more")], "max_tokens"),
    "text_and_reasoning_and_call_in_one_chunk": Expected([thinking("Hm."), text("Let me look."), WEATHER], "tool_use"),
    "reasoning_and_text_in_one_chunk": Expected([thinking("Let me think."), *HELLO]),
    "last_text_with_finish": Expected([text("Hello, world.")]),
    "usage_after_finish": Expected(tokens=(21, 0, 2)),
    "usage_in_every_chunk": Expected([text("Hello, world")], tokens=(21, 0, 5)),
    "usage_in_finish_chunk": Expected(tokens=(21, 0, 2)),
    "usage_cached_tokens": Expected(tokens=(21, 1000, 2)),
    "usage_cached_exceeds_prompt": Expected(tokens=(0, 21, 2)),
    "usage_details_null": Expected(tokens=(21, 0, 2)),
    "usage_null_everywhere": Expected(tokens=(21, 0, 2)),
    "no_usage": Expected(tokens=(0, 0, 0)),
    # Whether that was the end is for the reader of the stream to know: it saw `[DONE]` or not.
    "no_finish_reason": Expected(),
    "finish_reason_empty": Expected(),
    "finish_reason_twice": Expected(),
    "finish_reason_unknown": Expected(),
    "length": Expected([text("Hello, wor")], "max_tokens"),
    "content_filter": Expected([text("Well")], "refusal"),
    "stop_string_vllm": Expected([text("One, two")], "stop_sequence", "three"),
    "stop_token_vllm": Expected(),
    "matched_stop_sglang": Expected([text("One, two")], "stop_sequence", "three"),
    "matched_stop_token_sglang": Expected(),
    "stop_string_cut_short_a_call": Expected([call("note")], "stop_sequence", "three"),
    "refusal_field": Expected([text("I cannot help.")], "refusal"),
    "empty_answer": Expected([], tokens=(21, 0, 0)),
    "role_only_first_chunk": Expected(),
    "role_in_every_chunk": Expected(),
    "content_null": Expected(),
    "delta_missing": Expected(),
    "delta_null": Expected(),
    "empty_choices_first": Expected(),
    "two_choices": Expected([text("Hello.")]),
    "keepalive_comments": Expected(),
    "unknown_fields": Expected(),
    "model_changes": Expected(),
    "whitespace_only": Expected([text("\n\n ")]),
    "unicode_text": Expected([text("Zürich e\u0301 שלום 👩‍👩‍👧\u2028x\x00y")]),
}

FAILED = {"abort_sglang": "finish_reason: abort"}
"""Recordings that end without an error, of an engine that gave up."""

ERRORS = {
    "error_mid_stream_vllm": (500, "EngineCore encountered an issue."),
    "error_mid_stream_sglang": (400, "The request was aborted."),
    "error_mid_stream_llama_cpp": (400, "prompt is too long: Context size has been exceeded."),
    "error_first_chunk": (
        400,
        "prompt is too long: This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
    ),
    "error_mid_call": (500, "Internal server error"),
}
"""Recordings that end in an error: status and text of what the client is told."""


def test_every_recording_is_expected() -> None:
    assert {*EXPECTED, *FAILED, *ERRORS} == set(chunk_names())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recording_becomes_the_message_that_was_meant(name: str) -> None:
    expected = EXPECTED[name]

    message = fold(events_of(chunks(name)))

    assert message["content"] == expected.content
    assert (message["stop_reason"], message["stop_sequence"]) == (expected.stop, expected.sequence)
    usage = message["usage"]
    counted = (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"])
    assert counted == expected.tokens


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recording_keeps_the_laws(name: str) -> None:
    fed = chunks(name)

    events = events_of(fed)

    assert_well_formed(events)
    assert_calls_conserved(fed, events)
    assert_text_conserved(fed, events)


@pytest.mark.parametrize("name", EXPECTED)
def test_events_have_every_field_that_the_api_has(name: str) -> None:
    for event in events_of(chunks(name)):
        assert complaints("MessageStreamEvent", event) == []


@pytest.mark.parametrize("name", EXPECTED)
def test_the_sdk_accumulates_the_same_message(name: str) -> None:
    event_type: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    events = events_of(chunks(name))
    snapshot, buffers = None, dict[int, bytes]()

    for event in events:
        parsed = event_type.validate_python(event)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)

    assert snapshot is not None
    folded = fold(events)
    accumulated = snapshot.to_dict()
    assert accumulated["stop_reason"] == folded["stop_reason"]
    assert [without_nulls(block) for block in accumulated["content"]] == [
        without_nulls(block) for block in folded["content"]
    ]
    assert without_nulls(accumulated["usage"]) == without_nulls(folded["usage"])


def without_nulls(fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("size", [1, 3, 1 << 20], ids=["byte by byte", "three bytes", "whole"])
def test_the_wire_changes_nothing_however_it_is_cut(name: str, size: int) -> None:
    upstream = b"".join(chunk_bytes(name))
    events = events_of(chunks(name))

    fed = [orjson.loads(data) for data in decoded(upstream, size) if data != b"[DONE]"]
    sent = [orjson.loads(data) for data in decoded(encode_all(events_of(fed)), size)]

    assert sent == events


def decoded(wire: bytes, size: int) -> list[bytes]:
    decoder = SSEDecoder()
    pieces = (wire[start : start + size] for start in range(0, len(wire), size))
    return [event.data for piece in pieces for event in decoder.decode(piece)]


# --- the same, not streamed ---


def collected(fed: list[Json]) -> Json:
    """The completion that the call without `stream` would have given."""
    choices = [c for chunk in fed for c in chunk["choices"] if c.get("index", 0) == 0]
    deltas = [choice.get("delta") or {} for choice in choices]
    finish: Json = next((c for c in reversed(choices) if c.get("finish_reason")), {})
    calls = [
        {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
        for made in upstream_calls(fed)
    ]
    message = {name: "".join(d.get(name) or "" for d in deltas) or None for name in ("content", "refusal")}
    reasoning = "".join(d.get("reasoning_content") or d.get("reasoning") or "" for d in deltas)
    whole = {**message, "role": "assistant", "reasoning_content": reasoning or None, "tool_calls": calls or None}
    usages = [chunk["usage"] for chunk in fed if chunk.get("usage")]
    choice = {"finish_reason": None, **{k: v for k, v in finish.items() if k != "delta"}, "message": whole}
    return {"choices": [choice], "usage": usages[-1] if usages else None}


def in_one_order(content: list[Json]) -> list[Any]:
    """Thinking and text joined, then the calls: a whole completion does not say how they alternated."""
    joined = ["".join(block[kind] for block in content if block["type"] == kind) for kind in ("thinking", "text")]
    return [*joined, *(block for block in content if block["type"] == "tool_use")]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recording_gives_the_same_message_whole(name: str) -> None:
    fed = chunks(name)

    whole = to_message(collected(fed), message_id="msg_1", model="claude-x", **OPTIONS)

    folded = fold(events_of(fed))
    assert in_one_order(whole["content"]) == in_one_order(folded["content"])
    assert {**whole, "content": None} == {**folded, "content": None}
    assert complaints("Message", whole) == []


# --- failures ---


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_in_the_stream_leaves_an_unfinished_message(name: str) -> None:
    *fed, last = chunks(name)
    translator = StreamTranslator("msg_1", "claude-x")

    events = [event for chunk in fed for event in translator.feed(chunk)]
    failure = from_event(last)

    assert_well_formed([*events, failure.body("req_1")] if events else [], complete=bool(events))
    assert not any(event["type"] == "content_block_stop" for event in events)
    assert not translator.finished
    assert (failure.status, failure.message) == ERRORS[name]


@pytest.mark.parametrize("name", FAILED)
def test_half_an_answer_is_not_told_as_a_whole_one(name: str) -> None:
    with pytest.raises(UpstreamError, match=FAILED[name]):
        events_of(chunks(name))
    with pytest.raises(UpstreamError, match=FAILED[name]):
        to_message(collected(chunks(name)), message_id="msg_1", model="claude-x")


# --- the machine, step by step ---


def test_a_message_starts_once() -> None:
    translator = StreamTranslator("msg_1", "claude-x")

    assert [event["type"] for event in translator.start()] == ["message_start"]
    assert translator.start() == []
    assert [event["type"] for event in translator.feed(delta("Hi"))] == ["content_block_start", "content_block_delta"]


def test_a_start_that_was_sent_by_another_hand_is_not_repeated() -> None:
    translator = StreamTranslator("msg_1", "claude-x")
    translator.started = True

    events = translator.feed(delta("Hi")) + translator.close()

    assert "message_start" not in [event["type"] for event in events]


def test_input_tokens_are_in_the_start_where_progress_tells_them() -> None:
    """llama.cpp's, which tells them again while it reads, and counts all at the end."""
    reading = [{"total": 37, "cache": 30, "processed": done, "time_ms": 0} for done in (30, 37)]
    fed = [{**delta(role="assistant"), "prompt_progress": progress} for progress in reading]
    fed += [delta("Hello"), delta(finish_reason="stop"), usage_chunk(37, 2, cached_tokens=30)]

    events = events_of(fed)

    started, ended = events[0]["message"]["usage"], events[-2]["usage"]
    assert [event["type"] for event in events].count("message_start") == 1
    assert (started["input_tokens"], started["cache_read_input_tokens"], started["output_tokens"]) == (7, 30, 0)
    assert (ended["input_tokens"], ended["cache_read_input_tokens"], ended["output_tokens"]) == (7, 30, 2)


def part(content: Json) -> Json:
    return {"choices": [{"index": 0, "delta": {"content": [content]}, "finish_reason": None}]}


def test_content_in_parts_is_thinking_and_text() -> None:
    """Mistral's, whose models that reason answer so; once the thinking is over, text is a string again."""
    fed = [
        part({"type": "thinking", "thinking": [{"type": "text", "text": "Hm, "}]}),
        part({"type": "thinking", "thinking": [{"type": "text", "text": "yes."}]}),
        part({"type": "text", "text": "Par"}),
        delta("is."),
        delta(finish_reason="stop"),
    ]

    assert fold(events_of(fed))["content"] == [thinking("Hm, yes."), text("Paris.")]


def test_input_tokens_are_in_the_start_where_they_come_early() -> None:
    first = {**delta("", role="assistant"), "usage": {"prompt_tokens": 12, "completion_tokens": 0}}

    [start] = StreamTranslator("msg_1", "claude-x").feed(first)

    assert start["message"]["usage"]["input_tokens"] == 12


def test_text_reaches_the_client_with_the_chunk_that_brings_it() -> None:
    translator = StreamTranslator("msg_1", "claude-x")
    translator.feed(delta("Hel"))

    assert translator.feed(delta("lo")) == [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}}
    ]


def test_arguments_of_the_first_call_reach_the_client_as_they_come() -> None:
    translator = StreamTranslator("msg_1", "claude-x")
    translator.feed(delta(tool_calls=[call_delta(0, id="a", name="look", arguments='{"at"')]))

    assert translator.feed(delta(tool_calls=[call_delta(0, arguments=':"sky"}')])) == [
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": ':"sky"}'},
        }
    ]


def test_a_signature_comes_once_and_last() -> None:
    fed = [delta(reasoning_content="Hm"), delta(reasoning_content="."), delta("Yes", finish_reason="stop")]

    kinds = [event["delta"]["type"] for event in events_of(fed) if event["type"] == "content_block_delta"]

    assert kinds == ["thinking_delta", "thinking_delta", "signature_delta", "text_delta"]


def test_each_thinking_block_signs_its_own_text() -> None:
    fed = [delta(reasoning_content="A"), delta("-"), delta(reasoning_content="B"), delta(finish_reason="stop")]

    signatures = [block["signature"] for block in fold(events_of(fed))["content"] if block["type"] == "thinking"]

    assert signatures == ["signed:A", "signed:B"]


def test_thinking_that_is_not_to_be_shown_leaves_its_signature() -> None:
    fed = [delta(reasoning_content="Hm."), delta("Yes", finish_reason="stop")]

    events = events_of(fed, thinking="omitted")

    assert_well_formed(events)
    assert fold(events)["content"] == [
        {"type": "thinking", "thinking": "", "signature": "signed:{'text': 'Hm.'}"},
        text("Yes"),
    ]


def test_names_are_restored() -> None:
    fed = [delta(tool_calls=[call_delta(0, id="a", name="short", arguments="{}")]), delta(finish_reason="tool_calls")]

    events = events_of(fed, restore=lambda name: {"name": f"{name}_no_more", "toolset_name": "browser"})

    [block] = fold(events)["content"]
    assert (block["name"], block["toolset_name"]) == ("short_no_more", "browser")


def test_a_stop_sequence_that_the_upstream_leaves_in_the_text_is_found() -> None:
    fed = [delta("One, two, th"), delta("ree", finish_reason="stop")]

    message = fold(events_of(fed))

    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "three")
    assert message["content"] == [text("One, two, ")]


def test_usage_is_the_last_that_was_said() -> None:
    first = delta("Hi", usage={"prompt_tokens": 5, "completion_tokens": 1})
    fed = [first, delta(finish_reason="stop"), usage_chunk(5, 2)]
    translator = StreamTranslator("msg_1", "claude-x")

    for chunk in fed:
        translator.feed(chunk)

    assert (translator.usage["input_tokens"], translator.usage["output_tokens"]) == (5, 2)


@pytest.mark.parametrize("given", ["call/with:marks", "functions.look:0", "call_ü", "call_a\n", "toolu_1_lsi1_x"])
def test_an_id_that_anthropic_would_refuse_is_carried_by_one_that_it_takes(given: str) -> None:
    fed = [delta(tool_calls=[call_delta(0, id=given, name="look", arguments="{}")]), delta(finish_reason="tool_calls")]

    [block] = fold(events_of(fed))["content"]

    assert re.fullmatch("toolu_1_0_lsi1_[a-zA-Z0-9_-]+", block["id"])
    assert decode_call_id(block["id"], "") == (given, {})


def test_arguments_that_come_parsed_are_written_as_json() -> None:
    fragment = {"index": 0, "id": "a", "function": {"name": "look", "arguments": {"at": "é"}}}

    [block] = fold(events_of([delta(tool_calls=[fragment]), delta(finish_reason="tool_calls")]))["content"]

    assert block["input"] == {"at": "é"}


def test_a_translator_that_was_never_fed_gives_an_empty_message() -> None:
    events = StreamTranslator("msg_1", "claude-x").close()

    assert_well_formed(events)
    assert fold(events)["content"] == []
