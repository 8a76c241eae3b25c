"""The native route over the real host: what is passed through, what is exchanged, and when it is not taken."""

import concurrent.futures
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from tests.conftest import Fleet
from tests.support.laws import assert_well_formed, fold
from tests.support.personalities import vllm
from tests.support.sse import events as sse_events
from tests.support.stack import Stack, free_port, openai_provider, run_config, vllm_provider
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    ScriptedUpstream,
    encode_events,
    json_reply,
    raw_reply,
    stream_reply,
    text_block,
    thinking_block,
    tool_use_block,
)
from tests.support.waiting import eventually
from tests.support.wire import Json, anthropic_message, anthropic_stream

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
CHAT = "/v1/chat/completions"
NATIVE = ("vllm", "sglang", "llamacpp", "ollama", "anthropic")
NOT_NATIVE = ("openai", "odd", "fastapi")


@pytest.fixture
def http(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.base_url, timeout=60) as http:
        yield http


def body(model: str, **more: Any) -> Json:
    return {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}], **more}


def asked_of(upstream: ScriptedUpstream, path: str = MESSAGES) -> list[RecordedRequest]:
    """The requests to a path, without the probe's."""
    return [seen for seen in upstream.requests_to(path) if seen.json and "messages" in seen.json]


# --- which upstreams ---


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_upstreams_that_speak_messages_are_native(http: httpx.Client, fleet: Fleet, name: str, stream: bool) -> None:
    answer = http.post(MESSAGES, json=body(f"{name}/{name}-model", stream=stream))
    assert answer.status_code == 200
    assert answer.headers["x-messages-route"] == "native"
    assert answer.headers["x-messages-model"] == f"{name}/{name}-model"
    assert len(asked_of(fleet.upstreams[name])) == 1
    assert not fleet.upstreams[name].requests_to(CHAT)
    message = fold(checked(answer)) if stream else answer.json()
    assert message["model"] == f"{name}/{name}-model"
    assert message["content"][0]["text"] == f"Hello from {name}-model"
    assert message["stop_reason"] == "end_turn"


def checked(answer: httpx.Response) -> list[Json]:
    found = sse_events(answer.content)
    assert_well_formed(found)
    return found


@pytest.mark.parametrize("name", NOT_NATIVE)
def test_upstreams_that_only_look_as_if_they_did_are_translated(http: httpx.Client, fleet: Fleet, name: str) -> None:
    """A server that answers 200 to anything, FastAPI's own 404, OpenAI's error object."""
    answer = http.post(MESSAGES, json=body(f"{name}/{name}-model"))
    assert answer.status_code == 200
    assert answer.headers["x-messages-route"] == "translation"
    assert answer.json()["content"][0]["text"] == f"Hello from {name}-model"
    assert not asked_of(fleet.upstreams[name])


def test_the_translation_route_can_be_forced(http: httpx.Client, fleet: Fleet) -> None:
    answer = http.post(MESSAGES, json=body("vllm-translated/vllm-model"))
    assert answer.headers["x-messages-route"] == "translation"
    assert not asked_of(fleet.upstreams["vllm"])


def test_the_native_route_can_be_forced_where_there_is_one(http: httpx.Client) -> None:
    assert http.post(MESSAGES, json=body("vllm-native/vllm-model")).headers["x-messages-route"] == "native"
    refused = http.post(MESSAGES, json=body("fastapi-native/fastapi-model"))
    assert refused.status_code == 400
    assert "configured for the native route" in refused.json()["error"]["message"]


@pytest.mark.parametrize("name", ["dead", "dead-native", "dead-translated"])
def test_an_upstream_that_is_down_is_said_to_be(http: httpx.Client, name: str) -> None:
    answer = http.post(MESSAGES, json=body(f"{name}/dead-model"))
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "api_error"
    assert "could not be reached" in answer.json()["error"]["message"]


# --- bytes ---

