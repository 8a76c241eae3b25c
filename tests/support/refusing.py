"""Upstreams that refuse one thing in their engine's words and answer all else, for every operation alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.replies import Reply, json_reply
from tests.support.upstream import RecordedRequest, Responder, chat_reply
from tests.support.wire import Json

__all__ = ["REFUSING", "Refusing", "refusing_upstream", "thinking_is_off"]

HELLO: Json = {"role": "user", "content": "Hi"}
CITY: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Json = {"name": "get_weather", "input_schema": CITY}
FORCED: Json = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "get_weather"}}
SCHEMA: Json = {"output_config": {"format": {"type": "json_schema", "schema": {**CITY, "additionalProperties": False}}}}
SEARCH_TOOL: Json = {
    "name": "Grep",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "pattern": {"type": "string"},
            "port": {"type": "string", "pattern": r"^\d+$"},
            "limit": {"type": "integer", "exclusiveMinimum": 0},
            "env": {"type": "object", "propertyNames": {"type": "string"}},
        },
    },
}
USED: Json = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
RESULT: Json = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "18"}]}
CALLED: list[Json] = [HELLO, {"role": "assistant", "content": [USED]}, RESULT]
SYSTEM_TURN: list[Json] = [
    HELLO,
    {"role": "system", "content": "Be brief."},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Go on"},
]

type Refuses = Callable[[Json], bool]


@dataclass(frozen=True)
class Refusing:
    """A thing that is refused.

    Args:
        id: Whose words they are, and what about.
        said: The refusal: its text, or its body.
        when: Whether a chat completion is refused.
        request: What is asked.
        dropped: What the client is told that it lost.
        lasting: Whether the next request is changed before it is sent.
        more: What the changed request has.
        status: The refusal's status.
    """

    id: str
    said: Any
    when: Refuses
    request: Json = field(default_factory=dict)
    dropped: str | None = None
    lasting: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)
    status: int = 400


def refusing_upstream(case: Refusing, chat: Responder | None = None) -> Callable[[RecordedRequest], Reply]:
    """An upstream that refuses that, and says "fine" otherwise."""
    fine = chat or chat_reply("fine")

    def answer(request: RecordedRequest) -> Reply:
        if case.when(request.json):
            body = {"error": {"message": case.said, "type": "invalid_request_error"}}
            return json_reply(body if isinstance(case.said, str) else case.said, status=case.status)
        return fine(request) if callable(fine) else fine

    return answer


def thinking_is_off(body: Json) -> bool:
    """Whether a chat completion keeps its model from thinking, in anybody's way."""
    template = body.get("chat_template_kwargs") or {}
    thinking = body.get("thinking") or {}
    return (
        body.get("enable_thinking") is False
        or thinking.get("type") == "disabled"
        or template.get("enable_thinking") is False
        or body.get("reasoning_effort") == "none"
    )


def limit(body: Json) -> int:
    return int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)


def lacks_reasoning(body: Json) -> bool:
    return any(m.get("tool_calls") and not m.get("reasoning_content") for m in body["messages"])


def forces(body: Json) -> bool:
    return body.get("tool_choice") not in (None, "auto", "none")


def parameters(body: Json) -> str:
    return str([tool["function"].get("parameters") for tool in body.get("tools", ())])


def over(most: int) -> Refuses:
    return lambda body: limit(body) > most


