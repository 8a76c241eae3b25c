"""What upstreams answer: fragments, chunks, ends and bytes."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.cases.bench import CHAT, HELLO, MESSAGES, TOOLS, Bench
from tests.support.upstream import (
    Json,
    RecordedRequest,
    Reply,
    anthropic_message,
    anthropic_stream,
    call,
    call_delta,
    chat_chunks,
    chat_completion,
    chat_reply,
    chat_stream_reply,
    completion_usage,
    delta,
    encode_chunks,
    encode_events,
    json_reply,
    raw_reply,
    stream_reply,
)


def fragments(*parts: Json, **more: Any) -> list[Json]:
    """A stream of a fragment of a call each."""
    return [*(delta(tool_calls=[part]) for part in parts), delta(finish_reason="tool_calls")]


# --- calls ---

PARIS, LS = ("get_weather", {"city": "Paris"}), ("Bash", {"command": "ls"})
ONE_CALL = {
    "the first id only once (poolsideai/pool#9)": [
        call_delta(0, id="chatcmpl-tool-aaa", name="get_weather", arguments=""),
        call_delta(0, id="chatcmpl-tool-bbb", arguments='{"city": '),
        call_delta(0, id="chatcmpl-tool-bbb", arguments='"Paris"}'),
    ],
    "another id each time": [
        call_delta(0, id="a", name="get_weather", arguments=""),
        call_delta(0, id="b", arguments='{"city": '),
        call_delta(0, id="c", arguments='"Paris"}'),
    ],
    "another id each time, and the name empty": [
        call_delta(0, id="a", name="get_weather", arguments=""),
        call_delta(0, id="b", name="", arguments='{"city": "Paris"}'),
    ],
    "an empty id": [
        call_delta(0, id="a", name="get_weather", arguments=""),
        call_delta(0, id="", arguments='{"city": "Paris"}'),
    ],
}


@pytest.mark.parametrize("parts", ONE_CALL.values(), ids=ONE_CALL)
def test_id_changes_in_call(parts: list[Json], bench: Bench) -> None:
    """The first fragment of a call has one id, later ones another, under the same index and without a name."""
    bench.stream = True
    bench.says(chat_stream_reply(fragments(*parts)))
    answer = bench.ask(tools=TOOLS)
    assert answer.calls == [PARIS]
    assert answer.stop_reason == "tool_use"


MORE_SHAPES = {
    "the name in each fragment": [
        call_delta(0, id="a", name="get_weather", arguments='{"city": '),
        call_delta(0, id="a", name="get_weather", arguments='"Paris"}'),
    ],
    "arguments that are an object": [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    ],
    "null until there are arguments": [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "get_weather", "arguments": None}},
        {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": '{"city": "Paris"}'}},
    ],
    "no id at all": [call_delta(0, name="get_weather", arguments='{"city": "Paris"}')],
    "the whole again at the end": [
        call_delta(0, id="a", name="get_weather", arguments='{"city": "Paris"}'),
        call_delta(0, id="a", name="get_weather", arguments=""),
    ],
}


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call", "tool_use", "TOOL_CALLS"])
@pytest.mark.parametrize("parts", MORE_SHAPES.values(), ids=MORE_SHAPES)
def test_one_call_in_other_shapes(parts: list[Json], finish: str, bench: Bench) -> None:
    bench.stream = True
    bench.says(chat_stream_reply([*fragments(*parts)[:-1], delta(finish_reason=finish)]))
    answer = bench.ask(tools=TOOLS)
    assert (answer.calls, answer.stop_reason) == ([PARIS], "tool_use")


TWO_CALLS = {
    "the second head under 0 (agno-agi/agno#8880)": [
        call_delta(0, id="call_1", name="get_weather", arguments=""),
        call_delta(0, arguments='{"city": "Paris"}'),
        call_delta(0, id="call_2", name="Bash", arguments=""),
        call_delta(1, arguments='{"command": '),
        call_delta(1, arguments='"ls"}'),
    ],
    "both under 0": [
        call_delta(0, id="call_1", name="get_weather", arguments='{"city": "Paris"}'),
        call_delta(0, id="call_2", name="Bash", arguments=""),
        call_delta(0, arguments='{"command": "ls"}'),
    ],
    "no index at all": [
        call_delta(None, id="call_1", name="get_weather", arguments='{"city": "Paris"}'),
        call_delta(None, id="call_2", name="Bash", arguments='{"command": "ls"}'),
    ],
    "indexes from 1": [
        call_delta(1, id="call_1", name="get_weather", arguments='{"city": "Paris"}'),
        call_delta(2, id="call_2", name="Bash", arguments='{"command": '),
        call_delta(2, arguments='"ls"}'),
    ],
}


@pytest.mark.parametrize("parts", TWO_CALLS.values(), ids=TWO_CALLS)
def test_second_head_index_zero(parts: list[Json], bench: Bench) -> None:
    """The head of the second call comes with index 0, its arguments with index 1 and no id."""
    bench.stream = True
    bench.says(chat_stream_reply(fragments(*parts)))
    assert bench.ask(tools=TOOLS).calls == [PARIS, LS]


@pytest.mark.parametrize("text", ['{"city": "Paris"}', ' {"city":"Paris"} ', '{"city":"Pa\\u0072is"}'])
def test_double_encoded(text: str, bench: Bench) -> None:
    """Arguments that are a JSON string of a JSON object (GLM, others).

    quarkiverse/quarkus-langchain4j#2642, tashfeenahmed/freellmapi#193, openclaw/openclaw#39366
    """
    bench.says(chat_reply(tool_calls=[call("get_weather", orjson.dumps(text).decode())]))
    assert bench.ask(tools=TOOLS).calls == [PARIS]


MALFORMED = [
    "function_call_filter: MALFORMED_FUNCTION_CALL",
    "malformed_function_call",
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
]


@pytest.mark.parametrize("word", MALFORMED)
def test_malformed_call(word: str, bench: Bench) -> None:
    """Gemini ends an answer with MALFORMED_FUNCTION_CALL and nothing in it: an error that may be tried again.

    Wei-Shaw/sub2api#7098 (#7081), NousResearch/hermes-agent#83886
    """
    bench.says(chat_reply("", finish_reason=word))
    answer = bench.ask(tools=TOOLS)
    assert answer.error is not None
    assert answer.error["type"] == "api_error"
    assert answer.status >= 500 or bench.stream
    assert answer.headers.get("x-should-retry") != "false"


# --- ends ---

FINISH = {
    "MAX_TOKENS": "max_tokens",
    "max_tokens": "max_tokens",
    "length": "max_tokens",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "content_filter": "refusal",
    "refusal": "refusal",
    "STOP": "end_turn",
    "end_turn": "end_turn",
    "eos": "end_turn",
}


@pytest.mark.parametrize(("word", "stop_reason"), FINISH.items())
def test_finish_words(word: str, stop_reason: str, bench: Bench) -> None:
    """Finish reasons in other services' words (mozilla-ai/any-llm#1202)."""
    bench.says(chat_reply("Half an", finish_reason=word))
    answer = bench.ask()
    assert (answer.text, answer.stop_reason) == ("Half an", stop_reason)


