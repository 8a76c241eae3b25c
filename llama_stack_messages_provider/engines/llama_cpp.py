"""llama.cpp's server.

Sources: https://github.com/ggml-org/llama.cpp/tree/master/tools/server; recorded from the one in xllamacpp 2026.11;
asked in November 2026: docs/engines.md. It has no router of its own: `session_headers` are for a proxy in front of it.
"""

from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.engines.engine import (
    FOR_OTHERS,
    ChatWording,
    Engine,
    NativeProfile,
    Recognition,
    Step,
    Tokenizer,
)
from llama_stack_messages_provider.engines.refusals import Kind, Words

_DROPPED = "dropped in silence"
_IGNORED = "ignored"
_NO_SCHEMA = "offered without a schema"
_TEMPLATED = ("messages", "tools", "tool_choice", "chat_template_kwargs", "response_format")


def _template(params: Mapping[str, Any], _: Any) -> dict[str, Any]:
    return {name: params[name] for name in _TEMPLATED if name in params}


def _tokenize(_: Mapping[str, Any], templated: Any) -> dict[str, Any]:
    return {"content": templated["prompt"], "add_special": True, "parse_special": True}


ENGINE = Engine(
    "llama.cpp",
    Recognition(
        servers=frozenset({"llama.cpp"}),
        owners=frozenset({"llamacpp"}),
        provider_types=frozenset({"inline::llama-cpp", "remote::llama-cpp-server"}),
    ),
    ChatWording(
        thinking_on={"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
        thinking_off={"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
        budget="thinking_budget_tokens",
        reasoning_field="reasoning_content",
        report_prompt_params={"return_progress": True},
        report_stop_params={"verbose": True},
    ),
    NativeProfile(
        gaps={
            "document": _DROPPED,
            "search_result": _DROPPED,
            "tool_reference": _DROPPED,
            "container_upload": _DROPPED,
            "tool_change": _DROPPED,
            "unknown_block": _DROPPED,
            "system_turn": "refused by strict chat templates",
            "client_tool": _NO_SCHEMA,
            "server_tool": _NO_SCHEMA,
            "web_search": _NO_SCHEMA,
            "server_tool_history": _DROPPED,
            "forced_tool": "the tool's name is lost",
            "no_tool": _IGNORED,
            "no_parallel_tools": _IGNORED,
            "thinking_off": _IGNORED,
            "effort": _IGNORED,
            "structured_output": _IGNORED,
        },
        repaired="blocks overlap, skeletons lack fields, signatures are empty, stop_sequence is reported as end_turn",
        rewritten=FOR_OTHERS | {"is_error"},
    ),
    Tokenizer(
        steps=(Step("/apply-template", _template), Step("/tokenize", _tokenize)),
        count=lambda answer: len(answer["tokens"]),
    ),
    window=("meta.n_ctx",),
    ends_at_window=True,
    session_headers=("x-session-id",),
    refusals=(
        Words(
            Kind.PROMPT_TOO_LONG,
            r"request \((?P<used>\d+) tokens\) exceeds the available context size \((?P<limit>\d+)",
            "request (24071 tokens) exceeds the available context size (8192 tokens), try increasing it",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"the request exceeds the available context size",
            "the request exceeds the available context size, try increasing it",
        ),
        Words(
            Kind.SCHEMA_GRAMMAR,
            r"failed to (initialize samplers: failed to )?parse grammar",
            "Failed to initialize samplers: failed to parse grammar",
        ),
        Words(
            Kind.IMAGES,
            r"image input is not supported",
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        ),
    ),
)
