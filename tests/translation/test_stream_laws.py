"""The laws of a translated stream, for any chunks in any order."""

import json
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.wire.sse import SSEDecoder, encode_all
from tests.support.laws import assert_calls_conserved, assert_text_conserved, assert_well_formed, fold

type Json = dict[str, Any]

TEXT = st.text(min_size=1, max_size=8)
FINISH = st.sampled_from(["stop", "tool_calls", "length", "content_filter", "function_call"])


def sign(thinking: str) -> str:
    return f"signed:{len(thinking)}"


def chunk(delta: Json, **choice: Any) -> Json:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]}


ARGUMENTS = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-9, 9) | TEXT, max_size=3)


@st.composite
def deltas(draw: st.DrawFn) -> list[Json]:
    """Text, reasoning and fragments of up to three calls, interleaved in any way, the last ones cut off."""
    calls = draw(st.integers(0, 3))
    left = [json.dumps(draw(ARGUMENTS)) for _ in range(calls)]
    opened: set[int] = set()
    out: list[Json] = []
    for _ in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(["text", "reasoning", "reasoning_content", "call", "both"]))
        if kind == "call" and calls:
            index = draw(st.integers(0, calls - 1))
            size = draw(st.integers(0, 12))
            fragment: Json = {"index": index, "function": {"arguments": left[index][:size]}}
            left[index] = left[index][size:]
            if index not in opened:
                opened.add(index)
                fragment["id"] = f"call_{index}"
                fragment["function"]["name"] = f"tool_{index}"
            out.append({"tool_calls": [fragment]})
        elif kind == "both":
            out.append({"content": draw(TEXT), "reasoning_content": draw(TEXT)})
        elif kind == "text":
            out.append({"content": draw(TEXT)})
        elif kind != "call":
            out.append({kind: draw(TEXT)})
    return out


@st.composite
def chunk_streams(draw: st.DrawFn) -> list[Json]:
    """The chunks of a completion, with its finish and its usage where servers put them."""
    chunks = [chunk(delta) for delta in draw(deltas())]
    usage = {"prompt_tokens": draw(st.integers(1, 99)), "completion_tokens": draw(st.integers(0, 99))}
    where = draw(st.sampled_from(["own chunk", "with finish", "nowhere"]))
    last = chunk({}, finish_reason=draw(FINISH))
    if where == "with finish":
        last["usage"] = usage
    chunks.append(last)
    if where == "own chunk":
        chunks.append({"choices": [], "usage": usage})
    return chunks


def events_of(chunks: list[Json], **options: Any) -> list[Json]:
    translator = StreamTranslator("msg_1", "claude-x", sign=sign, **options)
    events = [event for each in chunks for event in translator.feed(each)]
    return events + translator.close()


def collected(chunks: list[Json]) -> Json:
    """The completion that the non-streaming call would have given."""
    message: Json = {"role": "assistant", "content": "", "reasoning_content": ""}
    calls: dict[int, Json] = {}
    finish, usage = None, None
    for each in chunks:
        usage = each.get("usage") or usage
        for choice in each["choices"]:
            finish = choice["finish_reason"] or finish
            delta = choice["delta"]
            message["content"] += delta.get("content", "")
            message["reasoning_content"] += delta.get("reasoning_content", "") or delta.get("reasoning", "")
            for fragment in delta.get("tool_calls", ()):
                call = calls.setdefault(fragment["index"], {"function": {"name": "", "arguments": ""}})
                call["id"] = fragment.get("id", call.get("id"))
                call["function"]["name"] += fragment["function"].get("name", "")
                call["function"]["arguments"] += fragment["function"]["arguments"]
    message["tool_calls"] = list(calls.values())
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


def in_one_order(content: list[Json]) -> list[Json]:
    """Thinking, text, calls, each kind joined: a whole completion does not say how they alternated.

    So it cannot say either that white space at its text's end came alone, after another block, where a stream leaves
    it out.
    """
    thinking = "".join(b["thinking"] for b in content if b["type"] == "thinking")
    text = "".join(b["text"] for b in content if b["type"] == "text")
    if any(b["type"] != "text" for b in content):
        text = text.rstrip()
    return [
        {"thinking": thinking, "text": text},
        *(b for b in content if b["type"] == "tool_use"),
    ]


@given(chunk_streams())
def test_any_chunks_make_a_well_formed_stream(chunks: list[Json]) -> None:
    assert_well_formed(events_of(chunks))


@given(chunk_streams())
def test_every_call_is_one_block_with_all_its_arguments(chunks: list[Json]) -> None:
    assert_calls_conserved(chunks, events_of(chunks))


@given(chunk_streams())
def test_text_and_reasoning_are_conserved(chunks: list[Json]) -> None:
    assert_text_conserved(chunks, events_of(chunks))


@given(chunk_streams())
@example([chunk({"content": "0"}), chunk({"reasoning": "0"}), chunk({"content": " "}), chunk({}, finish_reason="stop")])
def test_folding_the_stream_gives_the_whole_message(chunks: list[Json]) -> None:
    whole = to_message(collected(chunks), message_id="msg_1", model="claude-x", sign=sign)

    folded = fold(events_of(chunks))

    assert in_one_order(folded["content"]) == in_one_order(whole["content"])
    for field in ("id", "model", "role", "stop_reason", "stop_sequence", "usage"):
        assert folded[field] == whole[field], field


@given(chunk_streams(), st.data())
def test_events_survive_the_wire_however_it_is_cut(chunks: list[Json], data: st.DataObject) -> None:
    events = events_of(chunks)
    wire = encode_all(events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    decoder = SSEDecoder()

    decoded = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)
        for event in decoder.decode(wire[start:end])
    ]

    assert [orjson.loads(event.data) for event in decoded] == events
    assert [event.event.decode() for event in decoded] == [event["type"] for event in events]
