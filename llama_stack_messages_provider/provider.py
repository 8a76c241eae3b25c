"""What Llama Stack imports for `module: llama_stack_messages_provider`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from llama_stack_api import Api, ExternalApiSpec, InlineProviderSpec, ProviderSpec

if TYPE_CHECKING:
    from llama_stack_messages_provider.config import MessagesConfig

__all__ = [
    "MessagesNotDeclaredError",
    "get_provider_impl",
    "get_provider_spec",
    "llama_cpp_provider_spec",
    "messages_provider_spec",
]


def get_provider_spec() -> list[ProviderSpec]:
    """Every provider in this package; Llama Stack picks by `provider_type`.

    Raises:
        MessagesNotDeclaredError: The server's configuration has a provider of an API that it does not declare.
    """
    _check_declared()
    return [messages_provider_spec(), llama_cpp_provider_spec()]


class MessagesNotDeclaredError(ValueError):
    """`external_apis_dir` is not set or wrong, which the host tells by a `KeyError` otherwise."""


def _check_declared() -> None:
    """The host reads `external_apis_dir` before it asks for providers: what it does not know by now it never will."""
    config = os.environ.get("LLAMA_STACK_CONFIG")  # set by `llama stack run`
    if config is None or "messages" in {api.value for api in Api}:
        return
    try:
        run = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        listed = run["providers"]["messages"]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return
    if listed:
        given, folder = run.get("external_apis_dir"), Path(__file__).with_name("apis.d")
        state = "is not set" if not given else f"is {given}, where the Messages API is not declared"
        raise MessagesNotDeclaredError(
            f"`external_apis_dir` {state}. Set it to {folder}, which `llama-stack-messages apis-dir` prints; "
            f"`llama-stack-messages enable {config}` does so."
        )


def messages_provider_spec() -> InlineProviderSpec:
    """`inline::messages`: needs the stack's inference API; uses its tool runtime, connectors and safety API, if any."""
    return InlineProviderSpec(
        # `Api.messages` raises AttributeError even once the API is loaded; `add` returns the member again.
        api=Api.add("messages"),
        provider_type="inline::messages",
        module="llama_stack_messages_provider.provider",
        config_class="llama_stack_messages_provider.config.MessagesConfig",
        api_dependencies=[Api.inference],
        optional_api_dependencies=[Api.tool_runtime, Api.connectors, Api.safety],
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
