"""The provider spec of `inline::messages`, for the API's `available_providers` and for `module:` alike."""

from llama_stack_api import Api, InlineProviderSpec

__all__ = ["messages_provider_spec"]


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
