"""Model names over the real host: how they are found, who may use what, and what is told when there is nothing."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from llama_stack.core.datatypes import ModelWithOwner
from llama_stack.core.storage.datatypes import KVStoreReference, SqliteKVStoreConfig
from llama_stack.core.storage.kvstore import kvstore_impl, register_kvstore_backends
from llama_stack.core.store.registry import CachedDiskDistributionRegistry
from llama_stack_api import ModelType

from tests.conftest import Fleet
from tests.support.personalities import fastapi_404, identities, openai_style
from tests.support.stack import Stack, custom_auth, openai_provider, run_config
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import Json

ALIASES = {
    "claude-*-haiku*": "small/tiny-model",
    "claude-*": "large/huge-model",
    "claude-never": "small/tiny-model",
    "to-a-bare-name": "only-here",
    "to-a-fallback": "large/unlisted",
    "to-nothing": "large-no/model",
    "to-an-embedder": "small/embedder",
}
POLICY: list[Json] = [
    {"forbid": {"actions": ["read"], "resource": "regex:model::secret/"}, "unless": "user with admin in roles"},
    {"permit": {"actions": ["read", "create"]}},
]
USERS = {"key-ann": ("ann", {"roles": ["admin"]}), "key-bob": ("bob", {"roles": ["user"]})}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two open providers and a secret one; ann may use them all, bob only the open ones.

    The registry also holds what an earlier start left there: models of a provider that is gone.
    """
    folder = tmp_path_factory.mktemp("models")
    asyncio.run(leave_behind(folder, "gone/tiny-model", "gone/0000-relic"))
    with ExitStack() as opened:
        small = opened.enter_context(ScriptedUpstream(openai_style(["tiny-model", "shared", "only-here"])))
        large = opened.enter_context(ScriptedUpstream(fastapi_404(["huge-model", "shared", "family/huge"])))
        secret = opened.enter_context(ScriptedUpstream(fastapi_404(["secret-model", "only-here"])))
        auth = opened.enter_context(ScriptedUpstream(identities(USERS)))
        config = run_config(
            folder,
            inference=[
                openai_provider(small.url, "small"),
                openai_provider(large.url, "large"),
                openai_provider(secret.url, "secret"),
            ],
            messages={"model_aliases": ALIASES},
            models=[embedder()],
            auth=custom_auth(auth.url, POLICY),
        )
        yield opened.enter_context(Stack(config, folder))


async def leave_behind(folder: Path, *identifiers: str) -> None:
    """Registers models as a server did that had their provider."""
    register_kvstore_backends({"kv_default": SqliteKVStoreConfig(db_path=str(folder / "kvstore.db"))})
    store = await kvstore_impl(KVStoreReference(namespace="registry", backend="kv_default"))
    registry = CachedDiskDistributionRegistry(store)
    await registry.initialize()
    for identifier in identifiers:
        provider_id, _, name = identifier.partition("/")
        model = ModelWithOwner(
            identifier=identifier, provider_id=provider_id, provider_resource_id=name, model_type=ModelType.llm
        )
        assert await registry.register(model)
    await store.shutdown()


def embedder() -> Json:
    named = {"model_id": "embedder", "provider_model_id": "embedder", "provider_id": "small"}
    return {**named, "model_type": "embedding", "metadata": {"embedding_dimension": 8}, "model_validation": False}


