"""SGLang.

Sources: SGLang 0.5.23 `srt/entrypoints/anthropic`, `docs/basic_usage/openai_api_completions`;
`cache_salt`: `srt/entrypoints/openai/protocol.py`; `x-smg-routing-key`:
smg-project/smg-docs `concepts/routing/sticky-sessions.md`.
"""

from llama_stack_messages_provider.engines.engine import FOR_OTHERS, ChatWording, Engine, NativeProfile, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

_REFUSED = "refused with 400"
_DROPPED = "dropped in silence"

ENGINE = Engine(
    "sglang",
    Recognition(owners=frozenset({"sglang"})),
    ChatWording(
        thinking_on={"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
        thinking_off={"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
        reasoning_field="reasoning_content",
        prefill={"continue_final_message": True},
        stream_options={"continuous_usage_stats": True},
        cache_salt="cache_salt",
    ),
    NativeProfile(
        gaps={
            "document": _REFUSED,
            "redacted_thinking": _REFUSED,
            "client_tool": _DROPPED,
            "server_tool": _DROPPED,
            "web_search": _DROPPED,
            "server_tool_history": _REFUSED,
            "container_upload": _REFUSED,
            "tool_change": _REFUSED,
            "unknown_block": _REFUSED,
            "stop_sequences": "not told apart from the end of the turn",
        },
        repaired="thinking has no signature",
        rewritten=FOR_OTHERS | {"is_error"},
    ),
    window=("max_model_len",),
    session_headers=("x-session-id", "x-smg-routing-key"),
    refusals=(
        Words(
            Kind.PROMPT_TOO_LONG,
            r"input \((?P<used>\d+) tokens\) is longer than the model's context length \((?P<limit>\d+)",
            "The input (233781 tokens) is longer than the model's context length (202752 tokens).",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"input length \((?P<used>\d+) tokens\) exceeds the maximum allowed length \((?P<limit>\d+)",
            "Input length (131393 tokens) exceeds the maximum allowed length (131040 tokens). Use a shorter input.",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"context length of (?P<limit>\d+) tokens\b.{0,60}?: (?P<used>\d+) tokens from the input messages and "
            r"(?P<asked>\d+) tokens for the completion",
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total "
            "of 32300 tokens: 300 tokens from the input messages and 32000 tokens for the completion.",
        ),
    ),
)
