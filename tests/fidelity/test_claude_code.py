"""Claude Code's requests, replayed on both routes before every engine: all are answered, nothing in them is refused."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from llama_stack_api import OpenAIChatCompletionRequestWithExtraBody

from tests.conftest import Fleet
from tests.fidelity.cases import answer
from tests.fidelity.claude_code import COUNTS, SEARCHES, SHAPES, headers
from tests.fidelity.matching import ANY, Has, differences
from tests.support import sse
from tests.support.laws import assert_well_formed, fold
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    Responder,
    ScriptedUpstream,
    anthropic_message,
    anthropic_stream,
    call,
    encode_events,
    json_reply,
    stream_reply,
    text_block,
    thinking_block,
    tool_use_block,
)
from tests.support.wire import Json

NATIVE = ("vllm", "sglang", "llamacpp", "ollama", "anthropic")
PLAIN = ("openai", "fastapi", "odd")
MODELS = [
    *(f"{name}/{name}-model" for name in (*NATIVE, *PLAIN)),
    *(f"{name}-translated/{name}-model" for name in NATIVE),
]
CHAT, MESSAGES, COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.base_url, params={"beta": "true"}) as client:
        yield client


def upstream_name(model: str) -> str:
    return model.partition("/")[0].removesuffix("-translated")


def send(client: httpx.Client, version: str, body: Json) -> httpx.Response:
    return client.post(MESSAGES, json=body, headers=headers(version))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_answered(shape: str, model: str, client: httpx.Client, fleet: Fleet) -> None:
    version, body = SHAPES[shape]
    response = send(client, version, {**body, "model": model})
    assert response.status_code == 200, response.text
    if body.get("stream"):
        assert response.headers["content-type"].startswith("text/event-stream")
        events = sse.events(response.content)
        assert_well_formed(events)
        message = fold(events)
    else:
        message = response.json()
    assert message["model"] == model
    assert message["content"]
    assert message["stop_reason"] == "end_turn"
    assert message["usage"]["input_tokens"] > 0
    seen = fleet.upstreams[upstream_name(model)].requests
    if response.headers["x-messages-route"] == "native":
        check_native(seen[-1], body, anthropic=model.startswith("anthropic"))
    else:
        check_translated(seen[-1], body)


def check_native(seen: RecordedRequest, body: Json, *, anthropic: bool) -> None:
    """The client's own words, but for the line that changes with each request and what only Anthropic understands."""
    assert seen.path == MESSAGES
    assert "thinking-token-count-2026-05-13" in seen.headers["anthropic-beta"]
    if not anthropic:  # calls are judged here
        body = {name: value for name, value in body.items() if name != "safeguards"}
    assert seen.json.keys() == {*body, "model"}
    changed = {"model", "messages"} if anthropic else {"model", "messages", "system"}
    for name in body.keys() - changed - {"tools"}:
        assert seen.json[name] == body[name]
    tools = seen.json.get("tools", [])
    if anthropic:
        assert tools == body.get("tools", [])
    else:  # a search of tools is run here
        assert [tool for tool in tools if not tool["name"].startswith("tool_search_")] == offered(body)
    if anthropic:
        assert seen.json["messages"] == body["messages"]
    elif body["system"][0]["text"].startswith("x-anthropic-billing-header"):
        assert seen.json["system"] == body["system"][1:]


def offered(body: Json) -> list[Json]:
    """The client's own tools; those that are deferred only where the conversation refers to them."""
    tools = [tool for tool in body.get("tools", []) if "input_schema" in tool]
    words = json.dumps(body["messages"])

    def is_referred_to(name: str) -> bool:
        return any(f'"tool_reference", "{field}": "{name}"' in words for field in ("tool_name", "name"))

    shown = [tool for tool in tools if not tool.get("defer_loading")]
    loaded = [tool for tool in tools if tool.get("defer_loading") and is_referred_to(tool["name"])]
    return [*shown, *({k: v for k, v in tool.items() if k != "defer_loading"} for tool in loaded)]


