"""An inference provider with a chat completion of its own, as several of the host's have: `module` of a run file.

The server has to find it: start it with `PYTHONPATH` at the repository's root.
"""

from typing import Any

from llama_stack.providers.utils.inference.model_registry import RemoteInferenceProviderConfig
from llama_stack.providers.utils.inference.openai_mixin import OpenAIMixin
from pydantic import HttpUrl

__all__ = ["OwnAdapter", "OwnConfig", "get_adapter_impl"]


class OwnConfig(RemoteInferenceProviderConfig):
    """Where the upstream is, with `/v1`."""

    base_url: HttpUrl


class OwnAdapter(OpenAIMixin):
    """Sends what `OpenAIMixin` sends, in a method of its own."""

    config: OwnConfig

    def get_base_url(self) -> str:
        """The configured one."""
        return str(self.config.base_url)

    async def openai_chat_completion(self, params: Any) -> Any:
        """A chat completion."""
        return await super().openai_chat_completion(params)


async def get_adapter_impl(config: OwnConfig, _deps: Any) -> OwnAdapter:
    """What the host calls."""
    adapter = OwnAdapter(config=config)
    await adapter.initialize()
    return adapter
