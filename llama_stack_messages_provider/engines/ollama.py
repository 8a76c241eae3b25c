"""Ollama.

Sources: `docs/api/anthropic-compatibility`, `docs/api/openai-compatibility` at fb30760; `loaded`:
https://docs.ollama.com/api/ps, whose `context_length` is what a model was loaded with.
"""

from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.engines.engine import (
    FOR_OTHERS,
    ChatWording,
    Engine,
    LoadedModels,
    NativeProfile,
    Recognition,
)
from llama_stack_messages_provider.engines.refusals import Kind, Words

_DROPPED = "dropped in silence"
_IGNORED = "ignored"

_LATEST = ":latest"


def _windows(running: Any) -> Mapping[str, int]:
    """The windows of running models; `m` is `m:latest`."""
    models = running.get("models") if isinstance(running, dict) else None
    listed = models if isinstance(models, list) else ()
    found = [(each.get("model"), each.get("context_length")) for each in listed if isinstance(each, dict)]
    windows = {name: tokens for name, tokens in found if isinstance(name, str) and type(tokens) is int and tokens > 0}
    return {name.removesuffix(_LATEST): tokens for name, tokens in windows.items()} | windows


ENGINE = Engine(
    "ollama",
    Recognition(owners=frozenset({"library", "ollama"}), provider_types=frozenset({"remote::ollama"})),
    ChatWording(top_k=False, reasoning_field="reasoning"),
    NativeProfile(
        gaps={
            "document": _DROPPED,
            "search_result": _DROPPED,
            "tool_reference": _DROPPED,
            "container_upload": _DROPPED,
            "tool_change": _DROPPED,
            "unknown_block": _DROPPED,
            "image_url": "refused with 400",
            "client_tool": "offered without a schema",
            "server_tool": "offered without a schema",
            "forced_tool": _IGNORED,
            "any_tool": _IGNORED,
            "no_tool": _IGNORED,
            "no_parallel_tools": _IGNORED,
            "structured_output": _IGNORED,
        },
        repaired="thinking has no signature, errors come without an event",
        rewritten=FOR_OTHERS | {"is_error"},
    ),
    loaded=LoadedModels("/api/ps", _windows),
    ends_at_window=True,
    refusals=(
        Words(
            Kind.PROMPT_TOO_LONG,
            r"prompt too long; exceeded max context length",
            "prompt too long; exceeded max context length by 1200 tokens",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"the input length exceeds the context length",
            "the input length exceeds the context length",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"\"[^\"]{1,200}\" does not support thinking",
            '"llama3.2:3b" does not support thinking',
            parameter="reasoning_effort",
        ),
    ),
)