def check_translated(seen: RecordedRequest, body: Json) -> None:
    """A chat completion that the inference API takes, with the calls answered one by one and in their order."""
    assert seen.path == CHAT
    OpenAIChatCompletionRequestWithExtraBody(**seen.json)
    assert b"x-anthropic-billing-header" not in seen.body
    messages = seen.json["messages"]
    assert messages[0]["role"] == "system"
    assert len(messages) > 1
    for at, message in enumerate(messages):
        ids = [each["id"] for each in message.get("tool_calls", ())]
        following = messages[at + 1 : at + 1 + len(ids)]
        assert [(each["role"], each["tool_call_id"]) for each in following] == [("tool", each) for each in ids]
    names = {tool["function"]["name"] for tool in seen.json.get("tools", ())}
    assert {name for name in names if not name.startswith("tool_search_")} == {tool["name"] for tool in offered(body)}


SHOWN = {
    "330 first, stream-json": [
        ANY,
        {"role": "user", "content": Has("system-reminder", "Look at the notes.")},
        {"role": "system", "content": Has("can be found: WebFetch")},
    ],
    "330 tools found": [
        ANY,
        ANY,
        ANY,
        {"role": "assistant", "content": "I look."},
        {"role": "tool", "content": Has("WebFetch", "mcp__docs__search")},
    ],
    "330 PDF read": [
        ANY,
        ANY,
        ANY,
        ANY,
        {"role": "tool", "content": Has("PDF file read", '<page number="1">', "Otters swim.")},
    ],
    "197 PDF read": [
        ANY,
        ANY,
        ANY,
        ANY,
        {"role": "tool", "content": "PDF file read: /notes.pdf"},
        {"role": "user", "content": Has("Otters swim.")},
    ],
    "330 image read": [
        ANY,
        ANY,
        ANY,
        ANY,
        {"role": "tool"},
        {"role": "user", "content": [ANY, {"type": "image_url", "image_url": {"url": Has("data:image/png;base64,")}}]},
    ],
    "330 parallel calls, one failed": [
        ANY,
        ANY,
        ANY,
        {"role": "assistant", "reasoning": "The user wants the notes.", "tool_calls": [ANY, ANY]},
        {"role": "tool", "content": Has("Otters swim.")},
        {"role": "tool", "content": "[tool error] Exit code 1"},
        {"role": "user", "content": Has("system-reminder")},
        {"role": "system", "content": Has("2026-11-24")},
    ],
    "330 tools found by the server": [
        ANY,
        ANY,
        {"role": "assistant", "tool_calls": [{"function": {"name": "tool_search_tool_regex"}}]},
        {"role": "tool", "content": Has("WebFetch is available now.", "mcp__docs__search")},
        {"role": "assistant", "tool_calls": [{"function": {"name": "WebFetch"}}]},
        {"role": "tool", "content": "Otters swim."},
    ],
    "330 tools changed": [
        ANY,
        ANY,
        {"role": "system", "content": Has("WebFetch", "available")},
        ANY,
        ANY,
        {"role": "system", "content": Has("WebFetch", "no longer")},
    ],
    "197 empty answer": [ANY, {"role": "user", "content": Has("Look at the notes.", "Please answer.")}],
}


@pytest.mark.parametrize("shape", SHOWN)
def test_what_the_client_shows_reaches_a_model_that_is_translated_to(
    shape: str, client: httpx.Client, fleet: Fleet
) -> None:
    version, body = SHAPES[shape]
    assert send(client, version, {**body, "model": "vllm-translated/vllm-model"}).status_code == 200
    assert differences(SHOWN[shape], fleet.upstreams["vllm"].last.json["messages"]) == []


def test_a_turn_s_own_effort_is_the_request_s(client: httpx.Client, fleet: Fleet) -> None:
    for shape, effort in (("330 first, -p json", "medium"), ("330 first, stream-json", "low"), ("197 first", "high")):
        version, body = SHAPES[shape]
        send(client, version, {**body, "model": "vllm-translated/vllm-model"})
        assert fleet.upstreams["vllm"].last.json["reasoning_effort"] == effort