def test_an_unknown_finish_word_makes_half_an_answer_no_whole_one(bench: Bench) -> None:
    bench.says(chat_reply("Half an", finish_reason="ENGINE_ON_FIRE"))
    answer = bench.ask()
    assert answer.error is not None or answer.stop_reason != "end_turn"


SAID = {429: "rate_limit_error", 502: "api_error", 503: "overloaded_error", 529: "overloaded_error", "x": "api_error"}


@pytest.mark.parametrize(("code", "kind"), SAID.items())
def test_openrouter_midstream(code: int | str, kind: str, bench: Bench) -> None:
    """OpenRouter, in mid-stream: a chunk with a top-level error, and `finish_reason: error`.

    damianvtran/local-operator#223, diegosouzapw/OmniRoute#8210
    """
    error = {"code": code, "message": "Provider rate limit reached, slow down"}
    failed = {**delta("", finish_reason="error"), "error": error}
    whole = chat_completion("Half an ", finish_reason="error", error=error)
    bench.says(chat_stream_reply([delta("Half an "), failed]) if bench.stream else json_reply(whole))
    answer = bench.ask()
    assert answer.error == {"type": kind, "message": "Provider rate limit reached, slow down"}


ERRORS: dict[str, tuple[Any, str]] = {
    "alone": ({"error": {"message": "slow down", "code": 429}}, "rate_limit_error"),
    "a code in words": ({"error": {"message": "slow down", "type": "rate_limit_error"}}, "rate_limit_error"),
    "vLLM": (
        {"object": "error", "message": "slow down", "type": "BadRequestError", "code": 400},
        "invalid_request_error",
    ),
    "vLLM, overloaded": ({"object": "error", "message": "slow down", "type": "x", "code": 503}, "overloaded_error"),
    "vLLM, newer": ({"error": {"message": "slow down", "type": "InternalServerError", "code": 500}}, "api_error"),
    "a string": ({"error": "slow down"}, "api_error"),
    "a status in words": (
        {"error": {"code": 503, "message": "slow down", "status": "UNAVAILABLE"}},
        "overloaded_error",
    ),
    "a list": ([{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}], "rate_limit_error"),
}


