"""Alibaba's Model Studio (DashScope), home of the Qwen models.

Sources: https://www.alibabacloud.com/help/en/model-studio/deep-thinking; refusals as reported in
musistudio/claude-code-router#1327 and #948, QwenLM/qwen-code#98, cloudwego/eino#994.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "qwen",
    Recognition(hosts=frozenset({"dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"})),
    ChatWording(
        effort=False,
        thinking_on={"enable_thinking": True},
        thinking_off={"enable_thinking": False},
        budget="thinking_budget",
        reasoning_field="reasoning_content",
    ),
    refusals=(
        Words(
            Kind.TOOL_CHOICE_VS_THINKING,
            r"tool_choice parameter does not support being set to .{1,40}? in thinking mode",
            "<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to "
            "required or object in thinking mode",
        ),
        Words(
            Kind.THINKING_NEEDS_STREAM,
            r"enable_thinking must be set to false for non-streaming calls",
            "parameter.enable_thinking must be set to false for non-streaming calls",
        ),
        Words(
            Kind.THINKING_NEEDS_STREAM,
            r"this model only supports? stream mode",
            "This model only support stream mode, please enable the stream parameter to access the model.",
        ),
        Words(
            Kind.OUTPUT_LIMIT,
            r"range of max_(completion_)?tokens should be \[\d+, ?(?P<limit>\d+)\]",
            "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"range of input length should be \[\d+, ?\d+\]",
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 204800]",
        ),
        Words(
            Kind.VALUE_BAD,
            r"range of (?P<parameter>temperature|top_p|top_k|thinking_budget) should be",
            "<400> InternalError.Algo.InvalidParameter: Range of top_k should be [0, 100]",
        ),
    ),
)
