"""DeepSeek's API.

Sources: https://api-docs.deepseek.com; refusals as reported in alexazhou/gt_ai_gateway#17,
deepseek-ai/DeepSeek-V3#1053, browser-use/browser-use#215, cloudwego/eino#994,
deepseek-ai/awesome-deepseek-integration#432.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "deepseek",
    Recognition(owners=frozenset({"deepseek"}), hosts=frozenset({"api.deepseek.com"})),
    ChatWording(
        top_k=False,
        effort=False,
        thinking_on={"thinking": {"type": "enabled"}},
        thinking_off={"thinking": {"type": "disabled"}},
        reasoning_field="reasoning_content",
        max_stops=16,
        schemas=False,
    ),
    refusals=(
        Words(
            Kind.SOMETHING_MISSING,
            r"`?(?P<parameter>reasoning_content)`? in the thinking mode must be passed back",
            "The `reasoning_content` in the thinking mode must be passed back to the API.",
        ),
        Words(
            Kind.SOMETHING_MISSING,
            r"missing `?(?P<parameter>reasoning_content)`? field in the assistant message",
            "Missing `reasoning_content` field in the assistant message at message index 1.",
        ),
        Words(
            Kind.TOOL_CHOICE_VS_THINKING,
            r"thinking mode does not support this tool_choice",
            "Thinking mode does not support this tool_choice",
        ),
        Words(
            Kind.OUTPUT_LIMIT,
            r"valid range of max_(completion_)?tokens is \[\d+, ?(?P<limit>\d+)\]",
            "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        ),
        Words(
            Kind.RESPONSE_FORMAT,
            r"response_format(\.type)?\b.{0,30}? (is )?unavailable now",
            "Failed to deserialize the JSON body into the target type: response_format: response_format.type "
            "`json_schema` is unavailable now at line 1 column 12440",
        ),
        Words(
            Kind.IMAGES,
            r"unknown variant [`'\"]?image_url",
            "Failed to deserialize the JSON body into the target type: messages[0]: unknown variant `image_url`, "
            "expected `text` at line 1 column 300",
        ),
    ),
    provider="deepseek",
)
