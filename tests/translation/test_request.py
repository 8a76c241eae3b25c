"""A request's parameters, one by one, and the laws that hold for every request."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_stack_api import OpenAIChatCompletionRequestWithExtraBody
from openai.types.chat import ChatCompletionToolChoiceOptionParam, ChatCompletionToolParam
from pydantic import TypeAdapter, ValidationError

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError
from llama_stack_messages_provider.support_rows import SUPPORT
from llama_stack_messages_provider.translation.request import Translation, TranslationOptions, to_chat_completion
from llama_stack_messages_provider.wire.request import CreateMessageRequest
from tests.strategies import create_requests, json_objects
from tests.translation.helpers import (
    assistant,
    image,
    messages_of,
    system,
    text,
    tool,
    tool_result,
    tool_use,
    translated,
    user,
)

type Json = dict[str, Any]

EVERY_DIALECT = sorted(ENGINES)


# --- one parameter at a time ---


@dataclass
class Case:
    id: str
    given: Json
    sent: Json
    dropped: list[str] = field(default_factory=list)
    dialect: str = "unknown"
    """`sent` holds the parameters beside model, messages and the output limit."""


SAMPLING = [
    Case("nothing", {}, {}),
    Case("temperature and top_p", {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
    Case("zeros are values", {"temperature": 0, "top_p": 0.0}, {"temperature": 0, "top_p": 0.0}),
    Case("top_k where the engine has it", {"top_k": 40}, {"top_k": 40}, dialect="vllm"),
    Case("top_k where it has none", {"top_k": 40}, {}, ["top_k"], "openai"),
    Case("stop_sequences", {"stop_sequences": ["\n\nHuman:", "END"]}, {"stop": ["\n\nHuman:", "END"]}),
    Case("no stop_sequences", {"stop_sequences": []}, {}),
    Case("an empty stop sequence stops nothing", {"stop_sequences": ["", "END"]}, {"stop": ["END"]}),
    Case(
        "stop sequences beyond what the engine takes are cut here",
        {"stop_sequences": ["a", "b", "c", "d", "e"]},
        {"stop": ["a", "b", "c", "d"]},
        [],
        "openai",
    ),
    Case(
        "llama.cpp is asked to tell which stop sequence it met",
        {"stop_sequences": ["END"]},
        {"stop": ["END"], "verbose": True},
        dialect="llama.cpp",
    ),
    Case("there is nothing to tell without one", {"stop_sequences": []}, {}, dialect="llama.cpp"),
    Case("metadata.user_id", {"metadata": {"user_id": "u-1"}}, {"user": "u-1"}),
    Case(
        "a user's cache",
        {"metadata": {"user_id": "u-1"}},
        {"user": "u-1", "prompt_cache_key": "u-1"},
        dialect="openai",
    ),
    Case("an empty metadata", {"metadata": {"user_id": None}}, {}),
]

STREAMING = [
    Case("no stream", {"stream": False}, {}),
    Case("usage is asked for", {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    Case(
        "usage comes early where the engine can",
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        dialect="vllm",
    ),
]

STREAMING += [
    Case(
        "llama.cpp tells the prompt's tokens before it reads them",
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True},
        dialect="llama.cpp",
    ),
]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
JSON_SCHEMA = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
}

OUTPUT = [
    Case("a JSON schema", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}, JSON_SCHEMA),
    Case("its older spelling", {"output_format": {"type": "json_schema", "schema": SCHEMA}}, JSON_SCHEMA),
    Case("no format", {"output_config": {"format": None}}, {}),
    Case(
        "Anthropic's own chat completions ignore a schema",
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {},
        ["output_config.format"],
        "anthropic",
    ),
    Case(
        "a task budget has nothing like it",
        {"output_config": {"task_budget": {"type": "tokens", "total": 9000}}},
        {},
        ["output_config.task_budget"],
    ),
    Case(
        "fields of later versions are named",
        {"output_config": {"tone": "kind"}, "metadata": {"team": "a"}, "thinking": {"type": "adaptive", "depth": 3}},
        {},
        ["output_config.tone", "metadata.team", "thinking.depth"],
    ),
]

NOTHING_LIKE_IT = [
    Case("context_management.edits.0", {"context_management": {"edits": [{"type": "forget_20300101"}]}}, {}),
    Case("mcp_servers", {"mcp_servers": [{"type": "url", "name": "x", "url": "https://x.test"}]}, {}),
    Case("container", {"container": "container_1"}, {}),
    Case("speed", {"speed": "fast"}, {}),
    Case("inference_geo", {"inference_geo": "eu"}, {}),
    Case("new_in_2031", {"new_in_2031": {"deep": [1]}}, {}),
    Case("switched_off", {"switched_off": False}, {}),
]

UNNAMED = [
    Case("null is nothing", {"container": None, "new_in_2031": None}, {}),
    Case("empty is nothing", {"mcp_servers": [], "context_management": {}}, {}),
    Case("a cache marker", {"cache_control": {"type": "ephemeral", "ttl": "1h"}}, {}),
    Case("what only Anthropic's servers act on", {"betas": ["x"], "service_tier": "auto"}, {}),
]


@pytest.mark.parametrize("case", SAMPLING + STREAMING + OUTPUT + UNNAMED, ids=lambda case: case.id)
def test_parameters_have_their_counterparts(case: Case) -> None:
    translation = translated(dialect=case.dialect, **case.given)

    assert rest_of(translation) == case.sent
    assert translation.dropped == case.dropped


@pytest.mark.parametrize("case", NOTHING_LIKE_IT, ids=lambda case: case.id)
def test_what_has_no_counterpart_is_dropped_and_named(case: Case) -> None:
    translation = translated(**case.given)

    assert rest_of(translation) == {}
    assert translation.dropped == [case.id]


@pytest.mark.parametrize("case", [c for c in SAMPLING + OUTPUT + NOTHING_LIKE_IT if c.dropped or c in NOTHING_LIKE_IT])
def test_strict_mode_refuses_what_would_be_dropped(case: Case) -> None:
    name = case.dropped[0] if case.dropped else case.id

    with pytest.raises(InvalidRequestError, match=f"^{name}: cannot be honoured") as refusal:
        translated(dialect=case.dialect, options={"strict": True}, **case.given)

    assert refusal.value.status == 400


def test_an_output_format_without_a_schema_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match=r"^output_format\.schema: "):
        translated(output_format={"type": "json_schema"})


def rest_of(translation: Translation) -> Json:
    sent = dict(translation.params)
    for name in ("model", "messages", "max_tokens", "max_completion_tokens"):
        sent.pop(name, None)
    return sent


@pytest.mark.parametrize(
    ("given", "dialect", "sent"),
    [
        (64, "unknown", {"max_tokens": 64}),
        (64, "openai", {"max_completion_tokens": 64}),
        # Anthropic's 0 warms its cache without an answer; everywhere else one token is the least.
        (0, "unknown", {"max_tokens": 1}),
    ],
)
def test_the_output_limit_has_the_name_that_the_engine_knows(given: int, dialect: str, sent: Json) -> None:
    translation = translated(dialect=dialect, max_tokens=given)

    assert {k: v for k, v in translation.params.items() if k.endswith("tokens")} == sent
    assert translation.max_tokens == next(iter(sent.values()))


def test_a_request_to_count_has_no_limit() -> None:
    request = {"model": "x", "messages": [user("Hi")]}
    dialect, options = ENGINES["vllm"].chat, TranslationOptions()

    assert to_chat_completion(request, model="m", dialect=dialect, options=options).params == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_the_upstreams_name_of_the_model_is_sent() -> None:
    assert translated().params["model"] == "m"


# --- what the answer's translation needs ---


def test_a_translation_remembers_what_its_answer_needs() -> None:
    translation = translated(
        stop_sequences=["", "END"], thinking={"type": "adaptive", "display": "omitted"}, options={"strict": True}
    )

    assert translation.stop_sequences == ("END",)
    assert translation.max_tokens == 64
    assert translation.thinking == "omitted"
    assert translation.strict


# --- prefill ---


@pytest.mark.parametrize(
    ("dialect", "sent"),
    [
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}),
        ("sglang", {"continue_final_message": True}),
        # It continues a trailing assistant message by itself.
        ("llama.cpp", {}),
        ("openai", {}),
    ],
)
def test_a_trailing_assistant_turn_is_to_be_continued(dialect: str, sent: Json) -> None:
    translation = translated(user("Count."), assistant("One, "), dialect=dialect)

    assert translation.params["messages"][-1] == {"role": "assistant", "content": "One, "}
    assert rest_of(translation) == sent


@pytest.mark.parametrize(
    "last",
    [user("Go on."), assistant(), assistant(tool_use("a"))],
    ids=["a user turn", "an empty assistant turn", "a call, which is answered"],
)
def test_nothing_else_is_a_prefill(last: Json) -> None:
    translation = translated(user("Count."), last, dialect="vllm")

    assert "continue_final_message" not in translation.params


# --- what Claude Code sends ---

DEFERRED = {"defer_loading": True, "description": "Later.", "cache_control": {"type": "ephemeral"}}
EPHEMERAL = {"cache_control": {"type": "ephemeral"}}
BILLING = "x-anthropic-billing-header: cc_version=2.1.330.abc; cc_entrypoint=sdk-cli; cch=0f1e2;"
CLAUDE_CODE: Json = {
    "model": "claude-opus-5-5",
    "max_tokens": 32000,
    "stream": True,
    "thinking": {"type": "adaptive", "display": "updates"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": '{"device_id":"d","account_uuid":"","session_id":"s"}'},
    "system": [text(BILLING), text("You are an agent.", **EPHEMERAL), text("Be brief.", **EPHEMERAL)],
    "tools": [
        tool("Read", description="Reads.", input_schema={"$schema": "x", "type": "object", "properties": {}}),
        tool("ToolSearch"),
        tool("mcp__a__b", **DEFERRED),
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    ],
    "messages": [
        user(text("Look at a.png and a.pdf.", **EPHEMERAL)),
        system("Today is Tuesday.", output_config={"effort": "medium"}),
        assistant(
            {"type": "thinking", "thinking": "Both.", "signature": ""},
            text("Reading."),
            tool_use("toolu_1", "Read", path="a.png"),
            tool_use("toolu_2", "ToolSearch", query="select:mcp__a__b"),
        ),
        user(
            tool_result("toolu_1", [text("a.png"), image()], **EPHEMERAL),
            tool_result("toolu_2", [{"type": "tool_reference", "tool_name": "mcp__a__b"}]),
            text("Go on."),
        ),
        system(text("There are new files.")),
        assistant({"type": "redacted_thinking", "data": "x"}, tool_use("toolu_3", "mcp__a__b")),
        user(tool_result("toolu_3", "No such file", is_error=True)),
    ],
}


def test_a_request_of_claude_code_is_translated_whole() -> None:
    CreateMessageRequest.model_validate(CLAUDE_CODE)

    translation = to_chat_completion(CLAUDE_CODE, model="m", dialect=ENGINES["vllm"].chat, options=TranslationOptions())

    assert translation.params == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You are an agent.\n\nBe brief."},
            {"role": "user", "content": "Look at a.png and a.pdf."},
            {"role": "system", "content": "Today is Tuesday."},
            {
                "role": "assistant",
                "content": "Reading.",
                "reasoning": "Both.",
                "tool_calls": [
                    call("toolu_1", "Read", '{"path":"a.png"}'),
                    call("toolu_2", "ToolSearch", '{"query":"select:mcp__a__b"}'),
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "a.png"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": "The tool mcp__a__b is available now."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "From the result of the tool call toolu_1:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                    {"type": "text", "text": "Go on."},
                ],
            },
            {"role": "system", "content": "There are new files."},
            {"role": "assistant", "tool_calls": [call("toolu_3", "mcp__a__b", "{}")]},
            {"role": "tool", "tool_call_id": "toolu_3", "content": "[tool error] No such file"},
        ],
        "max_tokens": 32000,
        "tools": [
            function("Read", {"$schema": "x", "type": "object", "properties": {}}, "Reads."),
            function("ToolSearch", {"type": "object", "properties": {}}),
            function("mcp__a__b", {"type": "object", "properties": {}}, "Later."),
        ],
        "chat_template_kwargs": {"enable_thinking": True, "thinking": True},
        "reasoning_effort": "medium",
        "user": '{"device_id":"d","account_uuid":"","session_id":"s"}',
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    assert translation.dropped == ["tools.3"]


def call(id: str, name: str, arguments: str) -> Json:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def function(name: str, parameters: Json, description: str | None = None) -> Json:
    described = {"description": description} if description else {}
    return {"type": "function", "function": {"name": name, **described, "parameters": parameters}}


@pytest.mark.parametrize("dialect", EVERY_DIALECT)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"thinking": {"type": "enabled", "budget_tokens": 31999}, "output_config": None},
        {"thinking": {"type": "disabled"}, "context_management": None},
        {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"tools": None, "messages": [user("quota")]},
        {"max_tokens": 1, "stream": None},
    ],
    ids=["adaptive", "a budget", "a subagent", "a title", "no tools", "a count"],
)
def test_the_host_takes_every_request_of_claude_code(dialect: str, changes: Json) -> None:
    request = {name: value for name, value in {**CLAUDE_CODE, **changes}.items() if value is not None}
    CreateMessageRequest.model_validate(request)

    translation = to_chat_completion(request, model="m", dialect=ENGINES[dialect].chat, options=TranslationOptions())

    assert_the_host_takes(translation.params)


# --- laws of every request ---

ANY_REQUEST = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)


def attempt(request: Json, dialect: str, **options: Any) -> Translation | None:
    """The translation of a request, None if it is refused; anything else is a defect."""
    try:
        return to_chat_completion(
            request, model="m", dialect=ENGINES[dialect].chat, options=TranslationOptions(**options)
        )
    except MessagesError as exc:
        refusal = exc
    assert refusal.status < 500
    assert refusal.message
    return None


def assert_the_host_takes(params: Json) -> None:
    """As the inference router checks it."""
    OpenAIChatCompletionRequestWithExtraBody(**params)
    for each in params.get("tools", []):
        TypeAdapter(ChatCompletionToolParam).validate_python(each)
    if "tool_choice" in params:
        TypeAdapter(ChatCompletionToolChoiceOptionParam).validate_python(params["tool_choice"])
        assert params["tools"]
    assert orjson.loads(orjson.dumps(params)) == params


def assert_calls_are_answered(messages: list[Json]) -> None:
    """Each call has its result right behind it, and each result its call."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
            waiting = [each["id"] for each in message.get("tool_calls", [])]
    assert not waiting


