"""Groq's API.

Sources: https://console.groq.com/docs/openai, https://console.groq.com/docs/reasoning.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "groq",
    Recognition(hosts=frozenset({"api.groq.com"}), provider_types=frozenset({"remote::groq"})),
    ChatWording(top_k=False, max_stops=4),
    window=("context_window",),
    refusals=(
        Words(
            Kind.OUTPUT_LIMIT,
            r"`max_(completion_)?tokens` must be less than or equal to `?(?P<limit>\d+)",
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
            "`context_window` for this model",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"property '(?P<parameter>\w+)' is unsupported",
            "'messages.0' : for 'role:assistant' the following must be satisfied[('messages.0' : property "
            "'reasoning_content' is unsupported)]",
        ),
        Words(
            Kind.VALUE_BAD,
            r"`(?P<parameter>reasoning_effort)` must be one of (?P<values>.{1,120})",
            "`reasoning_effort` must be one of `none` or `default`",
        ),
        Words(
            Kind.RESPONSE_FORMAT,
            r"does not support response format `json_schema`",
            "This model does not support response format `json_schema`. See supported models at console.groq.com",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"^please reduce the length of the messages or completion\.?$",
            "Please reduce the length of the messages or completion.",
        ),
    ),
    provider="groq",
)
