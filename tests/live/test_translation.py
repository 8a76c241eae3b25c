"""Translation over the real host: what reaches an OpenAI-style upstream, and what comes back to the client."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import pytest

from tests.conftest import Fleet
from tests.support.fixtures import chunk_bytes, chunk_names, chunks
from tests.support.laws import assert_calls_conserved, assert_text_conserved, assert_well_formed, fold
from tests.support.replies import FOREVER, Reply
from tests.support.sse import events as sse_events
from tests.support.upstream import (
    ScriptedUpstream,
    call,
    call_delta,
    chat_completion,
    chat_reply,
    chat_stream_reply,
    completion_usage,
    cut_reply,
    delta,
    encode_chunks,
    json_reply,
    stream_reply,
    usage_chunk,
)
from tests.support.wire import Json

CHAT = "/v1/chat/completions"
MODEL = "openai/openai-model"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: Json = {
    "name": "weather",
    "description": "The weather at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}},
}


@dataclass(frozen=True)
class Translated:
    """The fleet's OpenAI-style upstream behind the server."""

    fleet: Fleet
    upstream: ScriptedUpstream
    http: httpx.Client

    def post(self, *, headers: dict[str, str] | None = None, path: str = "", **changes: Any) -> httpx.Response:
        body = {"model": MODEL, "max_tokens": 100, "messages": [user("Hello")], **changes}
        sent = {name: value for name, value in body.items() if value is not ...}
        return self.http.post(f"/v1/messages{path}", json=sent, headers=headers)

    def message(self, **changes: Any) -> Json:
        answer = self.post(**changes)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-messages-route"] == "translation"
        found: Json = answer.json()
        return found

    def events(self, **changes: Any) -> list[Json]:
        answer = self.post(stream=True, **changes)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-messages-route"] == "translation"
        found = sse_events(answer.content)
        assert_well_formed(found)
        return found

    def sent(self, **changes: Any) -> Json:
        """What reaches the upstream."""
        self.message(**changes)
        return sent_to(self.upstream)


def sent_to(upstream: ScriptedUpstream) -> Json:
    found: Json = upstream.requests_to(CHAT)[-1].json
    return found


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def assistant(*blocks: Json) -> Json:
    return {"role": "assistant", "content": list(blocks)}


def use(ident: str, name: str, **given: Any) -> Json:
    return {"type": "tool_use", "id": ident, "name": name, "input": given}


