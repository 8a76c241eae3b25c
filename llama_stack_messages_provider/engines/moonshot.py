"""Moonshot's API, home of the Kimi models.

Sources: https://platform.moonshot.ai/docs; refusals as reported in decolua/9router#355, continuedev/continue#10193,
cloudwego/eino#994.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "moonshot",
    Recognition(owners=frozenset({"moonshot"}), hosts=frozenset({"api.moonshot.ai", "api.moonshot.cn"})),
    ChatWording(
        top_k=False,
        effort=False,
        thinking_on={"thinking": {"type": "enabled"}},
        thinking_off={"thinking": {"type": "disabled"}},
        reasoning_field="reasoning_content",
        max_stops=5,
    ),
    window=("context_length",),
    refusals=(
        Words(
            Kind.SOMETHING_MISSING,
            r"thinking is enabled but (?P<parameter>reasoning_content) is missing",
            "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
        ),
        Words(
            Kind.TOOL_CHOICE_VS_THINKING,
            r"tool_choice \W{0,1}specified\W{0,1} is incompatible with thinking enabled",
            "tool_choice 'specified' is incompatible with thinking enabled",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"exceeded model token limit: (?P<limit>\d+) \(requested: (?P<used>\d+)",
            "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
        ),
        Words(
            Kind.OUTPUT_LIMIT,
            r"max_(completion_)?tokens \(\d+\) exceeds .{0,40}?output tokens \((?P<limit>\d+)\)",
            "max_tokens (32768) exceeds model's maximum output tokens (16384) for model kimi-k3",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"invalid (?P<parameter>temperature|top_p): only [\d.]+ is allowed for this model",
            "invalid temperature: only 1 is allowed for this model",
        ),
    ),
    provider="moonshot_ai",
)