@ANY_REQUEST
@given(create_requests(), st.sampled_from(EVERY_DIALECT), st.booleans(), st.booleans())
def test_any_accepted_request_is_translated_or_refused(
    request: Json, dialect: str, strict: bool, merge_system: bool
) -> None:
    CreateMessageRequest.model_validate(request)

    translation = attempt(request, dialect, strict=strict, merge_system=merge_system)

    if translation is not None:
        assert_the_host_takes(translation.params)
        assert_calls_are_answered(translation.params["messages"])
        assert not (strict and translation.dropped)


KNOWN_BLOCKS = [*SUPPORT["block"], "web_fetch_result"]


@st.composite
def misplaced_blocks(draw: st.DrawFn) -> Json:
    """A known type where the API does not have it, so that nothing checks its shape."""
    block = {**draw(json_objects()), "type": draw(st.sampled_from(KNOWN_BLOCKS))}
    place = draw(st.sampled_from(["system", "user", "assistant", "result", "document", "mcp"]))
    if place == "system":
        return {"system": [block], "messages": [user("Hi")]}
    if place == "result":
        return {"messages": [assistant(tool_use("a")), user(tool_result("a", [block]))]}
    if place == "document":
        return {"messages": [user({"type": "document", "source": {"type": "content", "content": [block]}})]}
    if place == "mcp":
        return {"messages": [assistant({"type": "mcp_tool_result", "tool_use_id": "a", "content": [block]})]}
    return {"messages": [user("Hi"), {"role": place, "content": [block]}]}