def result(ident: str, content: Any, **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": ident, "content": content, **more}


@pytest.fixture
def translated(fleet: Fleet) -> Any:
    with httpx.Client(base_url=fleet.base_url, timeout=60) as http:
        yield Translated(fleet, fleet.upstreams["openai"], http)


# --- what reaches the upstream ---


def test_a_plain_request_is_a_plain_chat_completion(translated: Translated) -> None:
    sent = translated.sent()
    assert sent == {
        "model": "openai-model",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 100,
    }


def test_the_provider_s_key_goes_upstream_and_the_client_s_does_not(translated: Translated) -> None:
    for sent in ({"x-api-key": "mine"}, {"authorization": "Bearer mine"}):
        assert translated.post(headers=sent).status_code == 200
        headers = translated.upstream.last.headers
        assert headers["authorization"] == "Bearer sk-test"
        assert "x-api-key" not in headers
        assert "mine" not in str(headers)


def test_a_stream_asks_for_its_usage(translated: Translated) -> None:
    translated.events()
    sent = sent_to(translated.upstream)
    assert sent["stream"] is True
    assert sent["stream_options"]["include_usage"] is True


@dataclass(frozen=True)
class Carried:
    """Fields of a request, and those of the chat completion that they become."""

    id: str
    given: Json
    sent: Json


CARRIED = [
    Carried(
        "sampling",
        {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop_sequences": ["END", "STOP"]},
        {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "stop": ["END", "STOP"]},
    ),
    Carried("user", {"metadata": {"user_id": "ann"}}, {"user": "ann"}),
    Carried(
        "tools",
        {"tools": [WEATHER], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "description": "The weather at a place.",
                        "parameters": WEATHER["input_schema"],
                    },
                }
            ],
            "tool_choice": "auto",
            "parallel_tool_calls": False,
        },
    ),
    Carried("any tool", {"tools": [WEATHER], "tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
    Carried(
        "one tool",
        {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "weather"}},
        {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
    ),
    Carried("no tool", {"tools": [WEATHER], "tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
    Carried(
        "structured output",
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
            }
        },
    ),
    Carried("effort", {"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
]


@pytest.mark.parametrize("case", CARRIED, ids=lambda case: case.id)
def test_parameters_are_carried(translated: Translated, case: Carried) -> None:
    sent = translated.sent(**case.given)
    assert {name: sent.get(name) for name in case.sent} == case.sent


TEXT_BLOCK: Json = {"type": "text", "text": "Look:"}
IMAGE: Json = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
LINK: Json = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
IMAGE_PART: Json = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
LINK_PART: Json = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}

CONVERSATIONS: dict[str, tuple[Json, list[Json]]] = {
    "a system prompt": (
        {"system": "Be terse."},
        [{"role": "system", "content": "Be terse."}, user("Hello")],
    ),
    "turns": (
        {"messages": [user("Hi"), assistant(TEXT_BLOCK), user([TEXT_BLOCK])]},
        [user("Hi"), {"role": "assistant", "content": "Look:"}, user("Look:")],
    ),
    "a system message in mid-conversation": (
        {"messages": [user("Hi"), assistant(TEXT_BLOCK), {"role": "system", "content": "Now shout."}, user("So")]},
        [
            user("Hi"),
            {"role": "assistant", "content": "Look:"},
            {"role": "system", "content": "Now shout."},
            user("So"),
        ],
    ),
    "images": (
        {"messages": [user([TEXT_BLOCK, IMAGE, LINK])]},
        [user([TEXT_BLOCK, IMAGE_PART, LINK_PART])],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations_are_carried(translated: Translated, name: str) -> None:
    given, sent = CONVERSATIONS[name]
    assert translated.sent(**given)["messages"] == sent


def test_tool_calls_and_their_results_go_back(translated: Translated) -> None:
    """Results follow their calls; an error stays visible, an image comes in the user's turn behind them."""
    turns = [
        user("Weather?"),
        assistant(TEXT_BLOCK, use("toolu_1", "weather", place="Paris"), use("toolu_2", "weather")),
        user([result("toolu_1", "no such place", is_error=True), result("toolu_2", [TEXT_BLOCK, IMAGE])]),
    ]
    sent = translated.sent(messages=turns, tools=[WEATHER])["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user"]
    calls = [(made["id"], made["function"]) for made in sent[1]["tool_calls"]]
    assert calls == [
        ("toolu_1", {"name": "weather", "arguments": '{"place":"Paris"}'}),
        ("toolu_2", {"name": "weather", "arguments": "{}"}),
    ]
    assert (sent[2]["tool_call_id"], sent[3]["tool_call_id"]) == ("toolu_1", "toolu_2")
    assert sent[2]["content"] == "[tool error] no such place"
    assert sent[3]["content"] == "Look:"
    assert IMAGE_PART in sent[4]["content"]


def test_thinking_that_was_signed_here_is_replayed(translated: Translated) -> None:
    translated.upstream.reply(CHAT, chat_reply("Four.", reasoning_content="Two and two."))
    message = translated.message(**THINKING)
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["content"][0]["signature"]
    translated.message(messages=[user("2+2?"), {"role": "assistant", "content": message["content"]}, user("So?")])
    replayed = sent_to(translated.upstream)["messages"][1]
    assert replayed == {"role": "assistant", "content": "Four.", "reasoning_content": "Two and two."}


def test_what_is_not_carried_is_named_and_can_be_refused(translated: Translated) -> None:
    lost: Json = {"mcp_servers": [{"type": "url", "name": "m", "url": "https://example.com/mcp"}]}
    answer = translated.post(**lost)
    assert answer.status_code == 200
    assert answer.headers["x-messages-dropped"] == "mcp_servers"
    assert "mcp_servers" not in sent_to(translated.upstream)
    refused = translated.post(headers={"x-messages-strict": "true"}, **lost)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"].startswith("mcp_servers: ")


# --- what comes back ---

THINKING: Json = {"thinking": {"type": "adaptive"}}

ENDS_IN_AN_ERROR = {*chunk_names("error_"), "abort_sglang"}


@pytest.mark.parametrize("name", sorted(set(chunk_names()) - ENDS_IN_AN_ERROR))
def test_every_recorded_stream_keeps_the_laws(translated: Translated, name: str) -> None:
    translated.upstream.reply(CHAT, stream_reply(chunk_bytes(name)))
    found = translated.events(**THINKING)
    assert_calls_conserved(chunks(name), found)
    assert_text_conserved(chunks(name), found)
    assert found[-1]["type"] == "message_stop"


def test_a_stream_that_is_done_does_not_wait_for_its_connection(translated: Translated) -> None:
    steps = [*encode_chunks([delta("Hi"), delta(finish_reason="stop")]), FOREVER]
    translated.upstream.queue(CHAT, stream_reply(steps))
    assert translated.events()[-1]["type"] == "message_stop"


@pytest.mark.parametrize("name", sorted(ENDS_IN_AN_ERROR - {"error_first_chunk"}))
def test_a_stream_that_breaks_ends_in_an_error_event(translated: Translated, name: str) -> None:
    translated.upstream.reply(CHAT, stream_reply(chunk_bytes(name)))
    answer = translated.post(stream=True)
    assert answer.status_code == 200
    found = sse_events(answer.content)
    assert_well_formed(found)
    assert found[-1]["type"] == "error"
    assert found[-1]["request_id"] == answer.headers["request-id"]
    assert found[-1]["error"]["message"]


ANSWERS: dict[str, Callable[[], Any]] = {
    "text": lambda: chat_reply("Hello there"),
    "reasoning and text": lambda: chat_reply("Four.", reasoning_content="Two and two."),
    "a call": lambda: chat_reply(tool_calls=[call("weather", {"place": "Paris"})]),
    "text and calls": lambda: chat_reply(
        "Let me see.", tool_calls=[call("weather", {"place": "Paris"}), call("clock", "")]
    ),
    "cached tokens": lambda: chat_reply("Hello", usage=completion_usage(100, 7, cached_tokens=64)),
    "a limit": lambda: chat_reply("Hel", finish_reason="length", usage=completion_usage(10, 100)),
    "a filter": lambda: chat_reply("Hel", finish_reason="content_filter"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_folded_stream_is_the_whole_answer(translated: Translated, name: str) -> None:
    translated.upstream.reply(CHAT, ANSWERS[name]())
    whole, folded = translated.message(), fold(translated.events())
    assert whole.pop("id") != folded.pop("id")
    assert without_made_ids(folded) == without_made_ids(whole)


def without_made_ids(message: Json) -> Json:
    return {**message, "content": [{**block, "signature": ""} for block in message["content"]]}


def test_parallel_calls_that_interleave_are_two_blocks(translated: Translated) -> None:
    made = [
        delta("", role="assistant"),
        delta(tool_calls=[call_delta(0, id="call_a", name="weather", arguments="")]),
        delta(tool_calls=[call_delta(1, id="call_b", name="clock", arguments="")]),
        delta(tool_calls=[call_delta(0, arguments='{"place":'), call_delta(1, arguments='{"zone":')]),
        delta(tool_calls=[call_delta(1, arguments='"CET"}')]),
        delta(tool_calls=[call_delta(0, arguments='"Paris"}')]),
        delta(finish_reason="tool_calls"),
        usage_chunk(7, 3),
    ]
    translated.upstream.reply(CHAT, chat_stream_reply(made))
    found = translated.events()
    assert_calls_conserved(made, found)
    message = fold(found)
    assert [(block["name"], block["input"]) for block in message["content"]] == [
        ("weather", {"place": "Paris"}),
        ("clock", {"zone": "CET"}),
    ]
    assert message["stop_reason"] == "tool_use"
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (7, 3)


@pytest.mark.parametrize("arguments", ["", "{}", None])
def test_a_call_without_arguments_has_an_empty_input(translated: Translated, arguments: str | None) -> None:
    made = call("clock", "{}")
    made["function"]["arguments"] = arguments
    whole = chat_completion(tool_calls=[made])
    translated.upstream.reply(CHAT, json_reply(whole))
    assert translated.message()["content"][0]["input"] == {}
    first = call_delta(0, id="call_a", name="clock", arguments=arguments)
    translated.upstream.reply(CHAT, chat_stream_reply([delta(tool_calls=[first]), delta(finish_reason="tool_calls")]))
    assert fold(translated.events())["content"][0]["input"] == {}


def test_reasoning_becomes_a_signed_thinking_block_before_the_text(translated: Translated) -> None:
    translated.upstream.reply(CHAT, chat_reply("Four.", reasoning_content="Two and two."))
    found = translated.events(**THINKING)
    blocks = [event["content_block"]["type"] for event in found if event["type"] == "content_block_start"]
    assert blocks == ["thinking", "text"]
    thinking = fold(found)["content"][0]
    assert thinking["thinking"] == "Two and two."
    assert thinking["signature"]


@dataclass(frozen=True)
class Finish:
    """An upstream's ending, and the stop reason that it is."""

    id: str
    choice: Json
    stop_reason: str
    stop_sequence: str | None = None
    calls: bool = False
    output_tokens: int = 5


FINISHES = [
    Finish("stop", {"finish_reason": "stop"}, "end_turn"),
    Finish("tool_calls", {"finish_reason": "tool_calls"}, "tool_use", calls=True),
    Finish("stop after a call", {"finish_reason": "stop"}, "tool_use", calls=True),
    Finish("function_call", {"finish_reason": "function_call"}, "tool_use", calls=True),
    Finish("length at the limit", {"finish_reason": "length"}, "max_tokens", output_tokens=100),
    Finish("length before the limit", {"finish_reason": "length"}, "max_tokens"),
    Finish("content_filter", {"finish_reason": "content_filter"}, "refusal"),
    Finish("unknown", {"finish_reason": "because"}, "max_tokens"),
    Finish("vLLM's stop", {"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence", "END"),
    Finish("SGLang's stop", {"finish_reason": "stop", "matched_stop": "END"}, "stop_sequence", "END"),
    Finish("a stop token", {"finish_reason": "stop", "stop_reason": 128001}, "end_turn"),
]


@pytest.mark.parametrize("case", FINISHES, ids=lambda case: case.id)
def test_every_finish_reason_has_its_stop_reason(translated: Translated, case: Finish) -> None:
    calls = [call("weather", {})] if case.calls else []
    usage = completion_usage(11, case.output_tokens)
    whole = chat_completion(None if calls else "Hi", tool_calls=calls, choice=case.choice, usage=usage)
    translated.upstream.queue(CHAT, json_reply(whole))
    assert_stopped(translated.message(stop_sequences=["END"]), case)
    deltas = [call_delta(0, id="call_a", name="weather", arguments="{}")] if calls else None
    streamed = [
        delta(None if calls else "Hi", tool_calls=deltas),
        delta(choice=case.choice),
        {**usage_chunk(), "usage": usage},
    ]
    translated.upstream.queue(CHAT, chat_stream_reply(streamed))
    assert_stopped(fold(translated.events(stop_sequences=["END"])), case)


def assert_stopped(message: Json, case: Finish) -> None:
    assert (message["stop_reason"], message["stop_sequence"]) == (case.stop_reason, case.stop_sequence)


USAGES: dict[str, list[Json]] = {
    "a chunk of its own": [delta("Hi"), delta(finish_reason="stop"), usage_chunk(30, 2, cached_tokens=20)],
    "with the finish": [
        delta("Hi"),
        delta(finish_reason="stop", usage=completion_usage(30, 2, cached_tokens=20)),
    ],
    "in every chunk": [
        delta("H", usage=completion_usage(30, 1, cached_tokens=20)),
        delta("i", usage=completion_usage(30, 2, cached_tokens=20)),
        delta(finish_reason="stop", usage=completion_usage(30, 2, cached_tokens=20)),
    ],
}


@pytest.mark.parametrize("name", USAGES)
def test_usage_is_told_in_anthropic_s_terms(translated: Translated, name: str) -> None:
    translated.upstream.reply(CHAT, chat_stream_reply(USAGES[name]))
    usage = fold(translated.events())["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (10, 20, 2)


# --- errors ---


@dataclass(frozen=True)
class Failure:
    """An upstream's refusal, and the error that the client gets."""

    id: str
    reply: Reply
    status: int
    error_type: str
    told: str


def openai_error(status: int, message: str, **headers: str) -> Reply:
    error = {"message": message, "type": "some_error", "param": None, "code": None}
    return json_reply({"error": error}, status=status, headers=headers)


FAILURES = [
    Failure("400", openai_error(400, "no such parameter"), 400, "invalid_request_error", "no such parameter"),
    Failure("401", openai_error(401, "bad key"), 401, "authentication_error", "credentials"),
    Failure("403", openai_error(403, "not you"), 403, "permission_error", "not you"),
    Failure("404", openai_error(404, "no such model"), 404, "not_found_error", "no such model"),
    Failure("429", openai_error(429, "slow down", **{"retry-after": "7"}), 429, "rate_limit_error", "slow down"),
    Failure("500", openai_error(500, "boom"), 500, "api_error", "boom"),
    Failure("503", openai_error(503, "loading"), 529, "overloaded_error", "loading"),
    Failure(
        "context",
        openai_error(400, "This model's maximum context length is 10 tokens. However, you requested 20 tokens"),
        400,
        "invalid_request_error",
        "prompt is too long",
    ),
    Failure("no connection", cut_reply([]), 502, "api_error", ""),
]


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.id)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_error_before_the_first_chunk_is_an_http_error(translated: Translated, case: Failure, stream: bool) -> None:
    translated.upstream.reply(CHAT, case.reply)
    answer = translated.post(stream=stream)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (answer.status_code, body["type"], body["error"]["type"]) == (case.status, "error", case.error_type)
    assert case.told in body["error"]["message"]
    assert body["request_id"] == answer.headers["request-id"]
    assert answer.headers.get("retry-after") == case.reply.headers.get("retry-after")


def test_an_error_in_the_first_chunk_is_an_http_error(translated: Translated) -> None:
    translated.upstream.reply(CHAT, stream_reply(chunk_bytes("error_first_chunk")))
    answer = translated.post(stream=True)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


BROKEN_STREAMS: dict[str, Callable[[], Reply]] = {
    "an error chunk": lambda: chat_stream_reply(
        [delta("Hel"), {"error": {"message": "out of memory", "type": "server_error", "code": 500}}]
    ),
    "a connection that is cut": lambda: cut_reply(encode_chunks([delta("Hel")], done=False)),
    "no end": lambda: chat_stream_reply([delta("Hel")], done=False),
    "garbage": lambda: stream_reply([*encode_chunks([delta("Hel")], done=False), b"data: {oops\n\n"]),
    "an engine that gave up": lambda: chat_stream_reply([delta("Hel"), delta(finish_reason="error")]),
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_an_error_in_mid_stream_is_an_error_event(translated: Translated, name: str) -> None:
    """What came before it has arrived; no end is invented."""
    translated.upstream.reply(CHAT, BROKEN_STREAMS[name]())
    with (
        anthropic.Anthropic(base_url=translated.fleet.base_url, api_key="any", max_retries=0) as client,
        client.messages.stream(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as stream,
    ):
        said: list[str] = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            said.extend(stream.text_stream)
        assert said == ["Hel"]
        assert caught.value.type == "api_error"
        assert caught.value.request_id
