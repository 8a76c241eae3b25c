"""What Llama Stack imports for `module: llama_stack_messages_provider`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from llama_stack_api import Api, ExternalApiSpec, InlineProviderSpec, ProviderSpec

if TYPE_CHECKING:
    from llama_stack_messages_provider.config import MessagesConfig

__all__ = ["get_provider_impl", "get_provider_spec", "llama_cpp_provider_spec", "messages_provider_spec"]


def get_provider_spec() -> list[ProviderSpec]:
    """Every provider in this package; Llama Stack picks by `provider_type`."""
    return [messages_provider_spec(), llama_cpp_provider_spec()]


def messages_provider_spec() -> InlineProviderSpec:
    """`inline::messages`: needs the inference API of the same stack, and searches with its tool runtime if any."""
    return InlineProviderSpec(
        # `Api.messages` raises AttributeError even once the API is loaded; `add` returns the member again.
        api=Api.add("messages"),
        provider_type="inline::messages",
        module="llama_stack_messages_provider.provider",
        config_class="llama_stack_messages_provider.config.MessagesConfig",
        api_dependencies=[Api.inference],
        optional_api_dependencies=[Api.tool_runtime],
        description="The Anthropic Messages API, native where the upstream has it and translated elsewhere.",
    )


def llama_cpp_provider_spec() -> InlineProviderSpec:
    """`inline::llama-cpp`, as the file for `external_providers_dir` declares it."""
    file = Path(__file__).with_name("providers.d") / "inline" / "inference" / "llama-cpp.yaml"
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    return InlineProviderSpec(api=Api.inference, provider_type="inline::llama-cpp", **fields)


async def get_provider_impl(config: "MessagesConfig", deps: dict[Api, Any], policy: list[Any]) -> Any:
    """The Messages adapter over the stack's inference API; `policy` decides who may use which model."""
    from llama_stack_messages_provider.composition import compose

    _register_routes()
    return compose(config, deps, policy)


def _register_routes() -> None:
    """Make the routes known to the in-process client: it loads none of external APIs, as the server does."""
    from llama_stack.core.server.fastapi_router_registry import register_external_api_routers

    spec = ExternalApiSpec(module="llama_stack_messages_provider.api", name="messages", protocol="Messages")
    register_external_api_routers({Api.add("messages"): spec})