ODD_REQUEST = (
    b'{ "max_tokens" : 50,\n  "model":"MODEL" ,"unheard_of": {"b":1e2,"a":[1.50, "\\u00e9"]},\n'
    b'\t"messages":[{"content" :"caf\xc3\xa9 \\u2028","role":"user","x":null}], "top_p":0.10}'
)
ODD_ANSWER = (
    b'{ "model": "MODEL", "type":"message", "id":"msg_1","role":"assistant", "n": 1e2,\n'
    b' "content":[{"text":"\\u00e9", "type":"text" ,"new":{}}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"output_tokens" :1,"input_tokens":2,"later":[]}}'
)


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name in NATIVE for path in (MESSAGES, COUNT) if (name, path) != ("ollama", COUNT)],
)
def test_a_request_is_passed_on_byte_by_byte_but_for_the_model(
    http: httpx.Client, fleet: Fleet, name: str, path: str
) -> None:
    upstream = fleet.upstreams[name]
    sent = ODD_REQUEST.replace(b"MODEL", f"{name}/{name}-model".encode())
    answer = http.post(f"{path}?beta=true", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    [seen] = asked_of(upstream, path)
    assert seen.body == ODD_REQUEST.replace(b"MODEL", f"{name}-model".encode())


@pytest.mark.parametrize("name", ["vllm", "anthropic"])
def test_an_answer_comes_back_byte_by_byte_but_for_the_model(http: httpx.Client, fleet: Fleet, name: str) -> None:
    sent = raw_reply(ODD_ANSWER.replace(b"MODEL", f"{name}-model".encode()), content_type="application/json")
    fleet.upstreams[name].reply(MESSAGES, sent)
    answer = http.post(MESSAGES, json=body(f"{name}/{name}-model"))
    assert answer.content == ODD_ANSWER.replace(b"MODEL", f"{name}/{name}-model".encode())


def streamed(model: str) -> list[bytes]:
    """A stream with blocks of several kinds, an event and fields that nobody knows, and odd spacing."""
    blocks = [thinking_block("Hm."), text_block('He said "model":"x".'), tool_use_block("look", {"model": "m"})]
    parts = encode_events(anthropic_stream(anthropic_message(blocks, model=model, extra={"n": 1})))
    parts.insert(2, b'event: later\ndata: { "type":"later", "model" : "other" }\n\n')
    return parts


@pytest.mark.parametrize("name", ["vllm", "anthropic"])
@pytest.mark.parametrize("cut", [0, 1, 7], ids=["an event a write", "one byte a write", "seven bytes a write"])
def test_a_stream_comes_back_byte_by_byte_but_for_the_model(
    http: httpx.Client, fleet: Fleet, name: str, cut: int
) -> None:
    events = streamed(f"{name}-model")
    whole = b"".join(events)
    pieces = [whole[at : at + cut] for at in range(0, len(whole), cut)] if cut else events
    fleet.upstreams[name].reply(MESSAGES, stream_reply(pieces))
    answer = http.post(MESSAGES, json=body(f"{name}/{name}-model", stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == b"".join(streamed(f"{name}/{name}-model"))


# --- headers ---


def test_versions_and_betas_are_forwarded(http: httpx.Client, fleet: Fleet) -> None:
    request = http.build_request("POST", MESSAGES, json=body("vllm/vllm-model"))
    request.headers = httpx.Headers(
        [
            *request.headers.multi_items(),
            ("anthropic-version", "2042-01-01"),
            ("anthropic-beta", "one"),
            ("anthropic-beta", "two,three"),
            ("x-other", "no"),
            ("cookie", "a=b"),
        ]
    )
    assert http.send(request).status_code == 200
    headers = asked_of(fleet.upstreams["vllm"])[0].headers
    assert headers["anthropic-version"] == "2042-01-01"
    assert headers.getall("anthropic-beta") == ["one,two,three"]
    assert "x-other" not in headers
    assert "cookie" not in headers


def test_a_version_is_sent_where_the_client_sends_none(http: httpx.Client, fleet: Fleet) -> None:
    http.post(MESSAGES, json=body("anthropic/anthropic-model"))
    headers = asked_of(fleet.upstreams["anthropic"])[0].headers
    assert headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in headers


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_client_s_credentials_are_never_sent_upstream(
    http: httpx.Client, fleet: Fleet, name: str, header: str, stream: bool
) -> None:
    secret = "Bearer of-the-client" if header == "authorization" else "of-the-client"
    headers = {header: secret}
    assert http.post(MESSAGES, json=body(f"{name}/{name}-model", stream=stream), headers=headers).is_success
    assert http.post(COUNT, json=body(f"{name}/{name}-model"), headers=headers).is_success
    for seen in fleet.upstreams[name].requests:
        assert "of-the-client" not in str(seen.headers)
        assert "x-api-key" not in seen.headers
        assert seen.headers["authorization"] == ("Bearer fake" if name == "vllm" else "Bearer sk-test")


# --- counts ---


@pytest.mark.parametrize("name", NATIVE)
def test_tokens_are_counted_by_the_upstream(http: httpx.Client, fleet: Fleet, name: str) -> None:
    answer = http.post(COUNT, json=body(f"{name}/{name}-model"))
    assert answer.is_success
    assert answer.json()["input_tokens"] > 0
    source = "estimate" if name == "ollama" else "native"
    assert answer.headers["x-messages-count-source"] == source
    assert len(asked_of(fleet.upstreams[name], COUNT)) == (source == "native")


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("vllm-translated/vllm-model", "tokenizer"),
        ("llamacpp-translated/llamacpp-model", "tokenizer"),
        ("openai/openai-model", "estimate"),
    ],
)
def test_tokens_are_counted_without_a_native_endpoint(
    http: httpx.Client, fleet: Fleet, model: str, source: str
) -> None:
    upstream = fleet.upstreams[model.split("/")[1].removesuffix("-model")]
    answer = http.post(COUNT, json=body(model, max_tokens=None))
    assert answer.is_success
    assert answer.json()["input_tokens"] > 0
    assert answer.headers["x-messages-count-source"] == source
    assert upstream.requests_to(CHAT) == []


# --- when the endpoint is not there, or not there yet ---


@dataclass(frozen=True)
class Own:
    """A server with upstreams that one test each may spoil; the capability of none is known yet."""

    stack: Stack
    upstreams: dict[str, ScriptedUpstream]
    late_port: int

    def post(self, name: str, path: str = MESSAGES, **more: Any) -> httpx.Response:
        headers = more.pop("headers", None)
        url = f"{self.stack.base_url}{path}"
        return httpx.post(url, json=body(f"{name}/test-model", **more), headers=headers, timeout=60)


GONE = [f"gone-{status}-{how}" for status in (404, 405, 501) for how in ("whole", "streamed")]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    folder = tmp_path_factory.mktemp("native")
    late_port = free_port()
    names = [*GONE, "counts", "crowd"]
    with ExitStack() as opened:
        upstreams = {name: opened.enter_context(ScriptedUpstream(vllm())) for name in [*names, "keyed"]}
        upstreams["chat"] = opened.enter_context(ScriptedUpstream())
        inference = [vllm_provider(upstreams[name].url, name) for name in names]
        inference.append(vllm_provider(f"http://127.0.0.1:{late_port}", "late"))
        inference += [openai_provider(upstreams[name].url, name, api_key=None) for name in ("keyed", "chat")]
        config = run_config(folder, inference=inference, messages={"probe": {"no_seconds": 600}})
        yield Own(opened.enter_context(Stack(config, folder)), upstreams, late_port)


@pytest.mark.parametrize("name", GONE)
def test_an_endpoint_that_goes_away_is_made_up_for_in_the_same_request(own: Own, name: str) -> None:
    upstream, stream = own.upstreams[name], name.endswith("streamed")
    assert own.post(name, stream=stream).headers["x-messages-route"] == "native"
    upstream.reply(MESSAGES, json_reply({"detail": "Not here"}, status=int(name.split("-")[1])))
    answer = own.post(name, stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-messages-route"] == "translation"
    message = fold(checked(answer)) if stream else answer.json()
    assert message["content"][0]["text"] == "Hello from test-model"
    upstream.forget()
    assert own.post(name, stream=stream).headers["x-messages-route"] == "translation"
    assert not upstream.requests_to(MESSAGES), "the capability was not forgotten"


def test_a_count_endpoint_that_goes_away_is_made_up_for_in_the_same_request(own: Own) -> None:
    upstream = own.upstreams["counts"]
    assert own.post("counts", COUNT).headers["x-messages-count-source"] == "native"
    upstream.reply(COUNT, json_reply({"detail": "Not here"}, status=404))
    answer = own.post("counts", COUNT)
    assert answer.is_success
    assert answer.headers["x-messages-count-source"] == "tokenizer"
    assert own.post("counts").headers["x-messages-route"] == "native"


def test_a_model_that_the_upstream_lacks_is_no_missing_endpoint(own: Own) -> None:
    """The 404 is an answer of the endpoint: it is told, and the capability stays."""
    url = f"{own.stack.base_url}{MESSAGES}"
    answer = httpx.post(url, json=body("counts/no-such-model"), timeout=60)
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
    assert own.post("counts").headers["x-messages-route"] == "native"


def test_an_upstream_that_is_not_up_yet_is_not_taken_for_one_that_cannot(own: Own) -> None:
    assert own.post("late").status_code == 502
    with ScriptedUpstream(vllm(), port=own.late_port):
        route = eventually(
            lambda: own.post("late").headers["x-messages-route"] == "native", within=20, what="the native route"
        )
        assert route


def test_requests_that_come_together_share_one_probe(own: Own) -> None:
    upstream = own.upstreams["crowd"]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: own.post("crowd"), range(24)))
    assert {answer.headers["x-messages-route"] for answer in answers} == {"native"}
    assert len(asked_of(upstream)) == 24
    assert len(upstream.requests_to(MESSAGES)) == 25
    assert len(upstream.requests_to(COUNT)) == 1


