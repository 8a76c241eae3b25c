"""vLLM.

Sources: vLLM 0.32 `entrypoints/anthropic`, `docs/serving/openai_compatible_server` (Tokenizer API among it); a real
one, asked in November 2026: docs/engines.md. `cache_salt`: `docs/design/prefix_caching`. `session_headers`: vLLM
production-stack's `SessionRouter`, which reads the header that its `--session-key` names.
"""

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

_REFUSED = "refused with 400"
_TOKENIZED = (
    "model",
    "messages",
    "tools",
    "chat_template_kwargs",
    "continue_final_message",
    "add_generation_prompt",
)

ENGINE = Engine(
    "vllm",
    Recognition(owners=frozenset({"vllm"}), provider_types=frozenset({"remote::vllm"})),
    ChatWording(
        # Templates differ in the variable's name; an unknown one has no effect.
        thinking_on={"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
        thinking_off={"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
        budget="thinking_token_budget",
        reasoning_field="reasoning",
        prefill={"continue_final_message": True, "add_generation_prompt": False},
        # The first usage comes with the first chunk, so that `message_start` can carry the true input tokens.
        stream_options={"continuous_usage_stats": True},
        # 0.32; older ones took any number.
        max_stops=4,
        cache_salt="cache_salt",
    ),
    NativeProfile(
        gaps={
            "document": _REFUSED,
            "search_result": _REFUSED,
            "client_tool": _REFUSED,
            "server_tool": _REFUSED,
            "web_search": _REFUSED,
            "server_tool_history": _REFUSED,
            "container_upload": _REFUSED,
            "unknown_block": _REFUSED,
            "prefill": "not continued",
        },
        patches=(
            (
                b'"content_block":{"type":"thinking","thinking":""}',
                b'"content_block":{"type":"thinking","thinking":"","signature":""}',
            ),
        ),
        rewritten=FOR_OTHERS | {"is_error"},
    ),
    Tokenizer(
        steps=(Step("/tokenize", lambda params, _: {name: params[name] for name in _TOKENIZED if name in params}),),
        count=lambda answer: answer["count"],
    ),
    window=("max_model_len",),
    session_headers=("x-session-id",),
    refusals=(
        Words(
            Kind.PROMPT_TOO_LONG,
            r"context length is (?P<limit>\d+) tokens and your request has (?P<used>\d+) input tokens "
            r"\((?P<asked>\d+) >",
            "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 8192 "
            "tokens and your request has 300 input tokens (32000 > 8192 - 300). (parameter=max_tokens, value=32000)",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"context length is (?P<limit>\d+) tokens\b.{0,40}? request has (?P<used>\d+) input tokens",
            "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. Please "
            "reduce the length of the input messages.",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"context length is (?P<limit>\d+) tokens\b.{0,40}? requested (?P<total>\d+) tokens \(\d+ in the messages, "
            r"(?P<asked>\d+) in the completion",
            "This model's maximum context length is 6048 tokens. However, you requested 32568 tokens (568 in the "
            "messages, 32000 in the completion). Please reduce the length of the messages or completion.",
        ),
        Words(
            # It stops counting where both together no longer fit: the number is a lower bound.
            Kind.PROMPT_TOO_LONG,
            r"context length is (?P<limit>\d+) tokens\b.{0,40}? requested (?P<asked>\d+) output tokens and your prompt "
            r"contains at least (?P<least>\d+) input tokens",
            "This model's maximum context length is 8192 tokens. However, you requested 0 output tokens and your "
            "prompt contains at least 8193 input tokens, for a total of at least 8193 tokens. Please reduce the length "
            "of the input prompt or the number of requested output tokens.",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"context length is (?P<limit>\d+) tokens\b.{0,20}? your prompt contains at least (?P<least>\d+) input "
            r"tokens",
            "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input "
            "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
            "prompt. (parameter=input_tokens, value=4097)",
        ),
        Words(
            Kind.ROOM,
            r"max_(completion_)?tokens=(?P<asked>\d+) cannot be greater than max_model_len=(max_total_tokens=)?"
            r"(?P<limit>\d+)",
            "max_completion_tokens=32000 cannot be greater than max_model_len=4096. Please request fewer output "
            "tokens. (parameter=max_completion_tokens, value=32000)",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"prompt \(length (?P<used>\d+)\) is longer than the maximum model length of (?P<limit>\d+)",
            "The decoder prompt (length 88049) is longer than the maximum model length of 32768. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens.",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"prompt \(total length (?P<used>\d+)\) is too long to fit into the model \(context length (?P<limit>\d+)",
            "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"(?P<parameter>thinking_token_budget) is set but reasoning_config is not configured",
            "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-parser and/or "
            "--reasoning-config to use thinking_token_budget.",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"\bchat_template is not supported for mistral tokenizers",
            "chat_template is not supported for Mistral tokenizers.",
            parameter="chat_template_kwargs",
        ),
        Words(
            Kind.VALUE_BAD,
            r"'type': 'too_long', 'loc': \(?'body(\.|', ')(?P<parameter>stop(_sequences)?)'",
            "1 validation error:\n  {'type': 'too_long', 'loc': 'body.stop_sequences', 'msg': 'List should have at "
            "most 4 items after validation, not 5', 'input': '<list of 5 items>'}",
        ),
        Words(
            Kind.ENGINE_FAULT,
            r"validation errors? for Anthropic(ContentBlock|MessagesResponse)\b",
            "1 validation error for AnthropicContentBlock\ninput\n  Input should be a valid dictionary",
        ),
        Words(
            # 0.22 and older: since then system turns are taken.
            Kind.SYSTEM_TURN,
            r"\bmessages\W{1,6}\d+\W{1,6}role\b.{0,60}?input should be 'user' or 'assistant'",
            "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'messages', 1, 'role'), 'msg': \"Input "
            "should be 'user' or 'assistant'\", 'input': 'system'}",
        ),
        Words(
            Kind.IMAGES,
            r"at most 0 images?\b|is not a multi-?modal model",
            "At most 0 images may be provided in one prompt.",
        ),
    ),
)
