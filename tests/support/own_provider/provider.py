"""What the host imports first."""

from llama_stack_api import Api, ProviderSpec, RemoteProviderSpec

__all__ = ["get_provider_spec"]


def get_provider_spec() -> ProviderSpec:
    """`remote::own`."""
    return RemoteProviderSpec(
        api=Api.inference,
        adapter_type="own",
        provider_type="remote::own",
        module="tests.support.own_provider",
        config_class="tests.support.own_provider.OwnConfig",
    )
