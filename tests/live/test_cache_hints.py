"""What engines are told of their caches: a salt for each user, a client's own key, headers that name a session."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from llama_stack_messages_provider.config import MessagesConfig
from tests.support.personalities import answers_200_to_anything, identities, openai_style, vllm
from tests.support.stack import Stack, custom_auth, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import Json

USERS = {"key-ann": ("ann", {"roles": ["user"]}), "key-bob": ("bob", {"roles": ["user"]})}
POLICY: list[Json] = [{"permit": {"actions": ["read", "create"]}}]
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, ScriptedUpstream]]:
    makers = {"vllm": vllm, "openai": openai_style, "odd": answers_200_to_anything}
    with ExitStack() as opened:
        yield {name: opened.enter_context(ScriptedUpstream(make(["m"]))) for name, make in makers.items()}


@pytest.fixture(scope="module")
def stack(upstreams: dict[str, ScriptedUpstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("salted")
    with ExitStack() as opened:
        auth = opened.enter_context(ScriptedUpstream(identities(USERS)))
        config = run_config(
            folder,
            inference=[
                vllm_provider(upstreams["vllm"].url),
                vllm_provider(upstreams["odd"].url, "vllm-behind"),
                openai_provider(upstreams["openai"].url),
            ],
            messages={
                "signing_key": "k",
                "context": {"cache_salt": True, "session_headers": ["X-Pin", "x-other"]},
                "routes": {"vllm-behind": "native"},
            },
            auth=custom_auth(auth.url, POLICY),
        )
        yield opened.enter_context(Stack(config, folder))


def ask(stack: Stack, model: str, key: str, **more: Any) -> httpx.Response:
    body = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **more}
    headers = {"x-api-key": key, "x-session-id": "s-1"}
    answer = httpx.post(f"{stack.base_url}/v1/messages", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


@STREAM
def test_each_user_has_a_salt_of_its_own(stack: Stack, upstreams: dict[str, ScriptedUpstream], stream: bool) -> None:
    """The Messages endpoint of vLLM takes none: such requests are translated."""
    seen = []
    for key in ("key-ann", "key-bob", "key-ann"):
        # What a client says of it counts for nothing.
        answer = ask(stack, "vllm/m", key, stream=stream, cache_salt="of-another")
        assert answer.headers["x-messages-route"] == "translation"
        seen.append(upstreams["vllm"].last.json["cache_salt"])
    ann, bob, again = seen
    assert ann == again != bob
    assert len(ann) == len(bob) == 64
    assert "ann" not in ann


def test_an_engine_that_no_answer_tells_is_that_of_its_provider(
    stack: Stack, upstreams: dict[str, ScriptedUpstream]
) -> None:
    """Behind a gateway vLLM may answer like nobody: its users are kept apart all the same."""
    answer = ask(stack, "vllm-behind/m", "key-ann")
    assert answer.headers["x-messages-route"] == "translation"
    assert len(upstreams["odd"].last.json["cache_salt"]) == 64


def test_salts_without_a_key_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"context\.cache_salt: set signing_key too"):
        MessagesConfig.model_validate({"context": {"cache_salt": True}})


def test_an_engine_without_salts_gets_none_and_a_key_where_it_has_that(
    stack: Stack, upstreams: dict[str, ScriptedUpstream]
) -> None:
    ask(stack, "openai/m", "key-ann", prompt_cache_key="k")
    assert "cache_salt" not in upstreams["openai"].last.json


def test_the_session_is_told_by_the_headers_that_are_configured(
    stack: Stack, upstreams: dict[str, ScriptedUpstream]
) -> None:
    ask(stack, "vllm/m", "key-ann")
    told = upstreams["vllm"].last.headers
    assert (told.get("x-pin"), told.get("x-other"), told.get("x-session-id")) == ("s-1", "s-1", None)
    ask(stack, "openai/m", "key-ann")
    assert "x-pin" not in upstreams["openai"].last.headers
