"""What the host imports first."""

from llama_stack_api import Api, InlineProviderSpec, ProviderSpec

__all__ = ["get_provider_spec"]


def get_provider_spec() -> ProviderSpec:
    """`inline::injection`."""
    return InlineProviderSpec(
        api=Api.safety,
        provider_type="inline::injection",
        module="tests.support.injection_shield",
        config_class="tests.support.injection_shield.InjectionConfig",
    )
