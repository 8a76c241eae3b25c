"""The host's routing table of models.

| internal | used for |
|---|---|
| `dist_registry.get_cached`, `.get` | a registered model, without a query for each request |
| `impls_by_provider_id` | the provider of a model |
| `policy` | whether a user may use it |
| `ModelWithOwner` | a model that is not registered, as the access policy sees it |

Tried with llama-stack 0.7.3.
"""

from collections.abc import Mapping
from typing import Any

from llama_stack.core.datatypes import ModelWithOwner
from llama_stack_api import ModelType

from llama_stack_messages_provider.host.access import Action, User, is_allowed

__all__ = ["is_readable", "known_providers", "listed_models", "provider_of", "registered_model", "unregistered_model"]


async def registered_model(table: Any, identifier: str) -> Any:
    """The model of that identifier, whoever may use it; None if there is none."""
    registry = table.dist_registry
    return registry.get_cached("model", identifier) or await registry.get("model", identifier)


def known_providers(table: Any) -> Mapping[str, Any]:
    """Every inference provider of the stack, by id."""
    providers: Mapping[str, Any] = table.impls_by_provider_id
    return providers


async def listed_models(table: Any) -> list[Any]:
    """Every model that is registered or listed, also of providers that are gone."""
    return list((await table.list_models()).data)


def provider_of(table: Any, provider_id: str) -> Any:
    """The provider of that id; None if there is none."""
    return known_providers(table).get(provider_id)


def unregistered_model(provider_id: str, upstream_model: str) -> ModelWithOwner:
    """What `provider_id/model` names, without an owner."""
    return ModelWithOwner(
        identifier=f"{provider_id}/{upstream_model}",
        provider_id=provider_id,
        provider_resource_id=upstream_model,
        model_type=ModelType.llm,
        metadata={},
    )


def is_readable(table: Any, model: Any, user: User | None) -> bool:
    """Whether a user may use a model; one without an owner was listed with the user's own credentials, and checked."""
    return not isinstance(model, ModelWithOwner) or is_allowed(table.policy, Action.READ, model, user)
