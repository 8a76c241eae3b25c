"""The host's list of providers tells whether upstreams answer."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support import personalities
from tests.support.stack import Stack, openai_provider, vllm_provider
from tests.support.upstream import ScriptedUpstream, hang_reply, json_reply
from tests.support.waiting import eventually
from tests.support.wire import Json

MODELS = "GET /v1/models"


def health_of(stack: Stack) -> Json:
    providers = httpx.get(f"{stack.base_url}/v1/providers", timeout=10).json()["data"]
    [found] = [p["health"] for p in providers if p["provider_id"] == "messages"]
    return dict(found)


@pytest.fixture
def up() -> Any:
    with ScriptedUpstream(personalities.vllm(models=["m"])) as upstream:
        yield upstream


def test_the_list_of_providers_tells_of_an_upstream_that_goes_down_and_comes_back(
    scripted_stack: Callable[..., Stack], up: ScriptedUpstream
) -> None:
    with ScriptedUpstream(personalities.openai_style(models=["n"])) as other:
        port = int(other.url.rpartition(":")[2])
        inference = [vllm_provider(up.url), openai_provider(other.url, api_key="sk-secret")]
        stack = scripted_stack(inference=inference, messages={})
        assert health_of(stack) == {"status": "OK", "message": "2 of 2 upstreams answer"}
        # Remembered: nothing is asked again for a while.
        other.forget()
        health_of(stack)
        assert not [seen for seen in other.requests if seen.path == "/v1/models" and _is_ours(seen)]
    down = eventually(lambda: found if (found := health_of(stack))["status"] == "Error" else None)
    assert down["message"].startswith("1 of 2 upstreams answer; openai: ")
    assert "sk-secret" not in str(down)
    assert str(port) not in down["message"]
    with ScriptedUpstream(personalities.openai_style(models=["n"]), port=port):
        eventually(lambda: health_of(stack)["status"] == "OK")


def _is_ours(seen: Any) -> bool:
    """Our requests have this type; the host's own checks have none."""
    return seen.headers.get("content-type") == "application/json"


def test_an_upstream_that_never_answers_does_not_hang_the_list(
    scripted_stack: Callable[..., Stack], up: ScriptedUpstream
) -> None:
    stack = scripted_stack(inference=[vllm_provider(up.url)], messages={})
    up.reply(MODELS, lambda request: hang_reply() if _is_ours(request) else json_reply({"data": []}))
    said = eventually(lambda: found if (found := health_of(stack))["status"] == "Error" else None)
    assert said["message"] == "0 of 1 upstreams answer; vllm: no answer within 2 s"


def test_a_server_that_is_ill_is_told_and_one_that_wants_a_key_is_there(
    scripted_stack: Callable[..., Stack], up: ScriptedUpstream
) -> None:
    stack = scripted_stack(inference=[vllm_provider(up.url)], messages={})
    up.reply(MODELS, json_reply({}, status=503))
    eventually(lambda: health_of(stack)["message"] == "0 of 1 upstreams answer; vllm: it answered with 503")
    up.reply(MODELS, json_reply({}, status=401))
    eventually(lambda: health_of(stack)["status"] == "OK")
