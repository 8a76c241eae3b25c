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


@pytest.mark.parametrize("name", ["nothing-like-it", "claude/nothing"])
async def test_where_there_is_one_model_a_name_that_is_not_found_is_told_with_it(
    name: str, registry: CachedDiskDistributionRegistry
) -> None:
    await registry.register(model_of(ANN))
    stale = model_of(ANN).model_copy(update={"identifier": "gone/a-model", "provider_id": "gone"})
    await registry.register(stale)
    resolver = resolver_of(registry)
    with RequestProviderDataContext(user=ANN):
        with pytest.raises(NotFoundError, match=f"there is no model {name}; the one model here is {NAME}"):
            await resolver.resolve(name)
        assert (await resolver.resolve("a-model")).identifier == NAME
    with RequestProviderDataContext(user=BEN), pytest.raises(NotFoundError, match=f"there is no model {name}$"):
        await resolver.resolve(name)


@pytest.mark.parametrize(
    ("providers", "name", "found"),
    [
        ({"here"}, f"claude/{NAME}", NAME),
        ({"here"}, "claude/here/unlisted", "here/unlisted"),
        ({"here"}, "claude-any", "here/other"),
        ({"here", "claude"}, f"claude/{NAME}", NAME),
        ({"here", "claude"}, "claude/here/unlisted", "here/other"),
    ],
)
async def test_claude_before_a_name_is_that_name(
    providers: set[str], name: str, found: str, registry: CachedDiskDistributionRegistry
) -> None:
    """Whatever aliases say; of a provider called so, an alias may stand for what nobody registered."""
    await registry.register(model_of(ANN))
    rule = AccessRule.model_validate({"permit": {"actions": ["read"]}})
    table = ModelsRoutingTable({provider: object() for provider in providers}, registry, [rule])
    assert (await ModelResolver(table, {"claude*": "here/other"}).resolve(name)).identifier == found
