"""The wire types: everything is kept, nothing is coerced, and what is wrong is named."""

from dataclasses import dataclass
from typing import Any

import anthropic.types
import anthropic.types.beta
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params
from anthropic.types.beta.messages import batch_create_params as beta_batch_params
from anthropic.types.messages import MessageBatch as SDKMessageBatch
from anthropic.types.messages import MessageBatchIndividualResponse as SDKIndividualResponse
from anthropic.types.messages import batch_create_params
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llama_stack_messages_provider.wire.answers import (
    Answer,
    Message,
    MessageBatch,
    MessageBatchIndividualResponse,
)
from llama_stack_messages_provider.wire.base import (
    UnknownType,
    WireModel,
    describe,
    error_path,
)
from llama_stack_messages_provider.wire.request import (
    CountTokensRequest,
    CreateBatchRequest,
    CreateMessageRequest,
)
from llama_stack_messages_provider.wire.schemas import schemas
from llama_stack_messages_provider.wire.types import wire_type
from scripts.sdk_requests import request_schemas
from tests.strategies import create_requests, json_objects, json_values, sdk_objects, wire_objects
from tests.support.answers import complaints

REQUEST_TYPES = frozenset(request_schemas())
WIRE_MODELS: list[type[WireModel]] = [
    wire_type(name) for name in schemas() if name in REQUEST_TYPES and wire_type(name).model_fields
]

HELLO: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}


PNG = {"type": "base64", "media_type": "image/png", "data": ""}


def body(**changes: Any) -> dict[str, Any]:
    return {**HELLO, **changes}


def said(*blocks: Any) -> dict[str, Any]:
    return body(messages=[{"role": "user", "content": list(blocks)}])


@given(create_requests())
def test_a_dumped_request_is_the_request(request: dict[str, Any]) -> None:
    assert CreateMessageRequest.model_validate(request).wire() == request


@given(st.sampled_from(WIRE_MODELS).flatmap(lambda model: st.tuples(st.just(model), wire_objects(model))))
def test_every_object_survives_validation_and_dump(case: tuple[type[WireModel], dict[str, Any]]) -> None:
    model, value = case
    assert model.model_validate(value).wire() == value


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        (message_create_params.MessageCreateParamsNonStreaming, CreateMessageRequest),
        (message_create_params.MessageCreateParamsStreaming, CreateMessageRequest),
        (beta_create_params.MessageCreateParamsNonStreaming, CreateMessageRequest),
        (message_count_tokens_params.MessageCountTokensParams, CountTokensRequest),
        (beta_count_params.MessageCountTokensParams, CountTokensRequest),
        (batch_create_params.BatchCreateParams, CreateBatchRequest),
        (beta_batch_params.BatchCreateParams, CreateBatchRequest),
    ],
)
def test_what_the_sdk_may_send_is_accepted_and_kept(kind: Any, model: type[WireModel]) -> None:
    @given(sdk_objects(kind))
    def holds(request: dict[str, Any]) -> None:
        assert model.model_validate(request).wire() == request

    holds()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (anthropic.types.Message, "Message"),
        (anthropic.types.beta.BetaMessage, "Message"),
        (SDKMessageBatch, "MessageBatch"),
        (SDKIndividualResponse, "MessageBatchIndividualResponse"),
        *((kind, "MessageStreamEvent") for kind in anthropic.types.beta.BetaRawMessageStreamEvent.__origin__.__args__),  # type: ignore[attr-defined]
    ],
)
def test_what_the_sdk_may_receive_is_published(kind: Any, name: str) -> None:
    @given(sdk_objects(kind))
    def holds(answer: dict[str, Any]) -> None:
        assert complaints(name, answer, complete=False) == []

    holds()


ANSWERS: dict[type[Answer], dict[str, Any]] = {
    Message: {"id": "msg_1", "model": "m", "content": [{"type": "new", "x": None}], "usage": {"input_tokens": 1}},
    MessageBatch: {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "request_counts": {"succeeded": 1},
        "created_at": "2026-11-24T08:12:00Z",
        "expires_at": "2026-11-25T08:12:00Z",
    },
    MessageBatchIndividualResponse: {"custom_id": "a", "result": {"type": "canceled"}},
}


@pytest.mark.parametrize("model", ANSWERS)
def test_answers_in_the_process_are_kept_as_they_came(model: type[Answer]) -> None:
    answer = (
        {**ANSWERS[model], "new": {"a": None}, "type": model.model_fields["type"].default}
        if ("type" in model.model_fields)
        else {**ANSWERS[model], "new": 1}
    )
    assert model.model_validate(answer).wire() == answer