@pytest.mark.parametrize(("chunk", "kind"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("named", [False, True], ids=["data", "event: error"])
def test_errors_in_other_shapes(named: bool, chunk: Any, kind: str, bench: Bench) -> None:
    """What ends a stream that has begun, in other services' shapes: with their words."""
    bench.stream = True
    said = (b"event: error\n" if named else b"") + b"data: " + orjson.dumps(chunk) + b"\n\n"
    bench.says(chat_stream_reply([delta("Half an "), said]))
    answer = bench.ask()
    assert answer.error == {"type": kind, "message": "slow down"}
    assert any(event["type"] == "content_block_delta" for event in answer.events)


def test_an_error_within_the_choice(bench: Bench) -> None:
    """The same within the choice, as OpenRouter has it for a whole answer."""
    choice = {"error": {"code": 429, "message": "slow down"}}
    failed = delta("", finish_reason="error", choice=choice)
    whole = chat_completion("Half", finish_reason="error", choice=choice)
    bench.says(chat_stream_reply([delta("Half"), failed]) if bench.stream else json_reply(whole))
    assert bench.ask().error == {"type": "rate_limit_error", "message": "slow down"}


# --- text ---


@pytest.mark.parametrize("blank", ["\n\n", " ", "\r\n\t"])
def test_whitespace_text(blank: str, bench: Bench) -> None:
    """A text of line ends only, between reasoning and a call: Anthropic's API refuses such a block later.

    vLLM with Qwen, and others.
    """
    bench.says(chat_reply(blank, reasoning_content="hm", tool_calls=[call("Bash", {"command": "ls"})]))
    answer = bench.ask(tools=TOOLS)
    assert [block["type"] for block in answer.content] == ["thinking", "tool_use"]


def test_white_space_within_text_is_kept(bench: Bench) -> None:
    bench.says(chat_reply("\n\nHello\n\n there"))
    assert bench.ask().text == "\n\nHello\n\n there"


HIGH, LOW = rb"\ud83d", rb"\ude00"


def raw_choice(field: str, value: bytes) -> bytes:
    return b'{"choices":[{"index":0,"' + field.encode() + b'":' + value + b',"finish_reason":null}]}'


def test_lone_surrogates(bench: Bench) -> None:
    """An emoji's two UTF-16 halves come in two chunks, each as an escape of its own.

    Kohaku-Lab/KohakuTerrarium#48, elizaOS/eliza#30904, elie222/rakazo#416, openclaw/openclaw#115536
    """
    if bench.stream:
        halves = [b'{"content":"Hi "}', b'{"content":"' + HIGH + b'"}', b'{"content":"' + LOW + b'"}']
        chunks = [b"data: " + raw_choice("delta", half) + b"\n\n" for half in halves]
        bench.says(chat_stream_reply([*chunks, delta(finish_reason="stop")]))
        assert bench.ask().text == "Hi \U0001f600"
    else:
        whole = orjson.dumps(chat_completion("Hi HALF!")).replace(b"HALF", HIGH)
        bench.says(raw_reply(whole, content_type="application/json"))
        assert bench.ask().text == "Hi \ufffd!"


def test_halves_in_arguments(bench: Bench) -> None:
    """The same in a call's arguments, where the escape is escaped once more or not."""
    bench.stream = True
    head = delta(tool_calls=[call_delta(0, id="a", name="Bash", arguments='{"command": "')])
    pieces = [b'{"tool_calls":[{"index":0,"function":{"arguments":"' + half + b'"}}]}' for half in (HIGH, LOW)]
    chunks = [b"data: " + raw_choice("delta", piece) + b"\n\n" for piece in pieces]
    tail = delta(tool_calls=[call_delta(0, arguments='"}')])
    bench.says(chat_stream_reply([head, *chunks, tail, delta(finish_reason="tool_calls")]))
    assert bench.ask(tools=TOOLS).calls == [("Bash", {"command": "\U0001f600"})]


# --- bytes ---

BEATS = [
    b"data:\n\n",
    b"data: \n\n",
    b"id: 1\n\n",
    b": beat\n\n",
    b"event: keepalive\n\n",
    b"data:\r\n\r\n",
]


@pytest.mark.parametrize("beat", BEATS)
def test_empty_data(beat: bytes, bench: Bench) -> None:
    """Gateways send empty `data:` lines as heartbeats (Growth-Circle/cadis#362 and #2329, wave-agent#1326)."""
    bench.stream = True
    bench.says(chat_stream_reply([beat, delta("Hel"), beat, delta("lo"), delta(finish_reason="stop"), beat]))
    assert bench.ask().text == "Hello"


TYPES = ["text/plain; charset=utf-8", "application/json", "application/x-ndjson", "application/octet-stream", ""]


@pytest.mark.parametrize("content_type", TYPES)
def test_sse_content_type(content_type: str, bench: Bench) -> None:
    """An event stream comes with another content type, or none.

    openclaw/openclaw#97454 (#96497), maximhq/bifrost#3928, xiaoliu10/claude-code-router-next#45
    """
    bench.stream = True
    bench.says(stream_reply(encode_chunks(chat_chunks("Hello")), content_type=content_type))
    answer = bench.ask()
    assert (answer.text, answer.stop_reason) == ("Hello", "end_turn")


@pytest.mark.parametrize(("encoding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_gzip_answers(encoding: str, packed: Callable[[bytes], bytes], bench: Bench) -> None:
    """The upstream answers in gzip though nobody asked for it, whole and streamed."""
    plain = b"".join(encode_chunks(chat_chunks("Hello"))) if bench.stream else orjson.dumps(chat_completion("Hello"))
    kind = "text/event-stream" if bench.stream else "application/json"
    bench.says(raw_reply(packed(plain), content_type=kind, headers={"content-encoding": encoding}))
    assert bench.ask().text == "Hello"


def test_wrong_mode(bench: Bench) -> None:
    """A plain request is answered with a stream, or a streamed one with a whole completion (BYK/loreai#605, #1212)."""
    calls = [call("Bash", {"command": "ls"})]
    whole = json_reply(chat_completion("Hello", tool_calls=calls))
    bench.says(whole if bench.stream else chat_stream_reply(chat_chunks("Hello", tool_calls=calls)))
    answer = bench.ask(tools=TOOLS)
    assert (answer.text, answer.calls, answer.stop_reason) == ("Hello", [LS], "tool_use")


# --- usage ---

TOTAL = {"input_tokens": 56, "cache_read_input_tokens": 1280, "output_tokens": 31}
COUNTED: Json = {"prompt_tokens": 1336, "completion_tokens": 31, "total_tokens": 1367}
USAGES = {
    "Moonshot: cached at the top": {**COUNTED, "cached_tokens": 1280},
    "DeepSeek: hits and misses": {**COUNTED, "prompt_cache_hit_tokens": 1280, "prompt_cache_miss_tokens": 56},
    "OpenAI": completion_usage(1336, 31, cached_tokens=1280),
}


@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
@pytest.mark.parametrize("place", ["at the top", "in the choice", "in x_groq"])
def test_usage_places(place: str, usage: Json, bench: Bench) -> None:
    """Moonshot tells usage in the last chunk's choice, Groq in `x_groq`; both have their own names for what is cached.

    earendil-works/pi#2017 and #8075, AstrBotDevs/AstrBot#6614, vercel/ai#12352
    """
    end: Json = delta(finish_reason="stop")
    if place == "in the choice":
        end["choices"][0]["usage"] = usage
    elif place == "in x_groq":
        end["x_groq"] = {"id": "req_1", "usage": usage}
    else:
        end["usage"] = usage
    whole = json_reply(chat_completion("Hello", usage=usage))
    bench.says(chat_stream_reply([delta("Hello"), end]) if bench.stream else whole)
    answer = bench.ask()
    assert answer.message is not None
    assert {name: answer.message["usage"][name] for name in TOTAL} == TOTAL


def test_a_live_stream_is_cut_at_its_stop_sequence(bench: Bench) -> None:
    """An upstream that ignores `stop` and talks on without an end: the answer ends, and the upstream is let go."""
    bench.stream = True

    def endless(request: RecordedRequest) -> Reply:
        said = encode_chunks([delta("One </bl"), delta("ock> two")], done=False)
        more = encode_chunks([delta(" and on")], done=False)
        return stream_reply(lambda: iter([*said, *(more * 3000)]), pause=0.01)

    bench.says(endless)
    answer = bench.ask(stop_sequences=["</block>"])
    assert (answer.text, answer.stop_reason) == ("One ", "stop_sequence")
    assert answer.message is not None
    assert answer.message["stop_sequence"] == "</block>"
    seen = bench.upstreams["chat"].last
    assert seen.finished_at is None


NO_ANSWERS: dict[str, Any] = {
    "flat": {"object": "error", "message": "slow down", "type": "TooManyRequests", "code": 429},
    "nested": {"error": {"message": "slow down", "code": 429}},
    "a list": [{"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}],
}


@pytest.mark.parametrize("by", ["chat", "messages"], ids=["translated", "native"])
@pytest.mark.parametrize("said", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_error_with_status_200(said: Any, by: str, bench: Bench) -> None:
    """A gateway says 200 and tells the error in the body, as JSON though a stream was asked for."""
    bench.says(json_reply(said), by=by, path=CHAT if by == "chat" else MESSAGES)
    answer = bench.ask(by=by)
    assert answer.error == {"type": "rate_limit_error", "message": "slow down"}


def test_the_first_event_is_an_error(bench: Bench) -> None:
    """Nothing has been sent: the client gets a status, by which its SDK tries again."""
    bench.stream = True
    bench.says(chat_stream_reply([{"error": {"message": "slow down", "code": 429}}]))
    answer = bench.ask()
    assert (answer.status, answer.error) == (429, {"type": "rate_limit_error", "message": "slow down"})


def test_thinking_within_text(bench: Bench) -> None:
    """Mistral's thinking and text come as parts of one content."""
    parts: Any = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hello"},
    ]
    whole = chat_completion("", message={"content": parts})
    chunks = [{"choices": [{"index": 0, "delta": {"content": [part]}}]} for part in parts]
    bench.says(chat_stream_reply([*chunks, delta(finish_reason="stop")]) if bench.stream else json_reply(whole))
    answer = bench.ask(thinking={"type": "adaptive"})
    assert [(block["type"], block.get("text") or block.get("thinking")) for block in answer.content] == [
        ("thinking", "hm"),
        ("text", "Hello"),
    ]


# --- native streams ---

NATIVE_BYTES: dict[str, Json] = {
    "text/plain": {"content_type": "text/plain"},
    "application/json": {"content_type": "application/json"},
    "none": {"content_type": ""},
}


def native_events(text: str = "Hello") -> list[bytes]:
    return encode_events(anthropic_stream(anthropic_message(text)))


@pytest.mark.parametrize("how", NATIVE_BYTES.values(), ids=NATIVE_BYTES)
def test_sse_content_type_natively(how: Json, bench: Bench) -> None:
    bench.stream = True
    bench.says(stream_reply(native_events(), **how), by="messages", path=MESSAGES)
    answer = bench.ask(by="messages")
    assert (answer.text, answer.route) == ("Hello", "native")


@pytest.mark.parametrize("beat", BEATS)
def test_empty_data_natively(beat: bytes, bench: Bench) -> None:
    bench.stream = True
    head, *rest = native_events()
    bench.says(stream_reply([beat, head, beat, *rest, beat]), by="messages", path=MESSAGES)
    answer = bench.ask(by="messages")
    assert (answer.text, answer.route) == ("Hello", "native")


def test_gzip_answers_natively(bench: Bench) -> None:
    plain = b"".join(native_events()) if bench.stream else orjson.dumps(anthropic_message("Hello"))
    kind = "text/event-stream" if bench.stream else "application/json"
    packed = raw_reply(gzip.compress(plain), content_type=kind, headers={"content-encoding": "gzip"})
    bench.says(packed, by="messages", path=MESSAGES)
    assert bench.ask(by="messages").text == "Hello"


def test_wrong_mode_natively(bench: Bench) -> None:
    whole = json_reply(anthropic_message("Hello"))
    bench.says(whole if bench.stream else stream_reply(native_events()), by="messages", path=MESSAGES)
    answer = bench.ask(by="messages")
    assert (answer.text, answer.stop_reason) == ("Hello", "end_turn")


def test_lone_surrogates_natively(bench: Bench) -> None:
    """What is relayed as bytes arrives as it was sent, so that a client's own parser decides; it is never cut off."""
    bench.stream = True
    said = [piece.replace(b"HIGH", HIGH).replace(b"LOWX", LOW) for piece in native_events("HIGHLOWX")]
    bench.says(stream_reply(said), by="messages", path=MESSAGES)
    body = {"model": f"messages/{bench.model}", "max_tokens": 9, "messages": [HELLO], "stream": True}
    answer = bench.http.post("/v1/messages", json=body)
    assert answer.status_code == 200
    assert b"message_stop" in answer.content
