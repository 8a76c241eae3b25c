"""The model that a request goes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.host.providers import provider_type

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a request goes to.

    Args:
        identifier: Its name in this stack, `provider_id/provider_model_id`.
        provider_id: The provider that serves it.
        provider: The provider's implementation.
        upstream_model: The upstream's name of it.
        metadata: What it was registered with.
        registered: Whether it was; else a client has named it, and nobody knows whether there is such a model.
        replica_of: The name that stands for it and its equals; None where it has none.
        others: Its equals that may be asked instead, in their order.
        first_of_equals: The label of the first of them, in the order of the configuration; None where it has none.
    """

    identifier: str
    provider_id: str
    provider: Any
    upstream_model: str
    metadata: Mapping[str, Any]
    registered: bool = True
    replica_of: str | None = None
    others: tuple["Target", ...] = ()
    first_of_equals: str | None = None

    @property
    def label(self) -> str:
        """Its name in metrics, where each name is kept for ever: clients choose those that nobody registered."""
        return self.identifier if self.registered else f"{self.provider_id}/other"

    @property
    def budget_name(self) -> str:
        """Its name in budgets: equal replicas are one model, whatever name stands for them."""
        return self.first_of_equals or self.label

    @property
    def sees(self) -> bool:
        """Whether it takes images, for all that its registration says: `image_input: false` in its metadata."""
        return self.metadata.get("image_input") is not False

    @property
    def provider_type(self) -> str:
        """The provider's type, such as `remote::vllm`."""
        return provider_type(self.provider)
