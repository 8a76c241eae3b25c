"""The API spec that Llama Stack loads: the `Messages` protocol, its wire types, its router and its providers."""

from llama_stack_api import ProviderSpec

from llama_stack_messages_provider.api.protocol import Messages
from llama_stack_messages_provider.api.routes import create_router
from llama_stack_messages_provider.api.spec import messages_provider_spec

__all__ = ["Messages", "available_providers", "create_router"]


def available_providers() -> list[ProviderSpec]:
    """The providers of this API."""
    return [messages_provider_spec()]
