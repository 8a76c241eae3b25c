"""Z.ai (Zhipu), home of the GLM models.

Sources: https://docs.z.ai/api-reference; refusals as reported in earendil-works/pi#8991, anomalyco/opencode#27629,
foreveryh/claude-code-switch#12.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "zai",
    Recognition(hosts=frozenset({"api.z.ai", "open.bigmodel.cn"})),
    ChatWording(
        top_k=False,
        effort=False,
        thinking_on={"thinking": {"type": "enabled"}},
        thinking_off={"thinking": {"type": "disabled"}},
        reasoning_field="reasoning_content",
        max_stops=1,
        schemas=False,
    ),
    refusals=(
        Words(Kind.PROMPT_TOO_LONG, r"^prompt exceeds max length", "Prompt exceeds max length"),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"tokens in request more than max tokens allowed",
            "tokens in request more than max tokens allowed",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            # Its number is no help: it was seen to be less than the length.
            r"request \d+ input tokens exceeds the model's maximum context length \d+",
            "Request 182387 input tokens exceeds the model's maximum context length 202750",
        ),
    ),
)
