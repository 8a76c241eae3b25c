"""Answers in the other shape than the one that was asked for, and errors within answers."""

import orjson
import pytest

from llama_stack_messages_provider.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.native.shapes import message_as_stream, stream_as_message
from llama_stack_messages_provider.upstream.chat_completions import _chunks_of
from llama_stack_messages_provider.upstream.completion_shapes import chunks_as_completion, completion_as_chunk
from tests.support.wire import (
    Json,
    anthropic_message,
    anthropic_stream,
    chat_chunks,
    chat_completion,
    encode_chunks,
    encode_events,
    text_block,
    thinking_block,
    tool_use_block,
)

CALLS = [{"id": "a", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}]
MESSAGE = anthropic_message(
    [thinking_block("Hm."), text_block("Hello"), tool_use_block("look", {"at": 1}), tool_use_block("rest", {})]
)


def folded(body: bytes) -> Json:
    return stream_as_message(body, lambda said: "", message_id="msg_x", model=MESSAGE["model"])


def test_a_stream_is_folded_to_its_message() -> None:
    assert folded(b"".join(encode_events(anthropic_stream(MESSAGE)))) == MESSAGE
    assert folded(message_as_stream(MESSAGE)) == MESSAGE


def test_a_stream_without_an_end_is_no_message() -> None:
    with pytest.raises(UpstreamError, match="ended before its message did"):
        folded(b"".join(encode_events(anthropic_stream(MESSAGE))[:-1]))


def test_chunks_are_folded_to_their_completion_and_back() -> None:
    chunks = _chunks_of(b"".join(encode_chunks(chat_chunks("Hello", tool_calls=CALLS, reasoning_content="Hm."))))
    message = chunks_as_completion(chunks)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello", "Hm.")
    assert [call["function"] for call in message["tool_calls"]] == [CALLS[0]["function"]]
    delta = completion_as_chunk(chat_completion("Hello", tool_calls=CALLS))["choices"][0]["delta"]
    assert delta["content"] == "Hello"
    assert [call["index"] for call in delta["tool_calls"]] == [0]


@pytest.mark.parametrize(("code", "kind"), [(429, "rate_limit_error"), (503, "overloaded_error"), (502, "api_error")])
@pytest.mark.parametrize("within", ["chunk", "choice"])
def test_an_error_within_a_chunk_is_told_in_its_own_words(code: int, kind: str, within: str) -> None:
    error = {"error": {"code": code, "message": "Provider rate limit reached, slow down"}}
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    chunk = {"choices": [choice], **error} if within == "chunk" else {"choices": [choice | error]}
    with pytest.raises(MessagesError) as caught:
        list(_chunks_of(b"data: " + orjson.dumps(chunk) + b"\n\n"))
    assert (caught.value.error_type, caught.value.message) == (kind, error["error"]["message"])


def test_halves_of_a_character_in_two_chunks_become_one() -> None:
    body = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % half for half in HALVES)
    assert chunks_as_completion(_chunks_of(body))["choices"][0]["message"]["content"] == "Hi 😀!"


HALVES = (rb"Hi \ud83d", rb"\ude00!")
