"""Names and access, with the host's own registry and policy."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from llama_stack.core.access_control.datatypes import AccessRule
from llama_stack.core.datatypes import ModelWithOwner, User
from llama_stack.core.request_headers import RequestProviderDataContext
from llama_stack.core.routing_tables.models import ModelsRoutingTable
from llama_stack.core.storage.datatypes import SqliteKVStoreConfig
from llama_stack.core.storage.kvstore.sqlite import SqliteKVStoreImpl
from llama_stack.core.store.registry import CachedDiskDistributionRegistry
from llama_stack_api import ModelType

from llama_stack_messages_provider.errors import NotFoundError
from llama_stack_messages_provider.routing.models import ModelResolver

NAME = "here/a-model"
ANN = User("ann", {"teams": ["a"]})
BEN = User("ben", {"teams": ["b"]})


def model_of(owner: User) -> ModelWithOwner:
    return ModelWithOwner(
        identifier=NAME, provider_id="here", provider_resource_id="a-model", model_type=ModelType.llm, owner=owner
    )


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[CachedDiskDistributionRegistry]:
    store = SqliteKVStoreImpl(SqliteKVStoreConfig(db_path=str(tmp_path / "registry.db")))
    await store.initialize()
    registry = CachedDiskDistributionRegistry(store)
    await registry.initialize()
    yield registry
    await store.shutdown()


def resolver_of(registry: CachedDiskDistributionRegistry) -> ModelResolver:
    rule = AccessRule.model_validate(
        {"permit": {"actions": ["read", "create", "delete"]}, "when": "user in owners teams"}
    )
    return ModelResolver(ModelsRoutingTable({"here": object()}, registry, [rule]), {})


async def may_use(resolver: ModelResolver, user: User | None) -> bool:
    with RequestProviderDataContext(user=user):
        try:
            return (await resolver.resolve(NAME)).identifier == NAME
        except NotFoundError:
            return False


async def test_a_decision_is_remembered_for_one_user_only(registry: CachedDiskDistributionRegistry) -> None:
    await registry.register(model_of(ANN))
    resolver = resolver_of(registry)
    for _ in range(2):
        assert await may_use(resolver, ANN)
        assert not await may_use(resolver, BEN)
    # The same principal with other attributes is another matter.
    assert await may_use(resolver, User("ben", {"teams": ["b", "a"]}))
    assert not await may_use(resolver, User("ann", None))


async def test_a_model_that_is_registered_anew_is_decided_anew(registry: CachedDiskDistributionRegistry) -> None:
    await registry.register(model_of(ANN))
    resolver = resolver_of(registry)
    assert await may_use(resolver, ANN)
    await registry.delete("model", NAME)
    assert not await may_use(resolver, ANN)
    await registry.register(model_of(BEN))
    assert not await may_use(resolver, ANN)
    assert await may_use(resolver, BEN)


async def test_without_authentication_all_models_are_there(registry: CachedDiskDistributionRegistry) -> None:
    await registry.register(model_of(ANN))
    assert await may_use(resolver_of(registry), None)
