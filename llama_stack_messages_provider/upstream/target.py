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
    """

    identifier: str
    provider_id: str
    provider: Any
    upstream_model: str
    metadata: Mapping[str, Any]

    @property
    def provider_type(self) -> str:
        """The provider's type, such as `remote::vllm`."""
        return provider_type(self.provider)