def test_what_an_agent_sends_is_kept() -> None:
    """The shapes of a coding agent in one request: beta features, deferred tools, media in tool results."""
    marked = {"type": "ephemeral"}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {}}
    request = body(
        stream=True,
        system=[{"type": "text", "text": "You help.", "cache_control": marked}],
        tools=[
            {"name": "Read", "description": "Reads.", "input_schema": schema},
            {"name": "mcp__" + "x" * 100, "input_schema": schema, "defer_loading": True},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
        ],
        metadata={"user_id": '{"device_id": "d"}'},
        thinking={"type": "adaptive", "display": "updates"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "high", "format": {"type": "json_schema", "schema": schema}},
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": marked}]},
            {"role": "system", "content": "Mind the date.", "output_config": {"effort": "medium"}},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "", "signature": ""},
                    {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a.pdf"}},
                    {"type": "tool_use", "id": "toolu_2", "name": "ToolSearch", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "is_error": False,
                        "content": [
                            {"type": "text", "text": "Here."},
                            {"type": "image", "source": PNG},
                            {"type": "document", "source": {**PNG, "media_type": "application/pdf"}},
                        ],
                    },
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_2",
                        "content": [{"type": "tool_reference", "tool_name": "WebFetch"}],
                        "cache_control": marked,
                    },
                    {"type": "document", "source": {**PNG, "media_type": "application/pdf"}},
                ],
            },
        ],
    )
    assert CreateMessageRequest.model_validate(request).wire() == request


def test_an_absent_optional_field_reads_as_none() -> None:
    request = CreateMessageRequest.model_validate(HELLO)
    assert (request.system, request.tools, request.temperature, request.thinking) == (None, None, None, None)


def test_an_unknown_block_keeps_its_fields() -> None:
    request = CreateMessageRequest.model_validate(said({"type": "hologram", "depth": [None, {"a": 1}]}))
    content = request.messages[0].content
    assert isinstance(content, list)
    assert isinstance(content[0], UnknownType)
    assert content[0].model_extra == {"depth": [None, {"a": 1}]}


@pytest.mark.parametrize("kind", ["block", "source", "tool", "edit", "citation", "tool result content"])
def test_what_has_an_unknown_type_is_kept(kind: str) -> None:
    new = {"type": "x_2999", "a": {"b": None}}
    request = {
        "block": said(new),
        "source": said({"type": "document", "source": new}, {"type": "image", "source": new}),
        "tool": body(tools=[new]),
        "edit": body(context_management={"edits": [new]}),
        "citation": said({"type": "text", "text": "", "citations": [new]}),
        "tool result content": said({"type": "tool_result", "tool_use_id": "a", "content": [new]}),
    }[kind]
    assert CreateMessageRequest.model_validate(request).wire() == request


def test_hints_with_newer_values_are_kept() -> None:
    request = body(
        service_tier="platinum",
        output_config={"effort": "ultra"},
        thinking={"type": "adaptive", "display": "sung"},
        cache_control={"type": "ephemeral", "ttl": "7d"},
    )
    assert CreateMessageRequest.model_validate(request).wire() == request


@dataclass(frozen=True)
class Case:
    request: Any
    says: str


WITHOUT = {key: {name: value for name, value in HELLO.items() if name != key} for key in HELLO}

