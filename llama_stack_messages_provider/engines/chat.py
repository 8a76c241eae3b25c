"""What each engine's chat completions take beyond the common ground: one row an engine, data and not `if`s.

Sources: vLLM `docs/serving/openai_compatible_server`, SGLang `docs/basic_usage/openai_api_completions`, llama.cpp
`tools/server/README.md` and `server-schema.cpp`, Ollama `docs/api/openai-compatibility`, OpenAI's API reference,
Anthropic's `docs/en/api/openai-sdk`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["DIALECTS", "Dialect", "dialect_of"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to speak to an engine.

    Args:
        name: The engine.
        top_k: It takes `top_k`.
        effort: It takes `reasoning_effort`.
        efforts: The efforts it is asked for, weakest first; a stronger one becomes the last. Llama Stack's inference
            API takes no `max`, so that none of these may be it.
        switch: What turns thinking on and off: template variables, `reasoning_effort: none`, or nothing.
        budget: The parameter that limits thinking tokens, if it has one.
        reasoning: The field of an assistant message that replays its thinking, if it takes one.
        prefill: Parameters that make it continue a trailing assistant message.
        stream_options: What is asked for beside `include_usage`.
        tell_prompt: Parameters that make a stream begin with the prompt's tokens.
        max_tokens: The name of its output limit.
        max_stops: The number of stop sequences it takes; None if there is no limit.
        tell_stop: Parameters that make it tell which stop sequence it met.
        schemas: It takes a JSON schema for its answer.
        files: It takes `file` parts.
        images: It takes images; whether its model does, only a refusal tells.
    """

    name: str
    top_k: bool = True
    effort: bool = True
    efforts: tuple[str, ...] = ("low", "medium", "high")
    switch: Literal["template", "effort_none"] | None = "effort_none"
    budget: str | None = None
    reasoning: str | None = None
    prefill: dict[str, Any] = field(default_factory=dict)
    stream_options: dict[str, Any] = field(default_factory=dict)
    tell_prompt: dict[str, Any] = field(default_factory=dict)
    max_tokens: str = "max_tokens"
    max_stops: int | None = None
    tell_stop: dict[str, Any] = field(default_factory=dict)
    schemas: bool = True
    files: bool = False
    images: bool = True


_CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
# The first usage comes with the first chunk, so that `message_start` can carry the true input tokens.
_EARLY_USAGE = {"continuous_usage_stats": True}

DIALECTS: dict[str, Dialect] = {
    "vllm": Dialect(
        "vllm",
        switch="template",
        budget="thinking_token_budget",
        reasoning="reasoning",
        prefill=_CONTINUE,
        stream_options=_EARLY_USAGE,
    ),
    "sglang": Dialect(
        "sglang",
        switch="template",
        reasoning="reasoning_content",
        prefill={"continue_final_message": True},
        stream_options=_EARLY_USAGE,
    ),
    "llama.cpp": Dialect(
        "llama.cpp",
        switch="template",
        budget="thinking_budget_tokens",
        reasoning="reasoning_content",
        tell_prompt={"return_progress": True},
        tell_stop={"verbose": True},
    ),
    "ollama": Dialect("ollama", top_k=False, reasoning="reasoning"),
    "openai": Dialect(
        "openai",
        top_k=False,
        efforts=("low", "medium", "high", "xhigh"),
        max_tokens="max_completion_tokens",
        max_stops=4,
        files=True,
    ),
    "anthropic": Dialect("anthropic", top_k=False, effort=False, switch=None, schemas=False),
    "unknown": Dialect("unknown", reasoning="reasoning_content"),
}

_BY_PROVIDER_TYPE = {
    "remote::vllm": "vllm",
    "remote::ollama": "ollama",
    "inline::llama-cpp": "llama.cpp",
    "remote::llama-cpp-server": "llama.cpp",
    "remote::anthropic": "anthropic",
}
_OPENAI_ITSELF = ("https://api.openai.com/", "https://us.api.openai.com/", "https://eu.api.openai.com/")


def dialect_of(engine: str, provider_type: str, base_url: str | None) -> Dialect:
    """The dialect to speak: the probed engine's, else what the provider's type says."""
    if engine in DIALECTS and engine != "unknown":
        return DIALECTS[engine]
    if base_url and f"{base_url}/".startswith(_OPENAI_ITSELF):
        return DIALECTS["openai"]
    return DIALECTS[_BY_PROVIDER_TYPE.get(provider_type, "unknown")]