@st.composite
def odd_tools(draw: st.DrawFn) -> Json:
    """A tool of an unknown type whose fields are anything."""
    names = st.sampled_from(["name", "input_schema", "description", "strict", "configs", "defer_loading"])
    values = draw(json_objects())
    odd = dict(zip(draw(st.lists(names, unique=True)), [*values.values(), *values], strict=False))
    added = {"type": "tool_addition", "tool": {"type": "x_1", "definition": draw(json_objects())}}
    return {"tools": [{**odd, "type": "x_2"}], "messages": [user("Hi"), user(added)]}


@ANY_REQUEST
@given(misplaced_blocks() | odd_tools(), st.sampled_from(EVERY_DIALECT))
def test_unvalidated_shapes_do_no_harm(request: Json, dialect: str) -> None:
    request = {"model": "claude-x", "max_tokens": 9, **request}
    try:
        CreateMessageRequest.model_validate(request)
    except ValidationError:
        return

    translation = attempt(request, dialect)

    if translation is not None:
        assert_the_host_takes(translation.params)


@ANY_REQUEST
@given(create_requests(), st.sampled_from(EVERY_DIALECT))
def test_the_request_is_left_as_it_was(request: Json, dialect: str) -> None:
    before = copy.deepcopy(request)

    attempt(request, dialect)

    assert request == before


