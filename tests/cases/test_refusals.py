"""Refusals: what is asked again in another way, and what is learned by it."""

from typing import Any

import pytest

from tests.cases.bench import BASH, CHAT, FINE, HELLO, MESSAGES, TOOLS, WEATHER, Bench, refusing
from tests.support.refusing import thinking_is_off
from tests.support.upstream import Json, call, chat_reply

USED: Json = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
RESULT: Json = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "18"}]}
THOUGHT: Json = {"type": "thinking", "thinking": "hm", "signature": "s"}
WITH: list[Json] = [HELLO, {"role": "assistant", "content": [THOUGHT, USED]}, RESULT]
WITHOUT: list[Json] = [HELLO, {"role": "assistant", "content": [USED]}, RESULT]
SECOND: list[Json] = [
    {"role": "assistant", "content": [{**USED, "id": "toolu_2", "input": {"city": "Rome"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "20"}]},
]


# --- reasoning that must come back ---


def lacks_reasoning(body: Json) -> bool:
    """Whether DeepSeek refuses it: in thinking mode a call without its reasoning, be that empty."""
    calls = [message for message in body["messages"] if message.get("tool_calls")]
    return any("reasoning_content" not in message for message in calls) and not thinking_is_off(body)


WANTED = [
    "Missing `reasoning_content` field in the assistant message at message index 1.",
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1",
    "The `reasoning_content` in the thinking mode must be passed back to the API.",
]
BEHIND_A_GATEWAY = f"Error from provider (Console Go): Upstream request failed: [invalid_request_error] {WANTED[2]}"


@pytest.mark.parametrize("said", [*WANTED, BEHIND_A_GATEWAY])
def test_deepseek_no_thinking(said: str, bench: Bench) -> None:
    """Calls without thinking (another model's, or compacted) go on with a model in thinking mode.

    decolua/9router#355, continuedev/continue#10193, deepseek-ai/DeepSeek-V3#1053
    """
    bench.says(refusing(said, lacks_reasoning))
    assert bench.ask(*WITHOUT, tools=TOOLS).text == "fine"


@pytest.mark.parametrize("said", [*WANTED, BEHIND_A_GATEWAY])
def test_deepseek_poisoned(said: str, bench: Bench) -> None:
    """A refusal for missing reasoning is not one of the field: what has its reasoning keeps it (gt_ai_gateway#17)."""
    bench.says(refusing(said, lacks_reasoning))
    assert bench.ask(*WITH, tools=TOOLS).text == "fine"
    assert bench.ask(*WITH, *SECOND, tools=TOOLS).text == "fine"
    assert bench.ask(*WITH, tools=TOOLS).text == "fine"
    assert bench.sent()[-1]["messages"][1]["reasoning_content"] == "hm"


# --- tools and thinking ---

THINKS_AND_CALLS = {
    "Qwen": "<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to "
    "required or object in thinking mode",
    "DeepSeek": "Thinking mode does not support this tool_choice",
    "Kimi": "tool_choice specified is incompatible with thinking enabled",
}


@pytest.mark.parametrize("said", THINKS_AND_CALLS.values(), ids=THINKS_AND_CALLS)
@pytest.mark.parametrize("choice", [{"type": "tool", "name": "get_weather"}, {"type": "any"}], ids=["tool", "any"])
def test_forced_tool_thinking_model(choice: Json, said: str, bench: Bench) -> None:
    """Models that think by default refuse a forced tool: asked again with thinking off, for this request.

    cloudwego/eino#994, tickernelz/opencode-mem#253, can1357/oh-my-pi#1077, XiaomiMiMo/MiMo-Code#2068
    """

    def refused(body: Json) -> bool:
        return body.get("tool_choice") not in (None, "auto", "none") and not thinking_is_off(body)

    bench.says(refusing(said, refused, then=chat_reply(tool_calls=[call("get_weather", {"city": "Paris"})])))
    assert bench.ask(tools=TOOLS, tool_choice=choice).calls == [("get_weather", {"city": "Paris"})]
    assert bench.sent()[-1]["tool_choice"] not in ("auto", "none")
    bench.ask(tools=TOOLS)
    assert not thinking_is_off(bench.sent()[-1])


NO_EFFORT = (
    "Function tools with reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use function "
    "tools, use /v1/responses or set reasoning_effort to 'none'."
)
ASKED = {
    "nothing": ({}, None),
    "effort": ({"output_config": {"effort": "high"}}, "output_config.effort"),
    "thinking": ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4000}, "thinking"),
    "no thinking": ({"thinking": {"type": "disabled"}}, None),
}