def test_thinking_that_is_not_to_be_shown_is_not_and_updates_are(client: httpx.Client, fleet: Fleet) -> None:
    fleet.upstreams["vllm"].reply(CHAT, answer("Done.", reasoning_content="Hm."))
    for shape, shown in (("330 first, -p json", ""), ("330 first, stream-json", "Hm.")):
        version, body = SHAPES[shape]
        response = send(client, version, {**body, "model": "vllm-translated/vllm-model"})
        message = fold(sse.events(response.content))
        assert message["content"][0]["thinking"] == shown
        assert message["content"][0]["signature"]


# --- what the client needs from an answer ---

SIGNED_BY_ITSELF = ("anthropic", "vllm")
RICH = [
    text_block("Let me see."),
    tool_use_block("Read", {"file_path": "/notes", "limit": 5}, id="toolu_a"),
    tool_use_block("Bash", {"command": "ls"}, id="toolu_b"),
]
CALLS = [call("Read", {"file_path": "/notes", "limit": 5}, id="toolu_a"), call("Bash", {"command": "ls"}, id="toolu_b")]


def rich_native(upstream: ScriptedUpstream) -> Responder:
    """An answer with everything in it; the probe meets the engine as it is."""

    def reply(request: RecordedRequest) -> Reply:
        if "messages" not in request.json:
            usual = upstream.personality.answer(request.method, request.path)
            return usual(request) if callable(usual) else usual
        signature = "theirs" if upstream.personality.name in SIGNED_BY_ITSELF else ""
        message = anthropic_message([thinking_block("I should look.", signature), *RICH], model="its own name for it")
        return (
            stream_reply(encode_events(anthropic_stream(message)))
            if request.json.get("stream")
            else json_reply(message)
        )

    return reply


RICH_CHAT: Responder = answer("Let me see.", reasoning_content="I should look.", tool_calls=CALLS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", ["330 first, stream-json", "330 not streamed"])
def test_answers_have_what_the_client_needs(shape: str, model: str, client: httpx.Client, fleet: Fleet) -> None:
    """Event lines, stops of blocks, inputs in deltas, the model that was asked for, signed thinking, usage."""
    upstream = fleet.upstreams[upstream_name(model)]
    upstream.reply(CHAT, RICH_CHAT)
    upstream.reply(MESSAGES, rich_native(upstream))
    version, body = SHAPES[shape]
    response = send(client, version, {**body, "model": model})
    if not body.get("stream"):
        message: Any = response.json()
    else:
        events = sse.events(response.content)  # every `event:` line names its data's type
        assert_well_formed(events)  # every block is stopped before the next
        check_inputs_come_in_deltas(events)
        message = fold(events)
    assert message["model"] == model
    assert message["stop_reason"] == "tool_use"
    assert message["usage"]["output_tokens"] == 5
    thinking, text, *calls = message["content"]
    assert (thinking["thinking"], text["text"]) == ("I should look.", "Let me see.")
    passed_on = response.headers["x-messages-route"] == "native" and model.startswith(SIGNED_BY_ITSELF)
    assert thinking["signature"].startswith("theirs" if passed_on else "lsm1.")
    assert [(each["id"], each["input"]) for each in calls] == [
        ("toolu_a", {"file_path": "/notes", "limit": 5}),
        ("toolu_b", {"command": "ls"}),
    ]


def check_inputs_come_in_deltas(events: list[Json]) -> None:
    starts = [event for event in events if event["type"] == "content_block_start"]
    calls = [event["index"] for event in starts if event["content_block"]["type"] == "tool_use"]
    assert [starts[index]["content_block"]["input"] for index in calls] == [{}, {}]
    for index in calls:
        deltas = [
            event["delta"] for event in events if event["type"] == "content_block_delta" and event["index"] == index
        ]
        assert {delta["type"] for delta in deltas} == {"input_json_delta"}


# --- the rest of what it sends ---


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("version", SEARCHES)
def test_a_search_is_run_or_refused_in_words(version: str, model: str, client: httpx.Client) -> None:
    """The client takes a clean 400 for a failed search and goes on; an answer would be taken for what was found."""
    response = send(client, version, {**SEARCHES[version], "model": model})
    if model in {"anthropic/anthropic-model", "ollama/ollama-model"}:  # these search
        assert response.status_code == 200
        return
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"] == "tools: the only tools are ones that this server cannot run (web_search_20250305)"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", COUNTS)
def test_tokens_are_counted(shape: str, model: str, client: httpx.Client) -> None:
    version = SHAPES[shape][0]
    response = client.post(COUNT, json={**COUNTS[shape], "model": model}, headers=headers(version, counting=True))
    assert response.status_code == 200, response.text
    assert response.json()["input_tokens"] > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_strict_mode_has_nothing_to_refuse(shape: str, client: httpx.Client) -> None:
    version, body = SHAPES[shape]
    response = client.post(
        MESSAGES,
        json={**body, "model": "vllm-translated/vllm-model"},
        headers={**headers(version), "x-messages-strict": "true"},
    )
    assert response.status_code == 200, response.text
    assert "x-messages-dropped" not in response.headers


