"""Anthropic's own API, and its chat completions.

Sources: https://platform.claude.com/docs/en/api/openai-sdk, https://platform.claude.com/docs/en/api/errors.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, NativeProfile, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "anthropic",
    Recognition(
        owners=frozenset({"anthropic"}),
        listed=lambda entry: entry.get("type") == "model" and "display_name" in entry,
        hosts=frozenset({"api.anthropic.com"}),
        provider_types=frozenset({"remote::anthropic"}),
    ),
    ChatWording(top_k=False, effort=False, thinking_off={}, schemas=False),
    NativeProfile(rewritten=frozenset({"carried_id", "foreign_search", "foreign_thinking"}), first_party=True),
    refusals=(
        Words(
            Kind.PROMPT_TOO_LONG,
            r"prompt is too long: (?P<used>\d+) tokens > (?P<limit>\d+)",
            "prompt is too long: 9000 tokens > 8192 maximum",
        ),
        Words(
            Kind.ROOM,
            r"exceed context limit: (?P<used>\d+) \+ (?P<asked>\d+) > (?P<limit>\d+)",
            "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease input length or "
            "`max_tokens` and try again",
        ),
        Words(
            Kind.OUTPUT_LIMIT,
            r"max_(completion_)?tokens: \d+ > (?P<limit>\d+), which is the maximum allowed number of output tokens",
            "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for some-model",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"`(?P<parameter>\w+)` is deprecated for this model",
            "`temperature` is deprecated for this model.",
        ),
        Words(
            Kind.TOOL_CHOICE_VS_THINKING,
            r"thinking may not be enabled when tool_choice forces tool use",
            "Thinking may not be enabled when tool_choice forces tool use.",
        ),
    ),
    provider="anthropic",
)