@pytest.mark.parametrize(("asked", "dropped"), ASKED.values(), ids=ASKED)
def test_gpt56_tools(asked: Json, dropped: str | None, bench: Bench) -> None:
    """gpt-5.6 takes functions with `reasoning_effort: none` only, also where no effort is sent.

    BerriAI/litellm#34569, openai/openai-openapi#541, GoogleChromeLabs/webmcp-tools#417
    """
    bench.says(refusing(NO_EFFORT, lambda body: bool(body.get("tools")) and body.get("reasoning_effort") != "none"))
    for _ in range(2):
        answer = bench.ask(tools=TOOLS, **asked)
        assert answer.text == "fine"
        assert (dropped is None) == (answer.dropped is None)
        assert dropped is None or dropped in (answer.dropped or "")
    assert bench.sent()[-1]["reasoning_effort"] == "none"
    bench.ask()
    assert "reasoning_effort" not in bench.sent()[-1]


# --- parameters and values ---

NO_STOP: dict[str, Any] = {
    "xAI": {"code": "invalid-argument", "error": "Model grok-4.6 does not support parameter stop."},
    "xAI, in its older words": {
        "code": "Client specified an invalid argument",
        "error": "Argument not supported on this model: stop",
    },
    "OpenAI": {
        "error": {
            "message": "Unsupported parameter: 'stop' is not supported with this model.",
            "param": "stop",
            "code": "unsupported_parameter",
        }
    },
}


@pytest.mark.parametrize("said", NO_STOP.values(), ids=NO_STOP)
def test_stop_unsupported(said: Json, bench: Bench) -> None:
    """Models that refuse `stop`: asked again without, and the text is cut here.

    lidge-jun/opencodex#5278, BerriAI/litellm#15244, huggingface/smolagents#1868
    """
    bench.says(refusing(said, lambda body: "stop" in body, then=chat_reply("<block>no</block> and so on")))
    for _ in range(2):
        answer = bench.ask(stop_sequences=["</block>"])
        assert (answer.text, answer.stop_reason) == ("<block>no", "stop_sequence")
        assert answer.message is not None
        assert answer.message["stop_sequence"] == "</block>"
    assert ["stop" in body for body in bench.sent()] == [True, False, False]


VALUES: dict[str, tuple[str, str, Any, Any]] = {
    "top_k": ("Invalid value for top_k: must be between 0 and 200, got 500", "top_k", 500, 40),
    "temperature": ("Invalid value for temperature: must be between 0 and 0.9, got 1.0", "temperature", 1.0, 0.5),
    "top_p": ("top_p must be in (0, 0.9], got 0.95.", "top_p", 0.95, 0.5),
}


@pytest.mark.parametrize(("said", "name", "bad", "good"), VALUES.values(), ids=VALUES)
def test_value_unlearns_parameter(said: str, name: str, bad: Any, good: Any, bench: Bench) -> None:
    """A value that is refused is no parameter that is not known: the next request's is sent."""
    bench.says(refusing(said, lambda body: body.get(name, 0) > good))
    first = bench.ask(**{name: bad})
    assert first.error is None or name in first.error["message"]
    second = bench.ask(**{name: good})
    assert (second.text, second.dropped) == ("fine", None)
    assert bench.sent()[-1][name] == good


# --- formats and schemas ---

TITLE: Json = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
UNAVAILABLE = [
    "Failed to deserialize the JSON body into the target type: response_format: response_format.type `json_schema` is "
    "unavailable now at line 1 column 12440",
    "This response_format type is unavailable now",
]


