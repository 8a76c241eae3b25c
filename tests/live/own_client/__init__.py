"""A provider that wraps its chat completions, as some do: requests to it go through Llama Stack's inference API.

`remote::own-client` with `module: tests.live.own_client`, and the repository on `PYTHONPATH`.
"""

from typing import Any

from llama_stack.providers.utils.inference.model_registry import RemoteInferenceProviderConfig
from llama_stack.providers.utils.inference.openai_mixin import OpenAIMixin
from pydantic import HttpUrl

__all__ = ["OwnClient", "OwnClientConfig", "get_adapter_impl"]


class OwnClientConfig(RemoteInferenceProviderConfig):
    """Where the upstream is."""

    base_url: HttpUrl


class OwnClient(OpenAIMixin):
    """An OpenAI-style upstream behind a method of its own."""

    config: OwnClientConfig

    def get_base_url(self) -> str:
        """Of the upstream, `/v1` included."""
        return str(self.config.base_url)

    def get_api_key(self) -> str:
        """Anything."""
        return "sk-test"

    async def openai_chat_completion(self, params: Any) -> Any:
        """The same as any other's, which nobody can know from outside."""
        return await super().openai_chat_completion(params)


async def get_adapter_impl(config: OwnClientConfig, deps: dict[Any, Any]) -> OwnClient:
    """What Llama Stack calls."""
    return OwnClient(config=config)
