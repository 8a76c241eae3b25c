"""The SDK's runners ask servers to keep conversations. Ours keeps none, says so where it matters, and loses no turn."""

from itertools import product
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool
from anthropic.types import ThreadNotFoundError, ThreadUnsupportedRequestError

from tests.conftest import Fleet
from tests.fidelity.cases import answer
from tests.fidelity.matching import ANY, Has, differences
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    anthropic_message,
    anthropic_stream,
    call,
    encode_events,
    json_reply,
    stream_reply,
    text_block,
    tool_use_block,
)

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


@beta_tool
def look(at: str) -> str:
    """Look at something.

    Args:
        at: What to look at.
    """
    return f"The {at} is blue."


def chat(request: RecordedRequest) -> Reply:
    called = any(message["role"] == "tool" for message in request.json["messages"])
    reply = answer("Blue.") if called else answer(tool_calls=[call("look", {"at": "sky"})])
    return reply(request) if callable(reply) else reply


def native(request: RecordedRequest) -> Reply:
    called = any(message["role"] == "assistant" for message in request.json["messages"])
    block = text_block("Blue.") if called else tool_use_block("look", {"at": "sky"})
    message = anthropic_message([block], id=f"msg_{called}")
    return stream_reply(encode_events(anthropic_stream(message))) if request.json.get("stream") else json_reply(message)


def become_known(client: anthropic.Anthropic, model: str) -> None:
    """Have the upstream probed now, so that the probe does not meet a script."""
    client.messages.create(model=model, max_tokens=9, messages=[{"role": "user", "content": "Hi"}])


def run(client: anthropic.Anthropic, model: str, *, stream: bool) -> str:
    request: Any = {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "Look up."}]}
    runner: Any = client.beta.messages.tool_runner(**request, tools=[look], **({"stream": True} if stream else {}))
    words = [turn.get_final_message().content[-1] if stream else turn.content[-1] for turn in runner]
    return str(words[-1].text)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_runner_s_conversation_arrives_whole_when_it_is_translated(
    client: anthropic.Anthropic, fleet: Fleet, stream: bool
) -> None:
    fleet.upstreams["openai"].reply(CHAT, chat)
    assert run(client, "openai/openai-model", stream=stream) == "Blue."
    sent = [request.json["messages"] for request in fleet.upstreams["openai"].requests_to(CHAT)]
    asked, called = {"role": "user", "content": "Look up."}, {"role": "assistant", "tool_calls": [ANY]}
    assert differences([[asked], [asked, called, {"role": "tool", "content": "The sky is blue."}]], sent) == []


@pytest.mark.parametrize("name", ["vllm", "sglang", "llamacpp", "ollama"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_runner_s_conversation_arrives_whole_at_engines_that_know_no_threads(
    client: anthropic.Anthropic, fleet: Fleet, name: str, stream: bool
) -> None:
    """They would ignore the wish for a thread, and answer the next turn without the ones before."""
    upstream = fleet.upstreams[name]
    become_known(client, f"{name}-native/{name}-model")
    upstream.requests.clear()
    upstream.reply(MESSAGES, native)
    assert run(client, f"{name}-native/{name}-model", stream=stream) == "Blue."
    sent = [request.json for request in upstream.requests_to(MESSAGES)]
    assert [len(request["messages"]) for request in sent] == [1, 3]
    assert not any((request.get("thread") or {}).get("type") == "continue" for request in sent)


def test_anthropic_itself_is_asked_for_threads(client: anthropic.Anthropic, fleet: Fleet) -> None:
    upstream = fleet.upstreams["anthropic"]
    client.beta.messages.create(
        model="anthropic/anthropic-model",
        max_tokens=9,
        messages=[{"role": "user", "content": "Hi"}],
        thread={"type": "create"},
    )
    assert upstream.last.json["thread"] == {"type": "create"}


def test_what_programs_read_in_anthropic_s_errors_reaches_them(client: anthropic.Anthropic, fleet: Fleet) -> None:
    become_known(client, "anthropic/anthropic-model")
    error = {"type": "not_found_error", "message": "Gone.", "details": {"error_code": "thread_not_found"}}
    fleet.upstreams["anthropic"].reply(MESSAGES, json_reply({"type": "error", "error": error}, status=404))
    thread: Any = {"type": "continue", "previous_message_id": "msg_1"}
    for stream in (False, True):
        with pytest.raises(ThreadNotFoundError, match=r"Gone\."):
            client.beta.messages.create(
                model="anthropic/anthropic-model",
                max_tokens=9,
                messages=[{"role": "user", "content": "Hi"}],
                thread=thread,
                stream=stream,
            )


@pytest.mark.parametrize("model", ["openai/openai-model", "vllm-native/vllm-model"])
def test_a_thread_of_many_turns_arrives_whole_each_time(client: anthropic.Anthropic, fleet: Fleet, model: str) -> None:
    """The SDK sends a turn alone, learns that it was lost, and sends everything again."""
    thread = client.beta.messages.thread(model=model, max_tokens=9)
    for turn in range(1, 5):
        reply = thread.send({"role": "user", "content": f"Turn {turn}."})
        assert differences([{"type": "text", "text": Has("Hello")}], reply.to_dict()["content"]) == []
        sent = fleet.upstreams[model.partition("-")[0].partition("/")[0]].last.json["messages"]
        assert [message["content"] for message in sent if message["role"] == "user"] == [
            f"Turn {n}." for n in range(1, turn + 1)
        ]


def test_a_lost_thread_is_an_error_that_programs_can_read(client: anthropic.Anthropic) -> None:
    """Also where no turn is new: so a message that was paused is taken up again."""
    thread: Any = {"type": "continue", "previous_message_id": "msg_1"}
    hi: Any = {"role": "user", "content": "Hi"}
    for model in ("openai/openai-model", "vllm-native/vllm-model"):
        for stream, messages in product((False, True), ([hi], [])):
            with pytest.raises(ThreadNotFoundError, match="send the whole conversation"):
                client.beta.messages.create(
                    model=model,
                    max_tokens=9,
                    messages=messages,
                    thread=thread,
                    stream=stream,
                )


def test_no_turn_is_needed_where_anthropic_goes_on(client: anthropic.Anthropic, fleet: Fleet) -> None:
    thread: Any = {"type": "continue", "previous_message_id": "msg_1"}
    client.beta.messages.create(model="anthropic/anthropic-model", max_tokens=9, messages=[], thread=thread)
    assert fleet.upstreams["anthropic"].last.json["messages"] == []
    with pytest.raises(anthropic.BadRequestError, match="messages: List should have"):
        client.beta.messages.create(model="anthropic/anthropic-model", max_tokens=9, messages=[])


def test_strict_mode_refuses_a_thread_in_words_that_the_sdk_goes_on_from(
    client: anthropic.Anthropic, fleet: Fleet
) -> None:
    strict = client.with_options(default_headers={"x-messages-strict": "true"})
    with pytest.raises(ThreadUnsupportedRequestError, match="strict mode"):
        strict.beta.messages.thread(model="openai/openai-model", max_tokens=9).send({"role": "user", "content": "Hi"})
    fleet.upstreams["openai"].reply(CHAT, chat)
    assert run(strict, "openai/openai-model", stream=False) == "Blue."
