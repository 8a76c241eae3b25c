"""The session of a request, for routers that keep it on one replica, over the real host."""

from typing import Any

import httpx
import orjson
import pytest

from llama_stack_messages_provider.engines import ENGINES
from tests.conftest import Fleet
from tests.support.upstream import RecordedRequest

CLAUDE_CODE = orjson.dumps({"device_id": "d", "account_uuid": "", "session_id": "from-body"}).decode()
ROUTES = {"vllm/vllm-model": "vllm", "vllm-translated/vllm-model": "vllm"}


def sent(fleet: Fleet, model: str, upstream: str, headers: dict[str, str], **more: Any) -> RecordedRequest:
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}], **more}
    answer = httpx.post(f"{fleet.base_url}/v1/messages", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return fleet.upstreams[upstream].last


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", ROUTES)
@pytest.mark.parametrize(
    ("headers", "user", "told"),
    [
        ({"x-session-id": "s-1", "x-claude-code-session-id": "s-2"}, CLAUDE_CODE, "s-1"),
        ({"x-claude-code-session-id": "s-2"}, CLAUDE_CODE, "s-2"),
        ({}, CLAUDE_CODE, "from-body"),
        ({"x-session-id": "s" * 257}, "u-1", None),
        ({"x-session-id": "two words"}, "{", None),
        ({}, '{"session_id": "a\\r\\nx-evil: 1"}', None),
        ({}, '{"session_id": 7}', None),
        ({}, '{"session_id": "' + "s" * 1024 + '"}', None),
        ({}, None, None),
    ],
)
def test_engines_behind_routers_are_told_the_session(
    fleet: Fleet, model: str, stream: bool, headers: dict[str, str], user: str | None, told: str | None
) -> None:
    seen = sent(fleet, model, ROUTES[model], headers, stream=stream, metadata={"user_id": user})
    assert seen.headers.get("x-session-id") == told


@pytest.mark.parametrize("name", ["anthropic", "openai", "ollama"])
def test_no_other_engine_is_told(fleet: Fleet, name: str) -> None:
    named = {"x-session-id": "s-1", "x-claude-code-session-id": "s-2"}
    seen = sent(fleet, f"{name}/{name}-model", name, named, metadata={"user_id": CLAUDE_CODE})
    assert not [header for header in seen.headers if "session" in header.lower() or "routing" in header.lower()]


@pytest.mark.parametrize(("name", "upstream"), [("vllm", "vllm"), ("sglang", "sglang"), ("llama.cpp", "llamacpp")])
def test_an_engine_gets_the_headers_of_its_routers(fleet: Fleet, name: str, upstream: str) -> None:
    seen = sent(fleet, f"{upstream}/{upstream}-model", upstream, {"x-session-id": "s-1"})
    assert {header: seen.headers.get(header) for header in ENGINES[name].session_headers} == dict.fromkeys(
        ENGINES[name].session_headers, "s-1"
    )
