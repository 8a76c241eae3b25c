"""OpenRouter, and the services behind it.

Sources: https://openrouter.ai/docs/api-reference; refusals as reported in openclaw/openclaw#85921.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "openrouter",
    Recognition(hosts=frozenset({"openrouter.ai"})),
    ChatWording(reasoning_field="reasoning"),
    window=("context_length",),
    refusals=(
        Words(
            Kind.PROMPT_TOO_LONG,
            r"endpoint's maximum context length is (?P<limit>\d+) tokens\. however, you requested about (?P<total>\d+) "
            r"tokens \([^)]{0,120}?(?P<asked>\d+) in the output",
            "This endpoint's maximum context length is 262144 tokens. However, you requested about 284283 tokens (8963 "
            "of text input, 13176 of tool input, 262144 in the output). Please reduce the length of either one",
        ),
        Words(
            Kind.IMAGES,
            r"no endpoints found that support image input",
            "No endpoints found that support image input",
        ),
    ),
)
