"""What Llama Stack imports for `module: llama_stack_messages_provider`."""

from typing import TYPE_CHECKING, Any

from llama_stack_api import Api, InlineProviderSpec, ProviderSpec

from llama_stack_messages_provider.api.spec import messages_provider_spec

if TYPE_CHECKING:
    from llama_stack_messages_provider.config import MessagesConfig

__all__ = ["get_provider_impl", "get_provider_spec", "llama_cpp_provider_spec"]


def get_provider_spec() -> list[ProviderSpec]:
    """Every provider in this package; Llama Stack picks by `provider_type`."""
    return [messages_provider_spec(), llama_cpp_provider_spec()]


def llama_cpp_provider_spec() -> InlineProviderSpec:
    """`inline::llama-cpp`, a model in the server's own process."""
    return InlineProviderSpec(
        api=Api.inference,
        provider_type="inline::llama-cpp",
        module="llama_stack_messages_provider.embedded",
        config_class="llama_stack_messages_provider.embedded.LlamaCppConfig",
        pip_packages=["xllamacpp"],
        description="llama.cpp inside the server's process, with the packaged SmolLM2 or any GGUF file.",
    )


async def get_provider_impl(config: "MessagesConfig", deps: dict[Api, Any], policy: list[Any]) -> Any:
    """The Messages adapter over the stack's inference API; `policy` decides who may use which model."""
    from llama_stack_messages_provider.adapter import MessagesAdapter

    return MessagesAdapter(config, deps, policy)
