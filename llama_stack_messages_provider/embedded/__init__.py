"""`inline::llama-cpp`: an inference provider whose model runs inside the server's own process."""

from typing import TYPE_CHECKING, Any

from llama_stack_api import Api

from llama_stack_messages_provider.embedded.config import LlamaCppConfig

if TYPE_CHECKING:
    from llama_stack_messages_provider.embedded.llama_cpp import LlamaCppInferenceAdapter

__all__ = ["LlamaCppConfig", "get_provider_impl"]


async def get_provider_impl(config: LlamaCppConfig, deps: dict[Api, Any]) -> "LlamaCppInferenceAdapter":
    """Load the model and serve it; Llama Stack calls this once in every process.

    Raises:
        EmbeddedModelError: `xllamacpp` or a model file is missing, or llama.cpp cannot read the file.
    """
    from llama_stack_messages_provider.embedded.llama_cpp import LlamaCppInferenceAdapter

    adapter = LlamaCppInferenceAdapter(config=config)
    await adapter.initialize()
    return adapter