def with_key(key: str) -> dict[str, str]:
    return {"x-llamastack-provider-data": orjson.dumps({"openai_api_key": key}).decode()}


@pytest.mark.parametrize(("name", "route"), [("keyed", "native"), ("chat", "translation")])
def test_the_key_of_the_request_s_provider_data_is_used(own: Own, name: str, route: str) -> None:
    upstream = own.upstreams[name]
    for key in ("sk-ann", "sk-bob"):
        for stream in (False, True):
            answer = own.post(name, stream=stream, headers=with_key(key))
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-messages-route"] == route
            assert upstream.last.headers["authorization"] == f"Bearer {key}"
            assert "openai_api_key" not in str(upstream.last.headers)


# --- repaired engines ---


def broken_llama_cpp(request: RecordedRequest) -> Reply:
    """Blocks that overlap, as llama.cpp streams them."""
    start = {"type": "message_start", "message": {**anthropic_message([], model="x"), "stop_reason": None}}
    events = [
        start,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_start", "index": 1, "content_block": tool_use_block("look", {})},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]
    return stream_reply(encode_events(events))


def test_a_stream_that_breaks_the_grammar_is_mended(http: httpx.Client, fleet: Fleet) -> None:
    fleet.upstreams["llamacpp"].reply(MESSAGES, broken_llama_cpp)
    answer = http.post(MESSAGES, json=body("llamacpp/llamacpp-model", stream=True))
    assert answer.headers["x-messages-route"] == "native"
    message = fold(checked(answer))
    assert [block["type"] for block in message["content"]] == ["text", "tool_use"]
    assert message["model"] == "llamacpp/llamacpp-model"