CASES = [
    Case(None, "Input should be an object"),
    Case([], "Input should be an object"),
    Case({}, "max_tokens: Field required; messages: Field required; model: Field required"),
    Case(WITHOUT["model"], "model: Field required"),
    Case(WITHOUT["messages"], "messages: Field required"),
    Case(WITHOUT["max_tokens"], "max_tokens: Field required"),
    Case(body(model=""), "model: String should have at least 1 character"),
    Case(body(model=None), "model: Input should be a valid string"),
    Case(body(max_tokens=-1), "max_tokens: Input should be greater than or equal to 0"),
    Case(body(max_tokens="5"), "max_tokens: Input should be a valid integer"),
    Case(body(max_tokens=True), "max_tokens: Input should be a valid integer"),
    Case(body(max_tokens=1.5), "max_tokens: Input should be a valid integer"),
    Case(body(max_tokens=None), "max_tokens: Input should be a valid integer"),
    Case(body(stream="true"), "stream: Input should be a valid boolean"),
    Case(body(stream=1), "stream: Input should be a valid boolean"),
    Case(body(temperature=2), "temperature: Input should be less than or equal to 1"),
    Case(body(temperature="0.5"), "temperature: Input should be a valid number"),
    Case(body(temperature=True), "temperature: Input should be a valid number"),
    Case(body(top_p=-0.1), "top_p: Input should be greater than or equal to 0"),
    Case(body(top_k=-1), "top_k: Input should be greater than or equal to 0"),
    Case(body(top_k=0.5), "top_k: Input should be a valid integer"),
    Case(body(stop_sequences="x"), "stop_sequences: Input should be an array"),
    Case(body(stop_sequences=["x", 1]), "stop_sequences.1: Input should be a valid string"),
    Case(body(system=5), "system: Input should be a string or an array"),
    Case(body(system=[{"type": "image", "source": PNG}]), "system.0.type: Input should be 'text'"),
    Case(body(system=[{"type": "text"}]), "system.0.text: Field required"),
    Case(body(metadata=[]), "metadata: Input should be an object"),
    Case(body(metadata={"user_id": 1}), "metadata.user_id: Input should be a valid string"),
    Case(body(messages=[]), "messages: List should have at least 1 item after validation, not 0"),
    Case(body(messages={}), "messages: Input should be an array"),
    Case(body(messages=["Hi"]), "messages.0: Input should be an object"),
    Case(body(messages=[{}]), "messages.0.role: Field required"),
    Case(body(messages=[{"content": "Hi"}]), "messages.0.role: Field required"),
    Case(body(messages=[{"role": "user"}]), "messages.0.content: Field required"),
    Case(
        body(messages=[{"role": "tool", "content": ""}]),
        "messages.0.role: Input should be 'user', 'assistant' or 'system'",
    ),
    Case(body(messages=[{"role": "user", "content": None}]), "messages.0.content: Field required"),
    Case(said("Hi"), "messages.0.content.0: Input should be an object"),
    Case(said({}), "messages.0.content.0.type: Field required"),
    Case(said({"type": None}), "messages.0.content.0.type: Input should be a valid string"),
    Case(said({"type": {}}), "messages.0.content.0.type: Input should be a valid string"),
    Case(said({"type": "text"}), "messages.0.content.0.text: Field required"),
    Case(
        said({"type": "text", "text": "a"}, {"type": "text", "text": None}),
        "messages.0.content.1.text: Input should be a valid string",
    ),
    Case(said({"type": "image"}), "messages.0.content.0.source: Field required"),
    Case(
        said({"type": "image", "source": "http://x"}),
        "messages.0.content.0.source: Input should be an object",
    ),
    Case(
        said({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}),
        "messages.0.content.0.source.data: Field required",
    ),
    Case(
        said({"type": "image", "source": PNG}, {"type": "image", "source": {**PNG, "media_type": "image/tiff"}}),
        "messages.0.content.1.source.media_type: "
        "Input should be 'image/gif', 'image/jpeg', 'image/png' or 'image/webp'",
    ),
    Case(
        said({"type": "document", "source": {"type": "content", "content": [{"type": "text"}]}}),
        "messages.0.content.0.source.content.0.text: Field required",
    ),
    Case(said({"type": "tool_result"}), "messages.0.content.0.tool_use_id: Field required"),
    Case(
        said({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text"}]}),
        "messages.0.content.0.content.0.text: Field required",
    ),
    Case(
        said({"type": "tool_result", "tool_use_id": "a", "is_error": "no"}),
        "messages.0.content.0.is_error: Input should be a valid boolean",
    ),
    Case(
        said({"type": "tool_use", "id": "a", "name": "b", "input": "{}"}),
        "messages.0.content.0.input: Input should be an object",
    ),
    Case(said({"type": "thinking", "signature": "x"}), "messages.0.content.0.thinking: Field required"),
    Case(
        said({"type": "web_search_tool_result", "tool_use_id": "a", "content": "x"}),
        "messages.0.content.0.content: Input should be an array or an object",
    ),
    Case(body(tools={}), "tools: Input should be an array"),
    Case(body(tools=[{"name": "a"}]), "tools.0.input_schema: Field required"),
    Case(body(tools=[{"input_schema": {}}]), "tools.0.name: Field required"),
    Case(
        body(tools=[{"name": "a b", "input_schema": {}}]),
        "tools.0.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
    ),
    Case(
        body(tools=[{"name": "a", "input_schema": {"type": "string"}}]),
        "tools.0.input_schema: type should be 'object'",
    ),
    Case(body(tools=[{"type": "bash_20250124"}]), "tools.0.name: Field required"),
    Case(
        body(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 0}]),
        "tools.0.max_uses: Input should be greater than 0",
    ),
    Case(body(tool_choice="auto"), "tool_choice: Input should be an object"),
    Case(body(tool_choice={}), "tool_choice.type: Field required"),
    Case(body(tool_choice={"type": "some"}), "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'"),
    Case(body(tool_choice={"type": "tool"}), "tool_choice.name: Field required"),
    Case(body(thinking=True), "thinking: Input should be an object"),
    Case(body(thinking={"type": "enabled"}), "thinking.budget_tokens: Field required"),
    Case(
        body(thinking={"type": "dreaming"}),
        "thinking.type: Input should be 'enabled', 'disabled', 'between_tools' or 'adaptive'",
    ),
    Case(body(output_config={"format": {"type": "json_schema"}}), "output_config.format.schema: Field required"),
    Case(body(container=1), "container: Input should be a string or an object"),
    Case(body(cache_control="ephemeral"), "cache_control: Input should be an object"),
    Case(body(mcp_servers=[{"type": "url", "url": "x"}]), "mcp_servers.0.name: Field required"),
    Case(
        body(temperature=2, top_p=2, top_k=-1, stream=0, system=0),
        "system: Input should be a string or an array; stream: Input should be a valid boolean; "
        "temperature: Input should be less than or equal to 1; and 2 more",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_what_is_wrong_is_named_in_one_line(case: Case) -> None:
    with pytest.raises(ValidationError) as raised:
        CreateMessageRequest.model_validate(case.request)
    assert describe(raised.value) == case.says


def test_union_tags_are_no_part_of_a_path() -> None:
    assert error_path(("messages", 0, "<user>", "content", "<list>", 1, "<text>", "text")) == (
        "messages.0.content.1.text"
    )


def what_is_wrong(request: Any) -> str | None:
    try:
        CreateMessageRequest.model_validate(request)
    except ValidationError as error:
        return describe(error)
    return None


@pytest.mark.parametrize("key", ["\ud800", "a\nb", "x" * 10_000])
def test_a_path_is_short_and_printable_whatever_the_client_calls_its_keys(key: str) -> None:
    toolset = {"type": "browser_toolset_20260801", "configs": {key: 3}}
    line = what_is_wrong(body(tools=[toolset]))
    assert line is not None
    assert line.isprintable()
    assert len(line) < 150


@pytest.mark.parametrize(
    "request_body",
    [
        said({"type": "text", "text": "\ud800"}),
        body(**{"\ud800": 1}),
        body(max_tokens=10**400),
        said({"type": "\ud800"}),
        body(metadata={"user_id": "\ud800"}),
    ],
)
def test_text_that_is_no_unicode_is_accepted_or_described(request_body: dict[str, Any]) -> None:
    assert (what_is_wrong(request_body) or "").isascii()


@given(st.sampled_from(sorted(CreateMessageRequest.model_fields)), json_values())
def test_any_value_anywhere_is_accepted_or_described(field: str, value: Any) -> None:
    assert (what_is_wrong(body(**{field: value})) or field).startswith(field)


@given(json_objects(), json_values())
def test_any_block_is_accepted_or_described(block: dict[str, Any], content: Any) -> None:
    for request in (said(block), body(messages=[{"role": "user", "content": content}])):
        assert (what_is_wrong(request) or "messages.0").startswith("messages.0")


@pytest.mark.parametrize("model", WIRE_MODELS, ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[WireModel]) -> None:
    for name, published in model.model_json_schema()["properties"].items():
        assert published.get("description"), name
        assert "title" not in published, name


def test_answers_publish_all_their_fields_as_required_but_the_omittable_ones() -> None:
    schema = Message.model_json_schema()
    assert set(schema["required"]) == {
        *("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details"),
        *("usage", "container"),
    }
    assert {"type": "null"} in schema["properties"]["stop_reason"]["anyOf"]


def test_a_batch_item_takes_params_as_they_are() -> None:
    request = {"requests": [{"custom_id": "a", "params": {"model": 5, "anything": None}}]}
    assert CreateBatchRequest.model_validate(request).wire() == request


@pytest.mark.parametrize("custom_id", ["", "a b", "x" * 65, "é"])
def test_a_bad_custom_id_is_refused(custom_id: str) -> None:
    with pytest.raises(ValidationError) as raised:
        CreateBatchRequest.model_validate({"requests": [{"custom_id": custom_id, "params": {}}]})
    assert describe(raised.value).startswith("requests.0.custom_id: ")