def ask(stack: Stack, model: str, *, key: str = "key-ann", path: str = "") -> httpx.Response:
    body: dict[str, Any] = {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    url = f"{stack.base_url}/v1/messages{path}"
    return httpx.post(url, json=body, headers={"x-api-key": key}, timeout=60)


FOUND = {
    "small/tiny-model": "small/tiny-model",
    "large/family/huge": "large/family/huge",
    "claude-3-haiku-20240307": "small/tiny-model",
    "claude-any": "large/huge-model",
    "claude-never": "large/huge-model",
    "tiny-model": "small/tiny-model",
    "family/huge": "large/family/huge",
    "large/never-listed": "large/never-listed",
    "large/deep/never/listed": "large/deep/never/listed",
    "to-a-fallback": "large/unlisted",
    "claude/small/tiny-model": "small/tiny-model",
    "claude/large/family/huge": "large/family/huge",
    "claude/large/never-listed": "large/never-listed",
    "claude/tiny-model": "small/tiny-model",
}


@pytest.mark.parametrize("name", FOUND)
def test_a_name_is_found(stack: Stack, name: str) -> None:
    """Identifiers, the first alias that matches, bare names, and the host's form for models nobody registered."""
    for path in ("", "/count_tokens"):
        answer = ask(stack, name, path=path)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-messages-model"] == FOUND[name]
    message = ask(stack, name).json()
    assert message["model"] == name
    assert message["content"][0]["text"] == f"Hello from {FOUND[name].partition('/')[2]}"


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert body["request_id"] == answer.headers["request-id"]
    return answer.status_code, body["error"]["type"], body["error"]["message"]


def test_a_bare_name_of_several_models_is_refused_with_their_names(stack: Stack) -> None:
    told = "model: shared stands for several models, name one of them: large/shared, small/shared"
    assert refusal(ask(stack, "shared")) == (400, "invalid_request_error", told)


def test_a_bare_name_counts_only_the_models_that_one_may_use(stack: Stack) -> None:
    for name in ("only-here", "to-a-bare-name"):
        assert refusal(ask(stack, name))[:2] == (400, "invalid_request_error")
        answer = ask(stack, name, key="key-bob")
        assert answer.status_code == 200
        assert answer.headers["x-messages-model"] == "small/only-here"


@pytest.mark.parametrize("name", ["small/embedder", "to-an-embedder"])
def test_a_model_that_is_no_llm_is_refused(stack: Stack, name: str) -> None:
    told = "model: small/embedder is a model for embedding, not an LLM"
    assert refusal(ask(stack, name)) == (400, "invalid_request_error", told)


NOT_FOUND = {
    "tiny-modle": "; did you mean small/tiny-model",
    "nobody/tiny-model": "; did you mean small/tiny-model",
    "large/": "; did you mean large/",
    "to-nothing": "; did you mean large/huge-model",
    "embedder": "",
    "gone/0000-relic": "",
    "0000-relic": "",
    "claude/gone/0000-relic": "",
    "nothing-like-it-0000": "",
    "/": "",
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_a_name_that_is_not_found_is_told_with_close_matches(stack: Stack, name: str) -> None:
    for path in ("", "/count_tokens"):
        status, kind, told = refusal(ask(stack, name, path=path))
        assert (status, kind) == (404, "not_found_error")
        assert told.startswith(f"model: there is no model {name}{NOT_FOUND[name]}")
        assert ("did you mean" in told) == ("did you mean" in NOT_FOUND[name])


@pytest.mark.parametrize("name", ["secret/secret-model", "secret-model", "secret/never-listed", "secret-modle"])
def test_a_model_that_one_may_not_use_does_not_exist(stack: Stack, name: str) -> None:
    """By any name, and it is not suggested either."""
    for path in ("", "/count_tokens"):
        status, kind, told = refusal(ask(stack, name, key="key-bob", path=path))
        assert (status, kind) == (404, "not_found_error")
        assert told.startswith(f"model: there is no model {name}")
        assert "secret" not in told.replace(name, "")
    allowed = ask(stack, name, key="key-ann")
    assert allowed.status_code == 200 or "secret/secret-model" in allowed.text


def test_nobody_gets_in_without_a_key_of_the_host_s(stack: Stack) -> None:
    assert refusal(ask(stack, "tiny-model", key="key-eve"))[:2] == (401, "authentication_error")


def named(stack: Stack, key: str) -> list[str]:
    with anthropic.Anthropic(base_url=stack.base_url, api_key=key, max_retries=0) as sdk:
        return [model.id for model in sdk.models.list(limit=5)]


def test_what_a_stale_registry_lists_is_no_model(stack: Stack) -> None:
    """The host lists it, and cannot serve it."""
    listed = httpx.get(f"{stack.base_url}/v1/models", headers={"authorization": "Bearer key-ann"}).json()["data"]
    assert {"gone/tiny-model", "gone/0000-relic"} <= {model["id"] for model in listed}
    assert not [name for name in named(stack, "key-ann") if "gone" in name]
    assert ask(stack, "tiny-model").headers["x-messages-model"] == "small/tiny-model"
    assert "gone" not in refusal(ask(stack, "small/0000-relicc"))[2]


def test_the_list_has_what_one_may_use_and_aliases_that_are_names(stack: Stack) -> None:
    """`api_key=` alone does, where the host's authentication is on."""
    aliases = ["claude-never", "to-a-bare-name", "to-a-fallback"]
    open_to_all = ["large/family/huge", "large/huge-model", "large/shared"]
    open_to_all += ["small/only-here", "small/shared", "small/tiny-model"]
    secret = ["secret/only-here", "secret/secret-model"]
    bob = [*aliases, *open_to_all, *(f"claude/{name}" for name in open_to_all)]
    assert named(stack, "key-bob") == sorted(bob)
    # To ann two models have the bare name.
    ann = [*set(bob) - {"to-a-bare-name"}, *secret, *(f"claude/{name}" for name in secret)]
    assert named(stack, "key-ann") == sorted(ann)


def test_a_model_is_retrieved_by_who_may_use_it(stack: Stack) -> None:
    with anthropic.Anthropic(base_url=stack.base_url, api_key="key-bob", max_retries=0) as sdk:
        assert sdk.models.retrieve("claude-never").display_name == "claude-never (large/huge-model)"
        assert sdk.models.retrieve("tiny-model").id == "small/tiny-model"
        for name in ("secret/secret-model", "claude/secret/secret-model", "gone/0000-relic"):
            with pytest.raises(anthropic.NotFoundError):
                sdk.models.retrieve(name)
    with anthropic.Anthropic(base_url=stack.base_url, api_key="key-eve", max_retries=0) as sdk:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            sdk.models.list()
        assert refused.value.request_id


def test_the_fleet_s_aliases_are_tried_in_their_order(fleet: Fleet) -> None:
    for name, identifier in (("claude-native-1", "vllm/vllm-model"), ("claude-1", "openai/openai-model")):
        body = {"model": name, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        answer = httpx.post(f"{fleet.base_url}/v1/messages", json=body, timeout=60)
        assert answer.headers["x-messages-model"] == identifier
        assert answer.json()["model"] == name
