"""What Llama Stack imports for `module: tests.live.own_client`."""

from llama_stack_api import Api, RemoteProviderSpec

__all__ = ["get_provider_spec"]

MODULE = "tests.live.own_client"


def get_provider_spec() -> RemoteProviderSpec:
    """`remote::own-client`."""
    return RemoteProviderSpec(
        api=Api.inference,
        provider_type="remote::own-client",
        adapter_type="own-client",
        config_class=f"{MODULE}.OwnClientConfig",
        module=MODULE,
    )