@ANY_REQUEST
@given(create_requests(), st.sampled_from(EVERY_DIALECT))
def test_the_same_request_makes_the_same_bytes(request: Json, dialect: str) -> None:
    first, second = attempt(request, dialect), attempt(copy.deepcopy(request), dialect)

    assert (first and orjson.dumps(first.params)) == (second and orjson.dumps(second.params))


def places_of_cache_control(request: Json) -> Iterator[Json]:
    """Every object of a request that may have a cache marker."""
    yield request
    if isinstance(request.get("system"), list):
        yield from request["system"]
    yield from request.get("tools") or ()
    for message in request["messages"]:
        if isinstance(message.get("content"), list):
            for block in message["content"]:
                yield block
                content = block.get("content")
                if isinstance(content, list):
                    yield from (each for each in content if isinstance(each, dict))


@ANY_REQUEST
@given(create_requests(), st.sampled_from(EVERY_DIALECT), st.randoms(use_true_random=False))
def test_cache_markers_change_nothing(request: Json, dialect: str, choose: Any) -> None:
    marked = copy.deepcopy(request)
    for place in places_of_cache_control(request):
        place.pop("cache_control", None)
    for place in places_of_cache_control(marked):
        if choose.random() < 0.5:
            place["cache_control"] = {"type": "ephemeral"}

    without, with_markers = attempt(request, dialect), attempt(marked, dialect)

    assert (without and without.params) == (with_markers and with_markers.params)
    assert (without and without.dropped) == (with_markers and with_markers.dropped)


