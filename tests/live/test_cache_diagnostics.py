"""`diagnostics` of a served stack: where a request parts from the one that its client names, on both routes."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types.beta import BetaMessage

from tests.batches.conftest import postgres_backend, postgres_of_this_process  # noqa: F401 - a fixture
from tests.support import personalities
from tests.support.model import serve
from tests.support.stack import (
    Stack,
    custom_auth,
    openai_provider,
    postgres_storage,
    run_config,
    vllm_provider,
)
from tests.support.upstream import ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import text_block

type Json = dict[str, Any]

BY = pytest.mark.parametrize("model", ["chat/m", "native/m"], ids=["translated", "native"])
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
HELLO: Json = {"role": "user", "content": "Hello."}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(personalities.vllm(models=["m", "other"])) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def stack(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    users = {"ann": ("ann", {"roles": ["user"]}), "bob": ("bob", {"roles": ["user"]})}
    policy: list[Json] = [
        {"permit": {"actions": ["read"]}},
        {"permit": {"actions": ["create", "read", "update", "delete"], "resource": "message_batch::*"}},
    ]
    with ScriptedUpstream(personalities.identities(users)) as auth:
        config = run_config(
            folder,
            inference=[openai_provider(upstream.url, "chat"), vllm_provider(upstream.url, "native")],
            messages={"routes": {"chat": "translation"}, "ping": {"after_seconds": 0.3}},
            auth=custom_auth(auth.url, policy),
        )
        with Stack(config, folder) as stack:
            yield stack


@pytest.fixture(autouse=True)
def _hello(upstream: ScriptedUpstream) -> None:
    upstream.forget()
    serve(upstream, lambda body: [text_block("Hi.")])


def ask(
    stack: Stack, model: str, previous: str | None, *, stream: bool = False, user: str = "ann", **more: Any
) -> BetaMessage:
    client = anthropic.Anthropic(base_url=stack.base_url, auth_token=user, api_key=None, max_retries=0)
    asked: Json = {"model": model, "max_tokens": 9, "messages": [HELLO], **more}
    asked["diagnostics"] = {"previous_message_id": previous}
    with client:
        if not stream:
            return client.beta.messages.create(**asked)
        with client.beta.messages.stream(**asked) as events:
            return events.get_final_message()


def reason(message: BetaMessage) -> str | None:
    if message.diagnostics is None:
        return None
    assert message.diagnostics.cache_miss_reason is not None
    return message.diagnostics.cache_miss_reason.type


@BY
@STREAM
def test_a_change_is_told_and_growth_is_none(
    model: str, stream: bool, stack: Stack, upstream: ScriptedUpstream
) -> None:
    first = ask(stack, model, None, stream=stream)
    assert first.diagnostics is None
    grown = [HELLO, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And now?"}]
    second = ask(stack, model, first.id, stream=stream, messages=grown)
    assert reason(second) is None
    assert "diagnostics" not in upstream.last.json
    changed = [{"role": "user", "content": "It is 10:41."}, *grown[1:]]
    third = ask(stack, model, second.id, stream=stream, messages=changed)
    assert reason(third) == "messages_changed"
    assert third.diagnostics is not None
    assert third.diagnostics.cache_miss_reason is not None
    assert getattr(third.diagnostics.cache_miss_reason, "cache_missed_input_tokens", 0) > 0
    assert reason(ask(stack, model, third.id, stream=stream, messages=changed, system="Be brief.")) == "system_changed"
    tool = {"name": "look", "input_schema": {"type": "object"}}
    assert reason(ask(stack, model, third.id, stream=stream, messages=changed, tools=[tool])) == "tools_changed"
    other = model.replace("/m", "/other")
    assert reason(ask(stack, other, third.id, stream=stream, messages=changed)) == "model_changed"
    assert reason(ask(stack, model, "msg_unknown", stream=stream)) == "previous_message_not_found"


@BY
def test_nobody_is_told_of_the_messages_of_others(model: str, stack: Stack) -> None:
    first = ask(stack, model, None)
    assert reason(ask(stack, model, first.id, user="bob")) == "previous_message_not_found"
    assert reason(ask(stack, model, first.id)) is None


@BY
def test_a_stream_that_began_before_its_upstream_said_anything_has_them(
    model: str, stack: Stack, upstream: ScriptedUpstream
) -> None:
    serve(upstream, lambda body: [text_block("Hi.")], delay=1.0)
    first = ask(stack, model, "msg_unknown", stream=True)
    assert reason(first) == "previous_message_not_found"
    assert reason(ask(stack, model, first.id, stream=True)) is None


@BY
def test_nothing_is_named_as_dropped_and_what_is_wrong_is_refused(model: str, stack: Stack) -> None:
    body: Json = {"model": model, "max_tokens": 9, "messages": [HELLO]}
    with httpx.Client(base_url=stack.base_url, headers={"authorization": "Bearer ann"}) as client:
        taken = client.post("/v1/messages", json={**body, "diagnostics": {"previous_message_id": None}})
        assert (taken.status_code, "x-messages-dropped" in taken.headers) == (200, False)
        assert taken.json()["diagnostics"] is None
        assert "diagnostics" not in client.post("/v1/messages", json={**body, "diagnostics": None}).json()
        for wrong, path in (({"previous_message_id": 5}, "diagnostics.previous_message_id"), ([], "diagnostics")):
            refused = client.post("/v1/messages", json={**body, "diagnostics": wrong})
            assert refused.status_code == 400, refused.text
            assert refused.json()["error"]["type"] == "invalid_request_error"
            assert refused.json()["error"]["message"].startswith(path)


@pytest.mark.slow
def test_replicas_of_the_server_know_what_the_others_answered(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """In PostgreSQL; and what was answered before a restart."""
    backend = postgres_backend()
    login = {"db": backend.db, "user": backend.user, "password": backend.password, "port": int(backend.port)}
    with ExitStack() as opened:
        stacks = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            config = run_config(
                tmp_path / name,
                inference=[openai_provider(upstream.url, "chat")],
                messages={"route": "translation"},
                backends=postgres_storage(**login),
            )
            stacks.append(opened.enter_context(Stack(config, tmp_path / name)))
        one, two = stacks
        first = ask(one, "chat/m", None)
        # It is written behind the answer's back.
        eventually(lambda: reason(ask(two, "chat/m", first.id)) is None)
        assert reason(ask(two, "chat/m", first.id, system="Be brief.")) == "system_changed"
        two.restart()
        assert reason(ask(two, "chat/m", first.id)) is None