def test_the_server_is_there_when_it_is_looked_for(fleet: Fleet) -> None:
    response = httpx.head(f"{fleet.base_url}/", headers={"user-agent": "Bun/1.3.0"})
    assert response.status_code < 500


def test_a_template_that_wants_the_system_prompt_first_gets_it_first(client: httpx.Client, fleet: Fleet) -> None:
    """The first request learns it from the refusal, the next ones know."""

    def strict(request: RecordedRequest) -> Reply:
        if any(message["role"] == "system" for message in request.json["messages"][1:]):
            return json_reply({"error": {"message": "System message must be at the beginning."}}, status=400)
        return accepted(request) if callable(accepted) else accepted

    accepted = answer("Done.")
    upstream = fleet.upstreams["fastapi"]
    upstream.reply(CHAT, strict)
    # A model of its own: what is learned is kept for it.
    for shape, (version, body) in SHAPES.items():
        response = send(client, version, {**body, "model": "fastapi/strict-model"})
        assert response.status_code == 200, (shape, response.text)
    sent = [request.json["messages"] for request in upstream.requests_to(CHAT)]
    assert len(sent) == len(SHAPES) + 1
    head = {"role": "system", "content": Has("You are Claude Code", "can be found")}
    assert differences([head, {"role": "user"}], sent[1]) == []


def test_a_template_whose_turns_must_alternate_gets_them_so(client: httpx.Client, fleet: Fleet) -> None:
    """Mistral's: calls and results do not count, but nobody speaks twice in a row around them."""
    said = "After the optional system message, conversation roles must alternate user/assistant/user/assistant/..."

    def mistral(request: RecordedRequest) -> Reply:
        messages = request.json["messages"]
        rest = messages[1:] if messages[0]["role"] == "system" else messages
        turns = [each["role"] for each in rest if each["role"] != "tool" and not each.get("tool_calls")]
        if turns != [("user", "assistant")[n % 2] for n in range(len(turns))]:
            return json_reply({"error": {"message": said}}, status=400)
        return accepted(request) if callable(accepted) else accepted

    accepted = answer("Done.")
    upstream = fleet.upstreams["fastapi"]
    upstream.reply(CHAT, mistral)
    for shape, (version, body) in SHAPES.items():
        response = send(client, version, {**body, "model": "fastapi/mistral-model"})
        assert response.status_code == 200, (shape, response.text)
        assert "x-messages-dropped" not in response.headers or shape == "330 tools found by the server"
    assert len(upstream.requests_to(CHAT)) == len(SHAPES) + 2