def test_a_marker_deep_in_a_server_tools_result_does_not_reach_the_prompt() -> None:
    reference = {"type": "tool_reference", "tool_name": "a"}
    found = {"type": "tool_search_tool_search_result", "tool_references": [reference]}
    marked = {**found, "tool_references": [{**reference, "cache_control": {"type": "ephemeral"}}]}
    block = {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1"}

    assert messages_of(assistant({**block, "content": marked})) == messages_of(assistant({**block, "content": found}))


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"prompt_cache_key": "k"}, {"prompt_cache_key": "k"}),
        ({"prompt_cache_key": "k", "metadata": {"user_id": "u"}}, {"prompt_cache_key": "k", "user": "u"}),
        ({"metadata": {"user_id": "u"}}, {"prompt_cache_key": "u", "user": "u"}),
        ({"prompt_cache_key": 5}, {}),
        ({"prompt_cache_key": ""}, {}),
        ({}, {}),
    ],
)
def test_a_key_of_the_prompt_goes_on_where_the_engine_has_one(fields: Json, sent: Json) -> None:
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **fields}
    options = TranslationOptions()
    known = to_chat_completion(request, model="m", dialect=ENGINES["openai"].chat, options=options)
    assert {name: known.params[name] for name in ("prompt_cache_key", "user") if name in known.params} == sent
    assert known.dropped == []
    unknown = to_chat_completion(request, model="m", dialect=ENGINES["vllm"].chat, options=options)
    assert "prompt_cache_key" not in unknown.params


def test_a_key_that_is_too_long_for_openai_is_a_digest() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "prompt_cache_key": "k" * 65}
    sent = to_chat_completion(request, model="m", dialect=ENGINES["openai"].chat, options=TranslationOptions())
    assert len(sent.params["prompt_cache_key"]) == 64
