"""xAI's API, home of the Grok models.

Sources: https://docs.x.ai/docs; refusals as reported in lidge-jun/opencodex#5278.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "xai",
    Recognition(owners=frozenset({"xai"}), hosts=frozenset({"api.x.ai"})),
    ChatWording(top_k=False, reasoning_field="reasoning_content"),
    refusals=(
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"model \S{1,100} does not support parameter (?P<parameter>\w+)",
            "Model grok-4.6 does not support parameter stop.",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"argument not supported on this model: (?P<parameter>\w+)",
            "Argument not supported on this model: reasoningEffort",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"maximum prompt length is (?P<limit>\d+) but the request contains (?P<used>\d+) tokens",
            "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        ),
    ),
    provider="x_ai",
)