@pytest.mark.parametrize("said", UNAVAILABLE)
def test_response_format_unavailable(said: str, bench: Bench) -> None:
    """DeepSeek takes no `json_schema` (browser-use#215); Claude Code asks for titles by `output_config.format`."""
    form = {"format": {"type": "json_schema", "schema": TITLE}}
    bench.says(refusing(said, lambda body: (body.get("response_format") or {}).get("type") == "json_schema"))
    for _ in range(2):
        answer = bench.ask(output_config=form)
        assert answer.text == "fine"
        assert (answer.dropped or "").startswith("output_config.format")
    assert bench.ask(output_config=form, strict=True).status == 400


NO_PROPERTIES = {
    "OpenAI": "Invalid schema for function 'list': In context=(), object schema missing properties.",
    "OpenAI, nested": "Invalid schema for function 'list': In context=('properties', 'at'), object schema missing "
    "properties.",
}


def bare(schema: Any) -> bool:
    """Whether there is an object without properties."""
    if isinstance(schema, list):
        return any(map(bare, schema))
    if not isinstance(schema, dict):
        return False
    return (schema.get("type") == "object" and "properties" not in schema) or any(map(bare, schema.values()))


@pytest.mark.parametrize("said", NO_PROPERTIES.values(), ids=NO_PROPERTIES)
def test_schema_no_properties(said: str, bench: Bench) -> None:
    """An MCP tool without parameters has the schema `{"type": "object"}`; OpenAI's models want `properties`.

    github/copilot-cli#2223, langchain-ai/langchain-mcp-adapters#137, inboxapi/cli#106
    """
    schema: Json = {"type": "object"}
    if "nested" in said or "'at'" in said:
        schema = {"type": "object", "properties": {"at": {"type": "object"}}}
    bench.says(refusing(said, lambda body: any(bare(tool["function"]["parameters"]) for tool in body.get("tools", ()))))
    assert bench.ask(tools=[{"name": "list", "description": "List.", "input_schema": schema}]).text == "fine"


def has_any(value: Any, names: set[str]) -> bool:
    """Whether a schema has one of these keywords; a property may be named so."""
    if isinstance(value, list):
        return any(has_any(each, names) for each in value)
    if not isinstance(value, dict):
        return False
    below = {**value, **value.get("properties", {})}
    below.pop("properties", None)
    return bool(names & value.keys()) or any(has_any(each, names) for each in below.values())


READ: Json = {
    "name": "Read",
    "input_schema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "exclusiveMinimum": 0},
            "env": {"type": "object", "propertyNames": {"type": "string"}},
        },
    },
}
UNKNOWN = {"$schema", "exclusiveMinimum", "propertyNames"}
PLACES = {
    "$schema": "tools[0].function_declarations[0].parameters",
    "exclusiveMinimum": "tools[0].function_declarations[0].parameters.properties.limit",
    "propertyNames": "tools[0].function_declarations[0].parameters.properties[1].value",
}


def cannot_find(names: list[str]) -> str:
    said = [
        f"Invalid JSON payload received. Unknown name \"{name}\" at '{PLACES[name]}': Cannot find field."
        for name in names
    ]
    return "\n".join(said)


@pytest.mark.parametrize("wrapped", [False, True], ids=["object", "list"])
def test_gemini_schema(wrapped: bool, bench: Bench) -> None:
    """Gemini refuses keywords of JSON Schema, by name and place: they are left out.

    router-for-me/CLIProxyAPI#97 and #3512, ruvnet/agentic-flow#55, bestruirui/octopus#255
    """
    error = {"error": {"code": 400, "message": cannot_find(sorted(UNKNOWN)), "status": "INVALID_ARGUMENT"}}
    said: Any = [error] if wrapped else error
    bench.says(
        refusing(said, lambda body: any(has_any(tool["function"]["parameters"], UNKNOWN) for tool in body["tools"]))
    )
    for _ in range(2):
        assert bench.ask(tools=[READ]).text == "fine"
    assert len(bench.sent()) <= 3
    sent = bench.sent()[-1]["tools"][0]["function"]["parameters"]["properties"]
    assert sent["limit"] == {"type": "integer"}


PATTERN: Json = {
    "name": "Open",
    "input_schema": {"type": "object", "properties": {"port": {"type": "string", "pattern": r"^\d+$"}}},
}


