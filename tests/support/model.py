"""A model that is scripted once, in Anthropic's blocks, and served both ways: `serve(upstream, blocks)`.

```
def blocks(body): return [tool_use_block("look")] if offered(body) and not results(body) else [text_block("Seen.")]
serve(upstream, blocks)                 # at /v1/chat/completions, and at /v1/messages where the engine has it
offered(body)  results(body)  said(body)      # what a request of either dialect offers, brings and asks
```
"""

from collections.abc import Callable, Sequence
from typing import Any

from tests.support.upstream import (
    RecordedRequest,
    Reply,
    Responder,
    ScriptedUpstream,
    call,
    chat_reply,
    json_reply,
    stream_reply,
)
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events

__all__ = ["CHAT", "MESSAGES", "Blocks", "chat_model", "native_model", "offered", "results", "said", "serve"]

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"

type Blocks = Callable[[Json], Sequence[Json]]
"""The blocks that answer a request's body, of whichever dialect: text and `tool_use`."""


def serve(upstream: ScriptedUpstream, blocks: Blocks, *, delay: float = 0.0) -> None:
    """Let a model answer at an upstream from now on, after so many seconds."""
    upstream.reply(CHAT, _delayed(chat_model(blocks), delay))
    if f"POST {MESSAGES}" in upstream.personality.routes:
        upstream.reply(MESSAGES, _delayed(native_model(upstream, blocks), delay))


def _delayed(responder: Responder, seconds: float) -> Responder:
    def answer(request: RecordedRequest) -> Reply:
        reply = responder(request) if callable(responder) else responder
        return reply.delayed(seconds) if seconds else reply

    return answer


def chat_model(blocks: Blocks) -> Responder:
    """The model as what answers chat completions, streamed or not."""

    def answer(request: RecordedRequest) -> Reply:
        content = blocks(request.json)
        text = "".join(block["text"] for block in content if block["type"] == "text")
        calls = [call(each["name"], each["input"], id=each["id"]) for each in content if each["type"] == "tool_use"]
        reply = chat_reply(text or None, tool_calls=calls) if calls else chat_reply(text)
        return reply(request) if callable(reply) else reply

    return answer


def native_model(upstream: ScriptedUpstream, blocks: Blocks) -> Responder:
    """The model as what answers messages, streamed or not; a probe gets the engine's own answer."""

    def answer(request: RecordedRequest) -> Reply:
        body = request.json or {}
        if not body.get("messages") or "max_tokens" not in body:
            probe = upstream.personality.answer("POST", MESSAGES)
            return probe(request) if callable(probe) else probe
        message = anthropic_message(blocks(body), model=body["model"])
        return stream_reply(encode_events(anthropic_stream(message))) if body.get("stream") else json_reply(message)

    return answer


def offered(body: Json) -> list[str]:
    """The names of the tools that a request offers."""
    return [each.get("name") or each["function"]["name"] for each in body.get("tools", ())]


def results(body: Json) -> list[str]:
    """What the tools found that were called since a user spoke last."""
    found: list[str] = []
    for message in reversed(body["messages"]):
        if message["role"] == "tool":
            found.insert(0, _text(message["content"]))
        elif message["role"] != "assistant":
            blocks = message["content"] if isinstance(message["content"], list) else []
            here = [_text(each.get("content")) for each in blocks if each["type"] == "tool_result"]
            if not here:
                break
            found = here + found
    return found


def said(body: Json) -> str:
    """What a user said last."""
    return next(
        text for each in reversed(body["messages"]) if each["role"] == "user" and (text := _text(each["content"]))
    )


def _text(content: Any) -> str:
    """The text of a content: a string, or blocks."""
    return content if isinstance(content, str) else "".join(each.get("text", "") for each in content or ())
