"""The official SDK, sync and async, with a real model behind the real server: once native, once translated."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, MessageParam

from tests.support.laws import assert_well_formed, fold
from tests.support.stack import Stack
from tests.support.wire import Json

NAME = "claude-any"
"""Resolved by the alias `claude-*` of `run.yaml`; a real name would be deprecated by the SDK some day."""

QUESTION: list[MessageParam] = [{"role": "user", "content": "What is the capital of France? One sentence."}]
CONVERSATION: list[MessageParam] = [
    {"role": "user", "content": [{"type": "text", "text": "My name is Ann."}]},
    {"role": "assistant", "content": "Hello Ann, how are you?"},
    {"role": "user", "content": "What is my name?"},
]
WEATHER: Json = {
    "name": "weather",
    "description": "The weather at a place.",
    "input_schema": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}

# As the reference page prints it: no indentation, and `/v1` at the end of the base URL.
SNIPPET = """\
from anthropic import Anthropic

client = Anthropic(base_url="http://localhost:8321/v1", api_key="fake")
message = client.messages.create(
model="llama-3.3-70b",
max_tokens=1024,
messages=[{"role": "user", "content": "Hello"}],
)
"""


@dataclass(frozen=True)
class Served:
    """A server and the route that its answers take."""

    stack: Stack
    route: str


@pytest.fixture(params=["native", "translation"])
def served(request: pytest.FixtureRequest) -> Served:
    fixture = {"native": "embedded_stack", "translation": "embedded_translation_stack"}[request.param]
    return Served(request.getfixturevalue(fixture), request.param)


@pytest.fixture
def client(served: Served) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.stack.base_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(served: Served) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=served.stack.base_url, api_key="any", max_retries=0) as client:
        yield client


def ask(**more: Any) -> Any:
    """Parameters that make the model say the same each time; this SDK has no argument for the temperature any more."""
    return {"model": NAME, "max_tokens": 24, "extra_body": {"temperature": 0}, "messages": QUESTION, **more}


def said(message: Message) -> Json:
    """What does not differ between two runs of the same request: not the id, not what came from a cache."""
    usage = message.usage
    read = usage.input_tokens + (usage.cache_read_input_tokens or 0)
    answer = message.model_dump(include={"content", "stop_reason", "stop_sequence", "model", "role", "type"})
    return {**answer, "read": read, "written": usage.output_tokens}


# --- messages ---


def test_a_message_is_answered_and_says_its_route(client: anthropic.Anthropic, served: Served) -> None:
    raw = client.messages.with_raw_response.create(**ask())
    message = raw.parse()
    assert message.model == NAME
    assert message.role == "assistant"
    assert [block.type for block in message.content] == ["text"]
    assert message.usage.output_tokens > 0
    assert message.id.startswith("msg_") or served.route == "native"
    assert raw.headers["x-messages-route"] == served.route
    assert raw.headers["x-messages-model"] == "llama-cpp/smollm2"
    assert "x-messages-dropped" not in raw.headers
    assert message._request_id == raw.headers["request-id"]
    assert raw.headers["request-id"].startswith("req_")


async def test_a_message_is_answered_to_the_async_client(
    async_client: anthropic.AsyncAnthropic, served: Served
) -> None:
    raw = await async_client.messages.with_raw_response.create(**ask())
    assert (await raw.parse()).content[0].type == "text"
    assert raw.headers["x-messages-route"] == served.route


def test_a_stream_obeys_the_grammar_and_says_its_route(client: anthropic.Anthropic, served: Served) -> None:
    raw = client.messages.with_raw_response.create(**ask(stream=True))
    assert raw.headers["x-messages-route"] == served.route
    assert raw.headers["content-type"].startswith("text/event-stream")
    events = [event.model_dump(exclude_unset=True) for event in raw.parse()]
    assert_well_formed(events)
    message = fold(events)
    assert message["model"] == NAME
    assert message["content"][0]["text"]
    assert message["stop_reason"] in ("end_turn", "max_tokens")


def test_the_folded_stream_is_the_whole_answer(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**ask(messages=CONVERSATION))
    with client.messages.stream(**ask(messages=CONVERSATION)) as stream:
        folded = stream.get_final_message()
    assert said(folded) == said(whole)


async def test_the_folded_stream_is_the_whole_answer_to_the_async_client(
    async_client: anthropic.AsyncAnthropic,
) -> None:
    whole = await async_client.messages.create(**ask())
    async with async_client.messages.stream(**ask()) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        folded = await stream.get_final_message()
    assert said(folded) == said(whole)
    assert folded.content[0].type == "text"
    assert text == folded.content[0].text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_limit_and_a_stop_sequence_end_the_answer(client: anthropic.Anthropic, served: Served, stream: bool) -> None:
    limited = answered(client, stream, max_tokens=1)
    assert (limited.stop_reason, limited.usage.output_tokens) == ("max_tokens", 1)
    stopped = answered(client, stream, stop_sequences=[" France"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", " France")
    assert stopped.content[0].type == "text"
    assert "France" not in stopped.content[0].text


def answered(client: anthropic.Anthropic, streamed: bool, **more: Any) -> Message:
    if not streamed:
        return client.messages.create(**ask(**more))
    with client.messages.stream(**ask(**more)) as stream:
        return stream.get_final_message()


def test_a_system_prompt_and_a_conversation_reach_the_model(client: anthropic.Anthropic) -> None:
    bare = client.messages.create(**ask(messages=QUESTION)).usage
    blocks = [
        {
            "type": "text",
            "text": "You are terse, and you speak to a geographer who has seen the whole world.",
        },
        {"type": "text", "text": "Answer in English.", "cache_control": {"type": "ephemeral"}},
    ]
    told = client.messages.create(**ask(system=blocks, messages=QUESTION)).usage
    longer = client.messages.create(**ask(system=blocks, messages=[*CONVERSATION[:2], *QUESTION])).usage
    read = [usage.input_tokens + (usage.cache_read_input_tokens or 0) for usage in (bare, told, longer)]
    assert read == sorted(set(read))


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_tools_are_taken(client: anthropic.Anthropic, choice: str | None) -> None:
    """The model is too small to call one sensibly: whatever it does, the answer has the documented shape."""
    more: Json = {"tools": [WEATHER], "tool_choice": {"type": choice}} if choice else {"tools": [WEATHER]}
    message = client.messages.create(**ask(**more))
    assert {block.type for block in message.content} <= {"text", "tool_use"}
    with client.messages.stream(**ask(**more)) as stream:
        assert {block.type for block in stream.get_final_message().content} <= {"text", "tool_use"}


def test_a_tool_s_result_goes_back_to_the_model(client: anthropic.Anthropic) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"place": "Paris"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Rain", "is_error": False}
    turns = [*QUESTION, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    assert client.messages.create(**ask(messages=turns, tools=[WEATHER])).content


# --- counts ---


def test_tokens_are_counted_as_the_message_reports_them(client: anthropic.Anthropic, served: Served) -> None:
    raw = client.messages.with_raw_response.count_tokens(model=NAME, messages=CONVERSATION, system="Be terse.")
    usage = client.messages.create(**ask(messages=CONVERSATION, system="Be terse.", max_tokens=1)).usage
    assert raw.parse().input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert raw.headers["x-messages-route"] == served.route
    source = {"native": "native", "translation": "tokenizer"}[served.route]
    assert raw.headers["x-messages-count-source"] == source


def test_both_routes_count_alike(embedded_stack: Stack, embedded_translation_stack: Stack) -> None:
    def count(stack: Stack, **request: Any) -> int:
        with anthropic.Anthropic(base_url=stack.base_url, api_key="any") as client:
            return client.messages.count_tokens(model=NAME, **request).input_tokens

    requests: list[Json] = [
        {"messages": QUESTION},
        {"messages": CONVERSATION, "system": [{"type": "text", "text": "Be terse."}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    ]
    for request in requests:
        assert count(embedded_stack, **request) == count(embedded_translation_stack, **request)


async def test_the_async_client_counts_tokens(async_client: anthropic.AsyncAnthropic) -> None:
    short = await async_client.messages.count_tokens(model=NAME, messages=QUESTION)
    longer = await async_client.messages.count_tokens(model=NAME, messages=[*CONVERSATION, *QUESTION])
    assert 0 < short.input_tokens < longer.input_tokens


# --- errors ---

BROKEN: dict[str, tuple[Json, type[anthropic.APIStatusError], str, str]] = {
    "an unknown model": ({"model": "gpt-zero"}, anthropic.NotFoundError, "not_found_error", "gpt-zero"),
    "no list of messages": (
        {"messages": "Hello"},
        anthropic.BadRequestError,
        "invalid_request_error",
        "messages: ",
    ),
    "a model that is a number": ({"model": 7}, anthropic.BadRequestError, "invalid_request_error", "model: "),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_errors_are_typed(client: anthropic.Anthropic, name: str, stream: bool) -> None:
    change, kind, error_type, told = BROKEN[name]
    with pytest.raises(kind) as caught:
        client.messages.create(**ask(**change, stream=stream))
    check_error(caught.value, error_type, told)


@pytest.mark.parametrize("name", BROKEN)
async def test_errors_are_typed_for_the_async_client(async_client: anthropic.AsyncAnthropic, name: str) -> None:
    change, kind, error_type, told = BROKEN[name]
    with pytest.raises(kind) as caught:
        await async_client.messages.create(**ask(**change))
    check_error(caught.value, error_type, told)
    with pytest.raises(kind) as caught:
        await async_client.messages.count_tokens(**{"model": NAME, "messages": QUESTION, **change})
    check_error(caught.value, error_type, told)


def check_error(error: anthropic.APIStatusError, error_type: str, told: str) -> None:
    assert error.type == error_type
    assert told in (error.api_message or "")
    assert isinstance(error.body, dict)
    assert error.request_id
    assert error.body["request_id"] == error.request_id


def test_a_prompt_that_does_not_fit_is_told_in_anthropic_s_words(client: anthropic.Anthropic) -> None:
    """Agents compact their conversation when they read it."""
    flood: Json = {"messages": [{"role": "user", "content": "word " * 20_000}]}
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d+ tokens > \d+ maximum"):
            client.messages.create(**ask(**flood, stream=stream))


# --- the ways that clients are set up ---

CLIENTS: dict[str, Callable[[str], anthropic.Anthropic]] = {
    "base URL alone": lambda url: anthropic.Anthropic(base_url=url, api_key="any"),
    "base URL and /v1": lambda url: anthropic.Anthropic(base_url=f"{url}/v1", api_key="any"),
    "base URL and /v1/": lambda url: anthropic.Anthropic(base_url=f"{url}/v1/", api_key="any"),
    "bearer token": lambda url: anthropic.Anthropic(base_url=url, auth_token="any"),
    "a query": lambda url: anthropic.Anthropic(base_url=url, api_key="any", default_query={"beta": "true"}),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_every_way_to_set_up_a_client_works(embedded_stack: Stack, name: str) -> None:
    with CLIENTS[name](embedded_stack.base_url) as client:
        assert client.messages.create(**ask(max_tokens=2)).content
        assert client.messages.count_tokens(model=NAME, messages=QUESTION).input_tokens
        with client.messages.stream(**ask(max_tokens=2)) as stream:
            assert stream.get_final_text()


def test_the_beta_client_is_served(client: anthropic.Anthropic, served: Served) -> None:
    betas: Json = {"betas": ["context-management-2025-06-27"], "extra_query": {"beta": "true"}}
    raw = client.beta.messages.with_raw_response.create(**ask(**betas))
    assert raw.http_request.url.query == b"beta=true"
    assert raw.headers["x-messages-route"] == served.route
    assert raw.parse().content
    with client.beta.messages.stream(**ask(**betas)) as stream:
        assert stream.get_final_message().content
    counted = client.beta.messages.count_tokens(model=NAME, messages=QUESTION, **betas)
    assert counted.input_tokens == client.messages.count_tokens(model=NAME, messages=QUESTION).input_tokens


def test_the_reference_page_s_snippet_works_as_printed(served: Served, tmp_path: Path) -> None:
    text = SNIPPET.replace("localhost:8321", f"localhost:{served.stack.port}")
    file = tmp_path / "snippet.py"
    file.write_text(text + "print(message.model, message.content[0].text)\n")
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("llama-3.3-70b ")
    assert len(done.stdout.split()) > 1