def patterned(body: Json) -> bool:
    schemas = [tool.get("input_schema") or tool["function"]["parameters"] for tool in body.get("tools", ())]
    return any(has_any(schema, {"pattern"}) for schema in schemas)


@pytest.mark.parametrize("by", ["llamacpp", "llamacpp-translated", "chat"], ids=["native", "translated", "unknown"])
@pytest.mark.parametrize(
    "said",
    ["Failed to initialize samplers: failed to parse grammar", "failed to parse grammar"],
)
def test_llama_grammar(said: str, by: str, bench: Bench) -> None:
    """llama.cpp cannot make a grammar of a pattern, and refuses the whole request: asked again without.

    lidge-jun/opencodex#2135, lmstudio-ai/lmstudio-bug-tracker#2220, QwenLM/qwen-code#10435
    """
    upstream = by.partition("-")[0]
    bench.says(refusing(said, patterned), by=upstream)
    bench.says(refusing(said, patterned, then=FINE), by=upstream, path=MESSAGES)
    answer = bench.ask(by=by, tools=[PATTERN])
    assert answer.error is None
    assert answer.dropped == "tools.Open.input_schema.pattern"


# --- turns and modes ---

TURNS: list[Json] = [
    HELLO,
    {"role": "system", "content": "Be brief."},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Go on"},
]
NO_SYSTEM: dict[str, tuple[int, Any]] = {
    "vLLM": (
        400,
        "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'messages', 1, 'role'), 'msg': \"Input "
        "should be 'user' or 'assistant'\", 'input': 'system', 'ctx': {'expected': \"'user' or 'assistant'\"}}",
    ),
    "FastAPI": (
        422,
        {
            "detail": [
                {
                    "type": "literal_error",
                    "loc": ["body", "messages", 1, "role"],
                    "msg": "Input should be 'user' or 'assistant'",
                    "input": "system",
                }
            ]
        },
    ),
    "mlx-vlm": (
        400,
        {
            "detail": "Invalid request body: 1 validation error for AnthropicRequest\nmessages.1.role\n  Input "
            "should be 'user' or 'assistant' [type=literal_error, input_value='system', input_type=str]"
        },
    ),
    "Anthropic": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": 'messages: Unexpected role "system". The Messages API accepts a top-level `system` '
                'parameter, not "system" as an input message role.',
            },
        },
    ),
    "llama.cpp": (500, {"error": {"code": 500, "message": "Unexpected message role.", "type": "server_error"}}),
}


@pytest.mark.parametrize(("status", "said"), NO_SYSTEM.values(), ids=NO_SYSTEM)
@pytest.mark.parametrize("by", ["messages", "vllm"])
def test_native_system_turn(by: str, status: int, said: Any, bench: Bench) -> None:
    """Native endpoints that refuse the system turns of Claude Code (since 2.1.154).

    vllm-project/vllm#44000, Blaizzy/mlx-vlm#1264, Alishahryar1/free-claude-code#616 and #1041,
    anthropics/claude-code#63469, ogx-ai/ogx#5982
    """

    def refused(body: Json) -> bool:
        return any(message["role"] == "system" for message in body["messages"])

    bench.says(refusing(said, refused, status=status, then=FINE), by=by, path=MESSAGES)
    for _ in range(2):
        answer = bench.ask(*TURNS, by=by)
        assert answer.error is None
        assert "Be brief." in str(bench.upstreams[by].last.json)


STREAMS = [
    "parameter.enable_thinking must be set to false for non-streaming calls",
    "This model only support stream mode, please enable the stream parameter to access the model.",
]


@pytest.mark.parametrize("said", STREAMS)
def test_thinking_needs_stream(said: str, bench: Bench) -> None:
    """Qwen's hosted thinking models answer streams only: the stream is read here.

    musistudio/claude-code-router#948, browser-use/web-ui#659, vybestack/llxprt-code#229
    """
    bench.says(refusing(said, lambda body: not body.get("stream")))
    for _ in range(2):
        answer = bench.ask()
        assert (answer.text, answer.stop_reason) == ("fine", "end_turn")
    assert len(bench.sent()) == (2 if bench.stream else 3)


# --- counts ---

