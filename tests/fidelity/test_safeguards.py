"""Claude Code 2.1.332 in its auto mode: every answer tells what was found of its calls, on both routes."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import pytest

from tests.conftest import Fleet
from tests.fidelity.claude_code import SAFEGUARDS, SHAPES, headers
from tests.support import sse
from tests.support.laws import assert_well_formed, fold
from tests.support.personalities import identities, vllm
from tests.support.stack import Stack, custom_auth, run_config, vllm_provider
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    Responder,
    ScriptedUpstream,
    anthropic_message,
    anthropic_stream,
    call,
    chat_reply,
    encode_events,
    json_reply,
    silent_reply,
    stream_reply,
    text_block,
    tool_use_block,
)
from tests.support.waiting import eventually
from tests.support.wire import Json

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
NATIVE = ("vllm", "sglang", "llamacpp", "ollama")
MODELS = [
    *(f"{name}/{name}-model" for name in (*NATIVE, "openai", "fastapi")),
    *(f"{name}-translated/{name}-model" for name in (*NATIVE, "anthropic")),
]
COMMANDS = {"toolu_a": "ls", "toolu_b": "rm -rf /"}
BLOCKS = [
    text_block("I do."),
    *(tool_use_block("Bash", {"command": each}, id=ident) for ident, each in COMMANDS.items()),
]
FOUND: Json = {
    "toolu_a": {"type": "evaluated", "outcome": "not_flagged"},
    "toolu_b": {"type": "evaluated", "outcome": "flagged", "explanation": "It is so."},
}


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.base_url, params={"beta": "true"}) as client:
        yield client


def judges(request: RecordedRequest) -> bool:
    """Whether a request asks for a verdict."""
    return b"You are a security reviewer" in request.body


def verdict(request: RecordedRequest) -> str:
    judged = request.body.rpartition(rb"<call>\n")[2]
    outcome = "flagged" if b"rm -rf" in judged else "not_flagged"
    return orjson.dumps({"explanation": "It is so.", "outcome": outcome}).decode()


HELLO: list[Json] = [{"role": "user", "content": "Hello"}]
SUMMARIZE: Json = {"type": "summarize"}


def speaks_messages(upstream: ScriptedUpstream, found: Callable[[RecordedRequest], str] = verdict) -> Responder:
    """A native engine that makes two calls, and judges; the probe meets it as it is."""

    def reply(request: RecordedRequest) -> Reply:
        if "messages" not in request.json:
            usual = upstream.personality.answer(request.method, request.path)
            return usual(request) if callable(usual) else usual
        message = anthropic_message(found(request) if judges(request) else BLOCKS, model=request.json["model"])
        streamed = request.json.get("stream")
        return stream_reply(encode_events(anthropic_stream(message))) if streamed else json_reply(message)

    return reply


def speaks_chat(request: RecordedRequest) -> Reply:
    made = [call("Bash", {"command": each}, id=ident) for ident, each in COMMANDS.items()]
    answer = chat_reply(verdict(request)) if judges(request) else chat_reply("I do.", tool_calls=made)
    assert callable(answer)
    return answer(request)


def answered(response: httpx.Response) -> tuple[Json, Any]:
    """The message, and what is told of its calls where the client looks for it."""
    assert response.status_code == 200, response.text
    if not response.headers["content-type"].startswith("text/event-stream"):
        message = response.json()
        return message, message["safeguard_results"]
    events = sse.events(response.content)
    assert_well_formed(events)
    (told,) = [event["delta"] for event in events if event["type"] == "message_delta"]
    return fold(events), told["safeguard_results"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", ["332 first", "332 not streamed"])
def test_each_call_has_a_verdict(shape: str, model: str, client: httpx.Client, fleet: Fleet) -> None:
    upstream = fleet.upstreams[model.partition("/")[0].removesuffix("-translated")]
    upstream.reply(CHAT, speaks_chat)
    upstream.reply(MESSAGES, speaks_messages(upstream))
    version, body = SHAPES[shape]
    response = client.post(MESSAGES, json={**body, "model": model}, headers=headers(version))
    message, results = answered(response)
    assert [block["input"]["command"] for block in message["content"][1:]] == list(COMMANDS.values())
    assert results == [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": FOUND}}]
    assert message["usage"]["output_tokens"] == 5
    assert "safeguards" not in response.headers.get("x-messages-dropped", "")
    asked = [seen for path in (CHAT, MESSAGES) for seen in upstream.requests_to(path) if "messages" in seen.json]
    assert all("safeguards" not in seen.json for seen in asked)
    assert sorted(map(judges, asked)) == [False, True, True]
    if model.startswith("vllm/"):
        assert response.headers["x-messages-route"] == "native"
        assert asked[-1].json["output_config"]["format"]["type"] == "json_schema"
        assert asked[-1].path == MESSAGES


@pytest.mark.parametrize("shape", ["332 first", "332 not streamed"])
@pytest.mark.parametrize("model", ["vllm/vllm-model", "openai/openai-model"])
def test_an_answer_without_calls_says_so(shape: str, model: str, client: httpx.Client) -> None:
    version, body = SHAPES[shape]
    _, results = answered(client.post(MESSAGES, json={**body, "model": model}, headers=headers(version)))
    assert results == [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": {}}}]


def test_anthropic_s_own_endpoint_judges_by_itself(client: httpx.Client, fleet: Fleet) -> None:
    version, body = SHAPES["332 first"]
    response = client.post(MESSAGES, json={**body, "model": "anthropic/anthropic-model"}, headers=headers(version))
    seen = fleet.upstreams["anthropic"].requests_to(MESSAGES)[-1]
    assert seen.json["safeguards"] == SAFEGUARDS
    assert "dangerous-tool-use-2026-09-03" in seen.headers["anthropic-beta"]
    assert b"safeguard_results" not in response.content  # this one has none to tell


def test_a_request_without_them_is_passed_on_as_it_came(client: httpx.Client, fleet: Fleet) -> None:
    version, body = SHAPES["330 first, stream-json"]
    tools = [tool for tool in body["tools"] if not tool.get("defer_loading")]  # which no engine but Anthropic's gets
    sent = orjson.dumps({**body, "system": "Short.", "tools": tools, "model": "vllm/vllm-model"})
    client.post(MESSAGES, content=sent, headers={**headers(version), "content-type": "application/json"})
    assert fleet.upstreams["vllm"].requests_to(MESSAGES)[-1].body == sent.replace(b"vllm/vllm-model", b"vllm-model")


@pytest.mark.parametrize("model", ["vllm/vllm-model", "openai/openai-model"])
@pytest.mark.parametrize("asked", ["x", {"type": "dangerous_tool_use"}, 7])
def test_what_is_no_array_is_a_400_that_names_it(asked: Any, model: str, client: httpx.Client) -> None:
    version, body = SHAPES["332 first"]
    response = client.post(MESSAGES, json={**body, "safeguards": asked, "model": model}, headers=headers(version))
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "safeguards: Input should be an array"


def test_a_client_that_leaves_takes_the_classifier_with_it(client: httpx.Client, fleet: Fleet) -> None:
    upstream = fleet.upstreams["openai"]
    made = chat_reply("I do.", tool_calls=[call("Bash", {"command": "ls"}, id="toolu_a")])
    assert callable(made)
    upstream.reply(CHAT, lambda request: silent_reply() if judges(request) else made(request))
    version, body = SHAPES["332 first"]
    with client.stream(
        "POST", MESSAGES, json={**body, "model": "openai/openai-model"}, headers=headers(version)
    ) as response:
        for line in response.iter_lines():
            if line == "event: content_block_stop":
                break
        eventually(lambda: any(map(judges, upstream.requests)))
    (asked,) = filter(judges, upstream.requests)
    eventually(lambda: asked.disconnected_at)


def test_the_judge_is_one_that_the_user_may_use(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another model by configuration, on a server with authentication: verdicts for who may use it, and no others."""
    folder = tmp_path_factory.mktemp("judge")
    users = {"boss": ("boss", {"roles": ["admin"]}), "clerk": ("clerk", {"roles": ["user"]})}
    policy = [
        {"permit": {"actions": ["read"], "resource": "model::small/small-model"}, "when": "user with admin in roles"},
        {"permit": {"actions": ["read"], "resource": "model::big/big-model"}},
    ]
    with (
        ScriptedUpstream(identities(users)) as auth,
        ScriptedUpstream(vllm(models=["big-model"])) as big,
        ScriptedUpstream(vllm(models=["small-model"])) as small,
    ):
        for upstream in (big, small):
            upstream.reply(MESSAGES, speaks_messages(upstream))
        config = run_config(
            folder,
            inference=[vllm_provider(big.url, "big"), vllm_provider(small.url, "small")],
            messages={"safeguards": {"model": "small/small-model"}, "compaction": {"model": "small/small-model"}},
            auth=custom_auth(auth.url, policy),
        )
        version, body = SHAPES["332 first"]
        told = {}
        with Stack(config, folder) as stack:
            for user in users:
                sent = {**body, "model": "big/big-model"}
                key = {**headers(version), "authorization": f"Bearer {user}"}
                _, results = answered(httpx.post(stack.base_url + MESSAGES, json=sent, headers=key))
                told[user] = results[0]["status"]
            for user, summarised in (("boss", True), ("clerk", False)):
                asked = {"model": "big/big-model", "max_tokens": 9, "messages": HELLO, "compaction": SUMMARIZE}
                key = {"authorization": f"Bearer {user}"}
                block = httpx.post(stack.base_url + MESSAGES, json=asked, headers=key).json()["content"][0]
                assert (block["type"], block["content"] is not None) == ("compaction", summarised)
        assert told == {
            "boss": {"type": "available", "tool_uses": FOUND},
            "clerk": {"type": "unavailable", "reason": "error"},
        }
        assert sum(map(judges, small.requests)) == 2
        assert not any(map(judges, big.requests))


def test_a_real_model_s_verdict_is_one_that_clients_know(embedded_stack: Stack) -> None:
    """It is too small to call tools, and to judge: what it says is read, or is no verdict."""
    version, body = SHAPES["332 first"]
    sent = {**body, "model": "claude-x", "tools": [], "system": "Short.", "max_tokens": 8}
    _, results = answered(
        httpx.post(embedded_stack.base_url + MESSAGES, json=sent, headers=headers(version), timeout=60)
    )
    assert results == [{"type": "dangerous_tool_use", "status": {"type": "available", "tool_uses": {}}}]
