"""The three ways of a translated request to its upstream are one request and one answer.

`wire`: over our own session. `provider`: over a provider that makes its own request. `router`: over the host's
router and its inference store, where that is configured.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.support.fixtures import chunk_bytes, chunk_names, chunks
from tests.support.laws import assert_calls_conserved, assert_text_conserved, assert_well_formed, fold
from tests.support.sse import events as sse_events
from tests.support.stack import Stack, openai_provider, run_config
from tests.support.upstream import (
    Reply,
    ScriptedUpstream,
    call,
    chat_reply,
    chat_stream_reply,
    completion_usage,
    cut_reply,
    delta,
    encode_chunks,
    json_reply,
    stream_reply,
)
from tests.support.waiting import eventually
from tests.support.wire import Json

CHAT = "/v1/chat/completions"
WAYS = ("wire", "provider", "router")


@dataclass(frozen=True)
class Way:
    """One way to the upstream."""

    name: str
    stack: Stack
    upstream: ScriptedUpstream

    def post(self, path: str = "", **changes: Any) -> httpx.Response:
        body = {"model": f"{self.name}/test-model", "max_tokens": 50, "messages": [user("Hi")], **changes}
        return httpx.post(f"{self.stack.base_url}/v1/messages{path}", json=body, timeout=60)

    def sent(self, **changes: Any) -> Json:
        """What reaches the upstream."""
        answer = self.post(**changes)
        assert answer.status_code == 200, answer.text
        found: Json = self.upstream.requests_to(CHAT)[-1].json
        return found

    def answers(self, **changes: Any) -> tuple[Json, Json]:
        """The whole answer, and the folded stream."""
        whole, streamed = self.post(**changes), self.post(stream=True, **changes)
        assert whole.status_code == streamed.status_code == 200, whole.text + streamed.text
        events = sse_events(streamed.content)
        assert_well_formed(events)
        return whole.json(), fold(events)


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


@pytest.fixture(scope="module")
def _ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    with ExitStack() as opened:
        upstream = opened.enter_context(ScriptedUpstream())
        own: Json = {"provider_id": "provider", "provider_type": "remote::own", "module": "tests.support.own_provider"}
        own["config"] = {"base_url": f"{upstream.url}/v1", "api_key": "sk-test"}
        infer: Json = {"translation": {"count_by_inference": True}}
        settings: dict[str, tuple[list[Json], Json]] = {
            "direct": ([openai_provider(upstream.url, "wire"), own], infer),
            "stored": ([openai_provider(upstream.url, "router")], {"store_completions": True, **infer}),
        }
        stacks = {}
        for name, (inference, messages) in settings.items():
            folder = tmp_path_factory.mktemp(name)
            config = run_config(folder, inference=inference, messages=messages)
            stacks[name] = opened.enter_context(Stack(config, folder, env={"PYTHONPATH": str(ROOT)}))
        where = {"wire": "direct", "provider": "direct", "router": "stored"}
        yield {name: Way(name, stacks[at], upstream) for name, at in where.items()}


@pytest.fixture
def ways(_ways: dict[str, Way]) -> dict[str, Way]:
    _ways["wire"].upstream.forget()
    return _ways


@pytest.fixture(params=WAYS)
def way(ways: dict[str, Way], request: pytest.FixtureRequest) -> Way:
    return ways[request.param]


REQUESTS: dict[str, Json] = {
    "plain": {},
    "sampling": {"temperature": 0.5, "top_p": 0.25, "top_k": 7, "stop_sequences": ["END"]},
    "system": {"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    "images": {
        "messages": [
            user(
                [
                    {"type": "text", "text": "Look:"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                ]
            )
        ]
    },
    "tools": {
        "tools": [
            {
                "name": "look",
                "description": "Looks.",
                "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "$defs": {}},
            }
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "messages": [
            user("Hi"),
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky", "n": 1.0}},
                ],
            },
            user([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Clouds.", "is_error": True}]),
            {"role": "system", "content": "Now shout."},
            user("So?"),
        ],
    },
    "structured output": {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    "effort": {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}},
    "thinking off": {"thinking": {"type": "disabled"}},
    "user": {"metadata": {"user_id": "ann"}},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_same_request_reaches_the_upstream(ways: dict[str, Way], name: str) -> None:
    sent = {way: ways[way].sent(**REQUESTS[name]) for way in WAYS}
    assert sent["provider"] == sent["wire"]
    assert sent["router"] == sent["wire"]


def test_a_stream_asks_for_its_usage(way: Way) -> None:
    sent = way.sent(stream=True)
    assert sent["stream"] is True
    assert sent["stream_options"]["include_usage"] is True


ANSWERS: dict[str, Any] = {
    "text": chat_reply("Hello there"),
    "reasoning": chat_reply("Four.", reasoning_content="Two and two."),
    "calls": chat_reply("Let me see.", tool_calls=[call("look", {"at": "sky"}), call("clock", "")]),
    "usage": chat_reply("Hello", usage=completion_usage(100, 7, cached_tokens=64)),
    "a limit": chat_reply("Hel", finish_reason="length", usage=completion_usage(10, 50)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_same_answer_comes_back(ways: dict[str, Way], name: str) -> None:
    ways["wire"].upstream.reply(CHAT, ANSWERS[name])
    answers = [comparable(answer) for way in WAYS for answer in ways[way].answers()]
    assert all(answer == answers[0] for answer in answers[1:])


def comparable(message: Json) -> Json:
    """Without what is made anew for each answer."""
    content = [{**block, "signature": ""} for block in message["content"]]
    return {**message, "content": content, "id": "", "model": ""}


def test_the_stop_sequence_that_an_engine_tells_survives(way: Way) -> None:
    end = {"finish_reason": "stop", "stop_reason": "END"}
    way.upstream.reply(CHAT, chat_stream_reply([delta("Hi"), delta(choice=end)]))
    events = sse_events(way.post(stream=True, stop_sequences=["END"]).content)
    assert fold(events)["stop_sequence"] == "END"


ODD = {*chunk_names("error_"), "abort_sglang"}


@pytest.mark.parametrize("name", sorted(set(chunk_names()) - ODD))
@pytest.mark.parametrize("way", ["provider", "router"], indirect=True)
def test_every_recorded_stream_keeps_the_laws(way: Way, name: str) -> None:
    """Over the wire: in `test_translation`."""
    way.upstream.reply(CHAT, stream_reply(chunk_bytes(name)))
    events = sse_events(way.post(stream=True, thinking={"type": "adaptive"}).content)
    assert_well_formed(events)
    assert_calls_conserved(chunks(name), events)
    assert_text_conserved(chunks(name), events)


def openai_error(status: int, message: str) -> Reply:
    error = {"message": message, "type": "some_error", "param": None, "code": None}
    return json_reply({"error": error}, status=status, headers={"retry-after": "1"} if status == 429 else {})


FAILURES: dict[str, tuple[Reply, int, str, str]] = {
    "400": (openai_error(400, "no such thing"), 400, "invalid_request_error", "no such thing"),
    "401": (openai_error(401, "bad key"), 401, "authentication_error", "credentials"),
    "404": (openai_error(404, "no such model"), 404, "not_found_error", "no such model"),
    "429": (openai_error(429, "slow down"), 429, "rate_limit_error", "slow down"),
    "500": (openai_error(500, "boom"), 500, "api_error", "boom"),
    "no connection": (cut_reply([]), 502, "api_error", ""),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_same_error_comes_back(way: Way, name: str, stream: bool) -> None:
    reply, status, kind, told = FAILURES[name]
    way.upstream.reply(CHAT, reply)
    answer = way.post(stream=stream)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, kind)
    assert told in error["message"]
    assert answer.headers.get("retry-after") == ("1" if status == 429 else None)


BROKEN: dict[str, Reply] = {
    "an error chunk": chat_stream_reply([delta("Hel"), {"error": {"message": "out of memory", "code": 500}}]),
    "a connection that is cut": cut_reply(encode_chunks([delta("Hel")], done=False)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_in_mid_stream_is_an_error_event(way: Way, name: str) -> None:
    way.upstream.reply(CHAT, BROKEN[name])
    events = sse_events(way.post(stream=True).content)
    assert_well_formed(events)
    assert events[-1]["type"] == "error"
    assert "Hel" in str(events)


def test_counts_without_a_tokenizer_read_the_usage_cached_tokens_included(way: Way) -> None:
    way.upstream.reply(CHAT, chat_reply("H", usage=completion_usage(100, 1, cached_tokens=64)))
    answer = way.post("/count_tokens")
    assert answer.json() == {"input_tokens": 100}
    assert answer.headers["x-messages-count-source"] == "inference"


def test_only_the_router_stores_completions(ways: dict[str, Way]) -> None:
    for way in ways.values():
        assert way.post().status_code == 200

    def stored(name: str) -> int:
        url = f"{ways[name].stack.base_url}/v1/chat/completions"
        return len(httpx.get(url, params={"limit": 1}).raise_for_status().json()["data"])

    assert eventually(lambda: stored("router"))
    assert stored("wire") == 0