MUCH: Json = {"max_tokens": 64000}
REFUSING = [
    Refusing(
        "OpenAI: max_completion_tokens",
        {
            "error": {
                "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                "param": "max_tokens",
                "code": "unsupported_parameter",
            }
        },
        lambda body: "max_tokens" in body,
    ),
    Refusing(
        "OpenAI: tools and effort",
        "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use function "
        "tools, use /v1/responses or set reasoning_effort to 'none'.",
        lambda body: bool(body.get("tools")) and body.get("reasoning_effort") != "none",
        {"tools": [TOOL]},
        more={"reasoning_effort": "none"},
    ),
    Refusing(
        "OpenAI: tools and an effort that was asked for",
        "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use function "
        "tools, use /v1/responses or set reasoning_effort to 'none'.",
        lambda body: bool(body.get("tools")) and body.get("reasoning_effort") != "none",
        {"tools": [TOOL], "output_config": {"effort": "high"}},
        dropped="thinking, output_config.effort",
        more={"reasoning_effort": "none"},
    ),
    Refusing(
        "OpenAI: no properties",
        "Invalid schema for function 'list': In context=(), object schema missing properties.",
        lambda body: any("properties" not in tool["function"]["parameters"] for tool in body.get("tools", ())),
        {"tools": [{"name": "list", "input_schema": {"type": "object"}}]},
    ),
    Refusing(
        "OpenAI: stop",
        {
            "error": {
                "message": "Unsupported parameter: 'stop' is not supported with this model.",
                "param": "stop",
                "code": "unsupported_parameter",
            }
        },
        lambda body: "stop" in body,
        {"stop_sequences": ["</block>"]},
    ),
    Refusing(
        "xAI: stop",
        {"code": "invalid-argument", "error": "Model grok-4.6 does not support parameter stop."},
        lambda body: "stop" in body,
        {"stop_sequences": ["</block>"]},
    ),
    Refusing(
        "DeepSeek: reasoning that must come back",
        "Error from provider (Console Go): Upstream request failed: [invalid_request_error] The `reasoning_content` in "
        "the thinking mode must be passed back to the API.",
        lacks_reasoning,
        {"messages": CALLED, "tools": [TOOL]},
        lasting=False,
    ),
    Refusing(
        "DeepSeek: reasoning that is missing",
        "Missing `reasoning_content` field in the assistant message at message index 1.",
        lacks_reasoning,
        {"messages": CALLED, "tools": [TOOL]},
        lasting=False,
    ),
    Refusing(
        "Kimi: reasoning that is missing",
        "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
        lacks_reasoning,
        {"messages": CALLED, "tools": [TOOL]},
        lasting=False,
    ),
    Refusing(
        "DeepSeek: a schema",
        "Failed to deserialize the JSON body into the target type: response_format: response_format.type `json_schema` "
        "is unavailable now at line 1 column 12440",
        lambda body: "response_format" in body,
        SCHEMA,
        dropped="output_config.format",
    ),
    Refusing(
        "DeepSeek: any schema",
        "This response_format type is unavailable now",
        lambda body: "response_format" in body,
        SCHEMA,
        dropped="output_config.format",
    ),
    Refusing(
        "Qwen: a forced tool",
        "<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to required "
        "or object in thinking mode",
        lambda body: forces(body) and body.get("enable_thinking") is not False,
        FORCED,
        lasting=False,
        more={"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
    ),
    Refusing(
        "DeepSeek: a forced tool",
        "Thinking mode does not support this tool_choice",
        lambda body: forces(body) and (body.get("thinking") or {}).get("type") != "disabled",
        FORCED,
        lasting=False,
        more={"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
    ),
    Refusing(
        "Kimi: a forced tool",
        "tool_choice specified is incompatible with thinking enabled",
        lambda body: forces(body) and (body.get("thinking") or {}).get("type") != "disabled",
        FORCED,
        lasting=False,
    ),
    Refusing(
        "a gateway: a forced tool, and who knows which switch",
        "Thinking mode does not support this tool_choice",
        lambda body: forces(body) and body.get("chat_template_kwargs", {}).get("enable_thinking") is not False,
        FORCED,
        lasting=False,
    ),
    Refusing(
        "Gemini: keywords",
        "Invalid JSON payload received. Unknown name \"$schema\" at 'tools[0].function_declarations[0].parameters': "
        'Cannot find field.\nInvalid JSON payload received. Unknown name "exclusiveMinimum" at '
        "'tools[0].function_declarations[0].parameters.properties.limit': Cannot find field.\nInvalid JSON payload "
        "received. Unknown name \"propertyNames\" at 'tools[0].function_declarations[0].parameters.properties.env': "
        "Cannot find field.",
        lambda body: any(word in parameters(body) for word in ("$schema", "exclusiveMinimum", "propertyNames")),
        {"tools": [SEARCH_TOOL]},
        dropped="tools.Grep.input_schema.exclusiveMinimum, tools.Grep.input_schema.propertyNames",
    ),
    Refusing(
        "llama.cpp: a pattern",
        "Failed to initialize samplers: failed to parse grammar",
        lambda body: r"\\d" in parameters(body),
        {"tools": [SEARCH_TOOL]},
        dropped="tools.Grep.input_schema.pattern",
        lasting=False,
    ),
    Refusing(
        "Mistral: a system turn",
        "Unexpected role 'system' after role 'user'",
        lambda body: any(m["role"] == "system" for m in body["messages"][1:]),
        {"messages": SYSTEM_TURN},
    ),
    Refusing(
        "a template without a system",
        "System role not supported",
        lambda body: any(m["role"] == "system" for m in body["messages"]),
        {"system": "Be brief."},
    ),
    Refusing(
        "a value",
        "Invalid value for top_k: must be between 0 and 200, got 500",
        lambda body: body.get("top_k", 0) > 200,
        {"top_k": 500},
        dropped="top_k",
        lasting=False,
    ),
    Refusing(
        "Qwen: streams only",
        "parameter.enable_thinking must be set to false for non-streaming calls",
        lambda body: not body.get("stream") and body.get("enable_thinking") is not False,
        more={"stream": True},
    ),
    Refusing(
        "Qwen: streams only, whatever it does",
        "This model only support stream mode, please enable the stream parameter to access the model.",
        lambda body: not body.get("stream"),
        more={"stream": True},
    ),
    Refusing(
        "Qwen: output",
        {
            "error": {
                "code": "invalid_parameter_error",
                "param": None,
                "message": "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]",
            }
        },
        over(8192),
        MUCH,
        more={"max_tokens": 8192},
    ),
    Refusing(
        "Volcengine: output",
        {
            "error": {
                "code": "InvalidParameter",
                "message": "The parameter max_tokens specified in the request is not valid: integer above maximum "
                "value, expected a value <= 8192, but got 64000 instead. Request id: 1",
                "param": "max_tokens",
                "type": "BadRequest",
            }
        },
        over(8192),
        MUCH,
        more={"max_tokens": 8192},
    ),
    Refusing(
        "DeepSeek: output",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        over(8192),
        MUCH,
        more={"max_tokens": 8192},
    ),
    Refusing(
        "Bedrock behind LiteLLM: output",
        'litellm.BadRequestError: BedrockException - {"message":"The maximum tokens you requested exceeds the model '
        'limit of 8192. Try again with a maximum tokens value that is lower than 8192."}',
        over(8192),
        MUCH,
        more={"max_tokens": 8192},
    ),
    Refusing(
        "Anthropic: output",
        "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for some-model",
        over(8192),
        MUCH,
        more={"max_tokens": 8192},
    ),
    Refusing(
        "vLLM: room",
        "'max_tokens' or 'max_completion_tokens' is too large: 64000. This model's maximum context length is 32768 "
        "tokens and your request has 17459 input tokens (64000 > 32768 - 17459). (parameter=max_tokens, value=64000)",
        over(15309),
        MUCH,
        lasting=False,
        more={"max_tokens": 15309},
    ),
    Refusing(
        "OpenRouter: room",
        "This endpoint's maximum context length is 262144 tokens. However, you requested about 284283 tokens (8963 of "
        "text input, 13176 of tool input, 262144 in the output). Please reduce the length of either one",
        over(240005),
        {"max_tokens": 262144},
        lasting=False,
        more={"max_tokens": 240005},
    ),
]
"""Refusals that are understood: in every operation the request is taken in the end."""
