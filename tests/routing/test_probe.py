"""What is asked of an upstream, and whose answer it is."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from llama_stack_messages_provider.routing import probe
from llama_stack_messages_provider.routing.probe import Prober
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.sessions import Sessions
from tests.support.personalities import ollama, openai_style, vllm
from tests.support.replies import Reply, json_reply
from tests.support.upstream import Personality, ScriptedUpstream


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def sessions() -> AsyncIterator[Sessions]:
    sessions = Sessions()
    yield sessions
    await sessions.close()


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> Iterator[ScriptedUpstream]:
    kind: Personality = getattr(request, "param", None) or vllm(models=["m"])
    with ScriptedUpstream(kind) as upstream:
        yield upstream


def prober_of(sessions: Sessions, clock: Clock | None = None) -> Prober:
    return Prober(sessions, timeout=5, yes_seconds=600, no_seconds=60, clock=clock or Clock())


def endpoint(upstream: ScriptedUpstream, key: str | None = "good") -> Endpoint:
    return Endpoint("p", upstream.url, upstream.url, f"{upstream.url}/v1", key)


@pytest.mark.parametrize("upstream", [openai_style(["m"]), vllm(models=["m"])], indirect=True, ids=["openai", "vllm"])
async def test_invented_names_ask_nothing_more_where_models_do_not_differ(
    upstream: ScriptedUpstream, sessions: Sessions
) -> None:
    prober = prober_of(sessions)
    first = await prober.capability("p", endpoint(upstream), "m")
    for number in range(20):
        other = await prober.capability("p", endpoint(upstream), f"invented-{number}")
        assert (other.messages, other.engine) == (first.messages, first.engine)
    assert len(upstream.requests) == 3


def only_for(key: str, good: Any) -> Any:
    def answer(request: Any) -> Reply:
        if request.headers.get("authorization") != f"Bearer {key}":
            return json_reply({"error": {"message": "bad key"}}, status=401)
        reply = good(request) if callable(good) else good
        assert isinstance(reply, Reply)
        return reply

    return answer


async def test_a_key_that_is_refused_decides_nothing_for_others(upstream: ScriptedUpstream, sessions: Sessions) -> None:
    kind = upstream.personality
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/models"):
        method = "GET" if path == "/v1/models" else "POST"
        upstream.reply(path, only_for("good", kind.answer(method, path)))
    prober = prober_of(sessions)
    assert (await prober.capability("p", endpoint(upstream, "bad"), "m")).messages == "unknown"
    good = await prober.capability("p", endpoint(upstream), "m")
    assert (good.messages, good.engine) == ("yes", "vllm")
    # From now on the others' answer is known, whatever the key: the upstream itself will refuse it.
    asked = len(upstream.requests)
    await prober.capability("p", endpoint(upstream, "another"), "m")
    assert len(upstream.requests) == asked


async def test_a_missing_endpoint_is_forgotten_for_its_model_only(
    upstream: ScriptedUpstream, sessions: Sessions
) -> None:
    prober = prober_of(sessions)
    at = endpoint(upstream)
    assert (await prober.capability("p", at, "m")).native
    prober.forget("p", at, "invented", "404")
    assert (await prober.capability("p", at, "m")).native
    gone = await prober.capability("p", at, "invented")
    assert (gone.native, gone.engine, gone.reason) == (False, "vllm", "404")


async def test_what_is_remembered_expires(upstream: ScriptedUpstream, sessions: Sessions) -> None:
    clock = Clock()
    prober = prober_of(sessions, clock)
    for now, asked in ((0.0, 3), (599.0, 3), (601.0, 6)):
        clock.now = now
        await prober.capability("p", endpoint(upstream), "m")
        assert len(upstream.requests) == asked


async def test_what_is_remembered_is_bounded(
    upstream: ScriptedUpstream, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_MAX_MODELS", 5)
    prober = prober_of(sessions)
    for number in range(50):
        prober.forget("p", endpoint(upstream), f"m{number}", "404")
    assert len(prober._models) == 5
    assert not prober._asking


RUNNING = {
    "name": "gemma4:latest",
    "model": "gemma4:latest",
    "size": 6591830464,
    "details": {"parent_model": "", "format": "gguf", "family": "gemma4"},
    "expires_at": "2025-10-17T16:47:07.93355-07:00",
    "size_vram": 5333539264,
    "context_length": 4096,
}


@pytest.mark.parametrize("name", ["gemma4", "gemma4:latest"])
@pytest.mark.parametrize("upstream", [ollama(["gemma4", "gemma4:latest", "other"])], indirect=True)
async def test_ollama_tells_the_window_that_a_model_was_loaded_with(
    upstream: ScriptedUpstream, sessions: Sessions, name: str
) -> None:
    upstream.reply("GET /api/ps", json_reply({"models": [{"model": 5}, None, RUNNING]}))
    prober = prober_of(sessions)
    found = await prober.capability("p", endpoint(upstream), name)
    assert (found.engine, found.window) == ("ollama", 4096)
    assert (await prober.capability("p", endpoint(upstream), "other")).window is None


@pytest.mark.parametrize("upstream", [ollama(["gemma4"])], indirect=True)
async def test_a_model_that_is_not_loaded_yet_is_asked_for_again_soon(
    upstream: ScriptedUpstream, sessions: Sessions
) -> None:
    upstream.reply("GET /api/ps", json_reply({"models": []}))
    clock = Clock()
    prober = prober_of(sessions, clock)
    found = await prober.capability("p", endpoint(upstream), "gemma4")
    assert (found.messages, found.window) == ("yes", None)
    upstream.reply("GET /api/ps", json_reply({"models": [RUNNING]}))
    clock.now += 61
    assert (await prober.capability("p", endpoint(upstream), "gemma4")).window == 4096
    asked = len(upstream.requests)
    clock.now += 300
    await prober.capability("p", endpoint(upstream), "gemma4")
    assert len(upstream.requests) == asked


@pytest.mark.parametrize("answer", [Reply(404), json_reply([]), json_reply({"models": 5}), json_reply({"models": {}})])
@pytest.mark.parametrize("upstream", [ollama(["gemma4"])], indirect=True)
async def test_what_does_not_tell_windows_has_none(
    upstream: ScriptedUpstream, sessions: Sessions, answer: Reply
) -> None:
    upstream.reply("GET /api/ps", answer)
    found = await prober_of(sessions).capability("p", endpoint(upstream), "gemma4")
    assert (found.messages, found.window) == ("yes", None)
