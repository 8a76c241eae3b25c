"""Fallbacks and Anthropic itself; and that nobody is answered by a model that they may not use."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Fleet
from tests.fidelity.cases import HELLO, Json
from tests.support import personalities
from tests.support.stack import Stack, custom_auth, openai_provider
from tests.support.upstream import ScriptedUpstream, json_reply

MESSAGES = "/v1/messages"
BUSY = json_reply({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, status=529)


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.base_url) as client:
        yield client


def ask(model: str, fallbacks: object) -> Json:
    return {"model": model, "max_tokens": 9, "messages": [HELLO], "fallbacks": fallbacks}


@pytest.mark.parametrize("fallbacks", ["default", [{"model": "opus-of-tomorrow"}], [{"model": "anthropic-model-2"}]])
def test_anthropic_sees_to_its_own_models_itself(fallbacks: object, client: httpx.Client, fleet: Fleet) -> None:
    upstream = fleet.upstreams["anthropic"]
    answered = client.post(MESSAGES, json=ask("anthropic/anthropic-model", fallbacks))
    assert (answered.status_code, answered.headers["x-messages-route"]) == (200, "native")
    assert upstream.last.json["fallbacks"] == fallbacks
    assert "x-messages-dropped" not in answered.headers


def test_a_model_of_the_stack_stands_in_for_anthropic(client: httpx.Client, fleet: Fleet) -> None:
    client.post(MESSAGES, json={"model": "anthropic/anthropic-model", "max_tokens": 9, "messages": [HELLO]})
    upstream = fleet.upstreams["anthropic"]
    upstream.reply(MESSAGES, BUSY)
    answered = client.post(MESSAGES, json=ask("anthropic/anthropic-model", [{"model": "openai/openai-model"}]))
    assert answered.status_code == 200, answered.text
    assert answered.headers["x-messages-model"] == "openai/openai-model"
    assert "fallbacks" not in upstream.last.json
    upstream.forget()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_nobody_is_answered_by_a_model_that_they_may_not_use(
    stream: bool, scripted_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    policy: list[Json] = [
        {"permit": {"actions": ["read"], "resource": "model::first/m"}},
        {"permit": {"actions": ["read"], "resource": "model::spare/m"}, "when": "user with chief in roles"},
    ]
    users = {"a": ("ann", {"roles": ["chief"]}), "b": ("bob", {"roles": ["clerk"]})}
    with (
        ScriptedUpstream(personalities.identities(users)) as auth,
        ScriptedUpstream(personalities.openai_style(models=["m"])) as first,
        ScriptedUpstream(personalities.openai_style(models=["m"])) as spare,
    ):
        first.reply("/v1/chat/completions", json_reply({"error": {"message": "busy"}}, status=503))
        stack = scripted_stack(
            inference=[openai_provider(first.url, "first"), openai_provider(spare.url, "spare")],
            messages={"fallbacks": {"first/*": ["spare/m"]}},
            auth=custom_auth(auth.url, policy),
        )
        for fallbacks in ({}, {"fallbacks": [{"model": "spare/m"}]}):
            body = {"model": "first/m", "max_tokens": 9, "messages": [HELLO], "stream": stream, **fallbacks}
            chief = httpx.post(
                f"{stack.base_url}{MESSAGES}", json=body, headers={"authorization": "Bearer a"}, timeout=60
            )
            assert chief.headers["x-messages-model"] == "spare/m", chief.text
            spare.requests.clear()
            clerk = httpx.post(
                f"{stack.base_url}{MESSAGES}", json=body, headers={"authorization": "Bearer b"}, timeout=60
            )
            assert clerk.status_code == 529, clerk.text
            assert spare.requests_to("/v1/chat/completions") == []
        assert any("Another model is asked" in str(record) for record in stack.records())