LITTLE = {
    "only max_completion_tokens": (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        lambda body: "max_tokens" in body,
    ),
    "one token is too little": (
        "Could not finish the message because max_tokens or model output limit was reached. Please try again with "
        "higher max_tokens.",
        lambda body: (body.get("max_tokens") or body.get("max_completion_tokens")) < 16,
    ),
    "a minimum": (
        "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead.",
        lambda body: (body.get("max_tokens") or body.get("max_completion_tokens")) < 16,
    ),
}


@pytest.mark.parametrize(("said", "when"), LITTLE.values(), ids=LITTLE)
def test_count_reasoning_model(said: str, when: Any, bench: Bench) -> None:
    """`count_tokens` for a model that refuses `max_tokens`, and a one-token answer: an estimate at the worst.

    EdanStarfire/claudecode_webui#1473, farion1231/cc-switch#1448, ericc-ch/copilot-api#222, BerriAI/litellm#30708
    """
    bench.says(refusing(said, when))
    counted = bench.count(tools=[WEATHER, BASH])
    assert counted.status_code == 200, counted.text
    assert counted.json()["input_tokens"] > 0
    assert len(bench.sent(path=CHAT)) < 5


# --- natively ---

FORCED: dict[str, str] = {
    **THINKS_AND_CALLS,
    "vLLM": "tool_choice 'required' is not supported when reasoning is enabled",
}


@pytest.mark.parametrize("said", FORCED.values(), ids=FORCED)
def test_forced_tool_thinking_model_natively(said: str, bench: Bench) -> None:
    """A native endpoint that refuses a forced tool: translated, where there is a switch for thinking."""

    def refused(body: Json) -> bool:
        return (body.get("tool_choice") or {}).get("type") in ("any", "tool")

    bench.says(refusing(said, refused, then=FINE), by="messages", path=MESSAGES)
    bench.says(chat_reply(tool_calls=[call("get_weather", {"city": "Paris"})]), by="messages")
    answer = bench.ask(by="messages", tools=TOOLS, tool_choice={"type": "tool", "name": "get_weather"})
    assert answer.calls == [("get_weather", {"city": "Paris"})]


@pytest.mark.parametrize(("said", "name", "bad", "good"), VALUES.values(), ids=VALUES)
def test_value_unlearns_parameter_natively(said: str, name: str, bad: Any, good: Any, bench: Bench) -> None:
    refuses = refusing(said, lambda body: body.get(name, 0) > good, then=FINE)
    bench.says(refuses, by="messages", path=MESSAGES)
    first = bench.ask(by="messages", **{name: bad})
    assert first.error is None or name in first.error["message"]
    assert bench.ask(by="messages", **{name: good}).error is None
    assert bench.sent(by="messages", path=MESSAGES)[-1][name] == good


NATIVE_PARAMETERS = {
    "vLLM": "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-parser and/or "
    "--reasoning-config to use thinking_token_budget.",
    "strict pydantic": "thinking: Extra inputs are not permitted",
}


@pytest.mark.parametrize("by", ["messages", "vllm"])
@pytest.mark.parametrize("said", NATIVE_PARAMETERS.values(), ids=NATIVE_PARAMETERS)
def test_thinking_that_is_refused_natively(said: str, by: str, bench: Bench) -> None:
    bench.says(refusing(said, lambda body: "thinking" in body, then=FINE), by=by, path=MESSAGES)
    budget = refusing(NATIVE_PARAMETERS["vLLM"], lambda body: "thinking_token_budget" in body)
    bench.says(budget, by=by)
    thinking = {"type": "enabled", "budget_tokens": 1024}
    assert bench.ask(by=by, thinking=thinking, max_tokens=4000).error is None


def test_what_nobody_understands_is_told_and_nothing_learned(bench: Bench) -> None:
    said = "The moon is in the wrong house."
    for by, path in (("chat", CHAT), ("messages", MESSAGES)):
        bench.says(
            refusing(said, lambda body: "top_k" in body, then=FINE if by == "messages" else None), by=by, path=path
        )
        refused = bench.ask(by=by, top_k=3)
        assert (refused.status, refused.error) == (400, {"type": "invalid_request_error", "message": said})
        assert bench.ask(by=by).error is None
        assert ["top_k" in body for body in bench.sent(by=by, path=path)] == [True, False]
