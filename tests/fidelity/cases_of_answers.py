"""Cases of what comes back: blocks, deltas, events, stop reasons."""

from tests.fidelity.cases import LOOK, Case, Json, answer
from tests.fidelity.matching import ANY, Has
from tests.support.dialects import MAX_MODEL_LEN
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    call,
    chat_completion,
    completion_usage,
    delta,
    encode_chunks,
    json_reply,
    stream_reply,
)

__all__ = ["ANSWER_CASES"]

THOUGHT = answer("Done.", reasoning_content="Hm, let me see.")
CALLED = answer(tool_calls=[call("look", {"at": "sky"})])
TOOLS: Json = {"tools": [LOOK]}
THINKING: Json = {"thinking": {"type": "adaptive"}}


def block_delta(index: int, kind: str, **fields: object) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def refused(request: RecordedRequest) -> Reply:
    """A refusal in OpenAI's own field."""
    if request.json.get("stream"):
        return stream_reply(encode_chunks([delta(refusal="I will not."), delta(finish_reason="stop")]))
    message = {"role": "assistant", "content": None, "refusal": "I will not."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json_reply({"id": "c", "object": "chat.completion", "choices": [choice], "usage": completion_usage()})


def stopped_at_end(request: RecordedRequest) -> Reply:
    """llama.cpp, which tells the stop sequence it met only where it is asked to be verbose."""
    beside = {"__verbose": {"stopping_word": "END"}} if request.json.get("verbose") else {}
    if request.json.get("stream"):
        return stream_reply(encode_chunks([delta("Hello"), {**delta(finish_reason="stop"), **beside}]))
    return json_reply({**chat_completion("Hello"), **beside})


BLOCKS = [
    Case("response block", "text", reply=answer("Hello."), returned={"content": [{"type": "text", "text": "Hello."}]}),
    Case(
        "response block",
        "thinking",
        THINKING,
        reply=THOUGHT,
        returned={
            "content": [
                {"type": "thinking", "thinking": "Hm, let me see.", "signature": Has("lsm1.")},
                {"type": "text", "text": "Done."},
            ]
        },
    ),
    Case(
        "response block",
        "thinking",
        reply=THOUGHT,
        returned={"content": [{"type": "text", "text": "Done."}]},
        note="that nobody asked for",
    ),
    Case(
        "response block",
        "tool_use",
        TOOLS,
        reply=CALLED,
        returned={"content": [{"type": "tool_use", "id": "call_look", "name": "look", "input": {"at": "sky"}}]},
    ),
]

DELTAS = [
    Case("delta", "text_delta", reply=answer("Hello."), events=[block_delta(0, "text_delta", text="Hell")]),
    Case(
        "delta", "thinking_delta", THINKING, reply=THOUGHT, events=[block_delta(0, "thinking_delta", thinking="Hm, ")]
    ),
    Case(
        "delta",
        "signature_delta",
        THINKING,
        reply=THOUGHT,
        events=[block_delta(0, "signature_delta", signature=Has("lsm1.")), {"type": "content_block_stop", "index": 0}],
    ),
    Case(
        "delta",
        "input_json_delta",
        TOOLS,
        reply=CALLED,
        events=[block_delta(0, "input_json_delta", partial_json='{"at')],
    ),
]

EVENTS = [
    Case(
        "event",
        "message_start",
        events=[
            {
                "type": "message_start",
                "message": {
                    "id": Has("msg_"),
                    "type": "message",
                    "role": "assistant",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {"input_tokens": ANY, "output_tokens": ANY},
                },
            }
        ],
    ),
    Case(
        "event",
        "content_block_start",
        events=[{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}],
    ),
    Case(
        "event",
        "content_block_delta",
        reply=answer("Hello"),
        events=[block_delta(0, "text_delta", text="Hell"), block_delta(0, "text_delta", text="o")],
    ),
    Case(
        "event",
        "content_block_stop",
        THINKING,
        reply=THOUGHT,
        events=[
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1},
            {"type": "content_block_stop", "index": 1},
        ],
    ),
    Case(
        "event",
        "message_delta",
        events=[
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"input_tokens": 11, "output_tokens": 5},
            }
        ],
    ),
    Case("event", "message_stop", events=[{"type": "message_stop"}]),
]

STOPS = [
    Case("stop reason", "end_turn", returned={"stop_reason": "end_turn", "stop_sequence": None}),
    Case(
        "stop reason",
        "max_tokens",
        {"max_tokens": 5},
        {"max_tokens": 5},
        answer("Hello", finish_reason="length"),
        {"stop_reason": "max_tokens"},
    ),
    Case(
        "stop reason",
        "stop_sequence",
        {"stop_sequences": ["END"]},
        {"stop": ["END"]},
        answer("Hello", choice={"stop_reason": "END"}),
        {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        note="vLLM's",
    ),
    Case(
        "stop reason",
        "stop_sequence",
        {"stop_sequences": ["END"]},
        {"stop": ["END"]},
        answer("Hello", choice={"matched_stop": "END"}),
        {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        upstream="sglang",
        note="SGLang's",
    ),
    Case(
        "stop reason",
        "stop_sequence",
        {"stop_sequences": ["END"]},
        {"stop": ["END"], "verbose": True},
        stopped_at_end,
        {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        upstream="llamacpp",
        note="llama.cpp's",
    ),
    Case(
        "stop reason",
        "stop_sequence",
        {"stop_sequences": ["END"]},
        {"stop": ["END"]},
        answer("Hello END"),
        {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        upstream="openai",
        note="by the text's end",
    ),
    Case("stop reason", "tool_use", TOOLS, reply=CALLED, returned={"stop_reason": "tool_use"}),
    Case(
        "stop reason",
        "tool_use",
        TOOLS,
        reply=answer(tool_calls=[call("look", {})], finish_reason="stop"),
        returned={"stop_reason": "tool_use"},
        note="whatever the upstream calls it",
    ),
    Case(
        "stop reason",
        "refusal",
        reply=answer("No.", finish_reason="content_filter"),
        returned={"stop_reason": "refusal", "stop_details": {"type": "refusal"}},
    ),
    Case(
        "stop reason",
        "refusal",
        reply=refused,
        returned={"stop_reason": "refusal", "content": [{"type": "text", "text": "I will not."}]},
        note="in its own field",
    ),
    Case(
        "stop reason",
        "model_context_window_exceeded",
        {"max_tokens": 100},
        {},
        answer("Hello", finish_reason="length", usage=completion_usage(MAX_MODEL_LEN - 5, 5)),
        {"stop_reason": "model_context_window_exceeded"},
    ),
    Case(
        "stop reason",
        "max_tokens",
        {"max_tokens": 100},
        {},
        answer("Hello", finish_reason="length", usage=completion_usage(MAX_MODEL_LEN - 50, 5)),
        {"stop_reason": "max_tokens"},
        note="with room in the window",
    ),
    Case(
        "stop reason",
        "model_context_window_exceeded",
        reply=answer("Hello", finish_reason="model_length"),
        returned={"stop_reason": "model_context_window_exceeded"},
        note="in Mistral's word",
    ),
]

ANSWER_CASES = [*BLOCKS, *DELTAS, *EVENTS, *STOPS]
