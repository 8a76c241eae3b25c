"""OpenAI's own API.

Sources: https://platform.openai.com/docs/api-reference/chat, https://platform.openai.com/docs/guides/structured-outputs,
https://platform.openai.com/docs/guides/prompt-caching (`prompt_cache_key`);
refusals as reported in BerriAI/litellm#34569, #15244, github/copilot-cli#2223, EdanStarfire/claudecode_webui#1473.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, Recognition
from llama_stack_messages_provider.engines.refusals import Kind, Words

ENGINE = Engine(
    "openai",
    Recognition(hosts=frozenset({"api.openai.com"})),
    ChatWording(
        top_k=False,
        efforts=("low", "medium", "high", "xhigh"),
        max_tokens="max_completion_tokens",
        max_stops=4,
        files=True,
        cache_key="prompt_cache_key",
    ),
    refusals=(
        Words(
            Kind.TOOLS_VS_EFFORT,
            r"function tools with reasoning_effort are not supported",
            "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use "
            "function tools, use /v1/responses or set reasoning_effort to 'none'.",
        ),
        Words(
            Kind.VALUE_BAD,
            r"unsupported value: '(?P<parameter>reasoning_effort)' does not support .{0,40}?supported values are"
            r"(?P<values>.{1,120})",
            "Unsupported value: 'reasoning_effort' does not support 'none' with this model. Supported values are: "
            "'low', 'medium', and 'high'.",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"unsupported value: '(?P<parameter>\w+)' does not support .{0,40}?only the default",
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is "
            "supported.",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"unsupported parameter: '(?P<parameter>[\w.\[\]]+)'",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            "instead.",
        ),
        Words(
            Kind.PARAMETER_UNKNOWN,
            r"unrecognized request arguments? supplied: (?P<parameter>\w+)",
            "Unrecognized request argument supplied: top_k",
        ),
        Words(
            Kind.OUTPUT_LIMIT,
            r"max_(completion_)?tokens is too large: \d+\. this model supports at most (?P<limit>\d+) "
            r"completion tokens",
            "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you "
            "provided 32000.",
        ),
        Words(
            Kind.OUTPUT_LIMIT,
            r"\bmax_(completion_)?tokens\b.{0,80}?integer above maximum value\W{1,3}expected a value <= (?P<limit>\d+)",
            "Invalid 'max_tokens': integer above maximum value. Expected a value <= 16384, but got 64000 instead.",
        ),
        Words(
            Kind.OUTPUT_TOO_SHORT,
            r"could not finish the message because max_tokens or model output limit was reached",
            "Could not finish the message because max_tokens or model output limit was reached. Please try again "
            "with higher max_tokens.",
        ),
        Words(
            Kind.OUTPUT_TOO_SHORT,
            r"max_(completion_|output_)?tokens\b.{0,60}?integer below minimum value",
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead.",
        ),
        Words(
            Kind.SCHEMA_PROPERTIES,
            r"invalid (json )?schema for (function|response_format):? .{0,200}?object schema missing properties",
            "Invalid schema for function 'list_sessions': In context=(), object schema missing properties.",
        ),
        Words(
            Kind.SCHEMA_STRICT,
            r"invalid (json )?schema for (function|response_format):? .{0,300}?\b(required|additionalProperties)"
            r"\W{0,3} is required to be supplied",
            "Invalid schema for response_format 'answer': In context=(), 'required' is required to be supplied and to "
            "be an array including every key in properties. Missing 'b'.",
        ),
        Words(
            Kind.SCHEMA_STRICT,
            r"invalid (json )?schema for (function|response_format):? .{0,300}?is not (permitted|supported|allowed)",
            "Invalid schema for response_format 'answer': In context=('properties', 'a'), 'minLength' is not "
            "permitted.",
        ),
        Words(
            Kind.RESPONSE_FORMAT,
            r"'?response_format'? of type '?json_schema'? is not supported",
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        ),
        Words(
            Kind.IDS,
            r"\btool_call(s\S{0,12}\.|_)id\b.{0,20}string too long",
            "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 40, but "
            "got a string with length 45 instead.",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"(length is|limit of) (?P<limit>\d+) tokens\. .{0,30}?messages resulted in (?P<used>\d+) tokens",
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9100 tokens. "
            "Please reduce the length of the messages.",
        ),
        Words(
            Kind.PROMPT_TOO_LONG,
            r"your input exceeds the context window of this model",
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
        ),
        Words(
            Kind.IMAGES,
            r"image_url is only supported by",
            "Invalid content type. image_url is only supported by certain models.",
        ),
    ),
    provider="openai",
)
