"""Builders of what upstreams send: plain dicts, so that a test can spoil them.

OpenAI:
```
chat_completion("Hello")                                       a completion
chat_completion(tool_calls=[call("look", {"at": "sky"})])       finish_reason is then "tool_calls"
delta("Hel")  delta(tool_calls=[call_delta(0, id="a", name="look")])  delta(finish_reason="stop")
usage_chunk(prompt_tokens=7, completion_tokens=3)              choices is empty
chat_chunks("Hello", reasoning_content="Hm", tool_calls=[...])  a whole stream as chunk dicts
encode_chunks(chunks)                                          the SSE bytes, an element each, `[DONE]` last
```
Anthropic:
```
anthropic_message("Hello")  anthropic_message([text_block("a"), tool_use_block("look", {})])
anthropic_stream(message)                                      its events as dicts
encode_events(events)                                          the SSE bytes, one element an event
```
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

__all__ = [
    "DONE",
    "Json",
    "anthropic_message",
    "anthropic_stream",
    "call",
    "call_delta",
    "chat_chunks",
    "chat_completion",
    "completion_usage",
    "delta",
    "encode_chunks",
    "encode_events",
    "text_block",
    "thinking_block",
    "tool_use_block",
    "usage_chunk",
]

type Json = dict[str, Any]

MODEL = "test-model"
CREATED = 1_760_000_000
CHAT_ID = "chatcmpl-test"
DONE = b"data: [DONE]\n\n"


def _present(**fields: Any) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


# --- OpenAI ---


def call(name: str, arguments: Any = None, *, id: str | None = None) -> Json:
    """A complete tool call; `arguments` is encoded unless it is a string already."""
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
    return {"id": id or f"call_{name}", "type": "function", "function": {"name": name, "arguments": text}}


def completion_usage(prompt_tokens: int = 11, completion_tokens: int = 5, *, cached_tokens: int | None = None) -> Json:
    """A usage object; OpenAI's `prompt_tokens` includes the cached ones."""
    total = prompt_tokens + completion_tokens
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}
    if cached_tokens is not None:
        return {**usage, "prompt_tokens_details": {"cached_tokens": cached_tokens}}
    return usage


def chat_completion(
    content: str | None = None,
    *,
    tool_calls: Sequence[Json] = (),
    finish_reason: str | None = None,
    usage: Json | None = None,
    reasoning_content: str | None = None,
    model: str = MODEL,
    choice: Json | None = None,
    message: Json | None = None,
    **extra: Any,
) -> Json:
    """A `chat.completion`; `choice`, `message` and `extra` add to (or replace) fields at their level."""
    if content is None and not tool_calls:
        content = "Hello"
    said = {"role": "assistant", "content": content, **_present(reasoning_content=reasoning_content)}
    if tool_calls:
        said["tool_calls"] = list(tool_calls)
    reason = finish_reason or ("tool_calls" if tool_calls else "stop")
    only = {"index": 0, "message": {**said, **(message or {})}, "finish_reason": reason, **(choice or {})}
    head = {"id": CHAT_ID, "object": "chat.completion", "created": CREATED, "model": model}
    return {**head, "choices": [only], "usage": usage or completion_usage(), **extra}


def call_delta(
    index: int | None = 0,
    *,
    id: str | None = None,
    name: str | None = None,
    arguments: str | None = None,
) -> Json:
    """A fragment of a tool call; only what is given is sent."""
    function = _present(name=name, arguments=arguments)
    kind = "function" if id is not None else None
    return _present(index=index, id=id, type=kind, function=function or None)


def delta(
    content: str | None = None,
    *,
    role: str | None = None,
    reasoning_content: str | None = None,
    tool_calls: Sequence[Json] | None = None,
    finish_reason: str | None = None,
    index: int = 0,
    model: str = MODEL,
    usage: Json | None = None,
    choice: Json | None = None,
    **extra: Any,
) -> Json:
    """A `chat.completion.chunk`; `extra` goes into the delta, `choice` into the choice."""
    fields = _present(role=role, content=content, reasoning_content=reasoning_content, tool_calls=tool_calls)
    only = {"index": index, "delta": {**fields, **extra}, "finish_reason": finish_reason, **(choice or {})}
    return {**_chunk_head(model), "choices": [only], **_present(usage=usage)}


def usage_chunk(prompt_tokens: int = 11, completion_tokens: int = 5, *, cached_tokens: int | None = None) -> Json:
    """The last chunk of a stream with `stream_options.include_usage`: no choices."""
    usage = completion_usage(prompt_tokens, completion_tokens, cached_tokens=cached_tokens)
    return {**_chunk_head(MODEL), "choices": [], "usage": usage}


def _chunk_head(model: str) -> Json:
    return {"id": CHAT_ID, "object": "chat.completion.chunk", "created": CREATED, "model": model}


def chat_chunks(
    content: str | None = None,
    *,
    tool_calls: Sequence[Json] = (),
    reasoning_content: str | None = None,
    finish_reason: str | None = None,
    usage: Json | None = None,
    model: str = MODEL,
    piece: int = 4,
) -> list[Json]:
    """A whole well-behaved stream: role, reasoning, text, calls, finish, usage.

    Args:
        piece: Characters in each fragment of text, reasoning and arguments.
        usage: The usage of the last chunk; no usage chunk without it.
    """
    if content is None and not tool_calls:
        content = "Hello"
    reason = finish_reason or ("tool_calls" if tool_calls else "stop")
    return [
        delta("", role="assistant", model=model),
        *(delta(reasoning_content=part, model=model) for part in _pieces(reasoning_content or "", piece)),
        *(delta(part, model=model) for part in _pieces(content or "", piece)),
        *(delta(tool_calls=[part], model=model) for part in _call_deltas(tool_calls, piece)),
        delta(finish_reason=reason, model=model),
        *([{**_chunk_head(model), "choices": [], "usage": usage}] if usage else []),
    ]


def _call_deltas(tool_calls: Sequence[Json], piece: int) -> Iterator[Json]:
    for index, made in enumerate(tool_calls):
        yield call_delta(index, id=made["id"], name=made["function"]["name"], arguments="")
        for part in _pieces(made["function"]["arguments"], piece):
            yield call_delta(index, arguments=part)


def encode_chunks(chunks: Iterable[Json | bytes], *, done: bool = True) -> list[bytes]:
    """The SSE bytes of chunks, one element for each; bytes (comments, garbage) go through as they are."""
    data = [part if isinstance(part, bytes) else b"data: " + orjson.dumps(part) + b"\n\n" for part in chunks]
    return [*data, DONE] if done else data


# --- Anthropic ---


def text_block(text: str, **extra: Any) -> Json:
    """A `text` block."""
    return {"type": "text", "text": text, **extra}


def thinking_block(thinking: str, signature: str = "c2lnbmVk") -> Json:
    """A `thinking` block."""
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def tool_use_block(name: str, input: Any = None, *, id: str | None = None) -> Json:
    """A `tool_use` block."""
    return {
        "type": "tool_use",
        "id": id or f"toolu_{name}",
        "name": name,
        "input": {} if input is None else input,
    }


def anthropic_message(
    content: str | Sequence[Json] = "Hello",
    *,
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
    usage: Json | None = None,
    model: str = MODEL,
    **extra: Any,
) -> Json:
    """A Message; `stop_reason` is `tool_use` where a tool_use block is, else `end_turn`."""
    blocks = [text_block(content)] if isinstance(content, str) else list(content)
    calls = any(block["type"] == "tool_use" for block in blocks)
    return {
        "id": "msg_test",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": stop_reason or ("tool_use" if calls else "end_turn"),
        "stop_sequence": stop_sequence,
        "usage": usage or {"input_tokens": 11, "output_tokens": 5},
        **extra,
    }


def anthropic_stream(message: Json, *, piece: int = 4, ping: bool = True) -> list[Json]:
    """The events that Anthropic would stream for this message."""
    ends = ("stop_reason", "stop_sequence", "stop_details")
    closing = {name: message[name] for name in ends if name in message}
    blank = {**message, "content": [], **dict.fromkeys(closing)}
    blank["usage"] = {**message["usage"], "output_tokens": 1}
    return [
        {"type": "message_start", "message": blank},
        *([{"type": "ping"}] if ping else []),
        *(event for index, block in enumerate(message["content"]) for event in _block_events(index, block, piece)),
        {"type": "message_delta", "delta": closing, "usage": message["usage"]},
        {"type": "message_stop"},
    ]


def _block_events(index: int, block: Json, piece: int) -> Iterator[Json]:
    skeleton, deltas = _unfold(block, piece)
    yield {"type": "content_block_start", "index": index, "content_block": skeleton}
    for one in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": one}
    yield {"type": "content_block_stop", "index": index}


def _unfold(block: Json, piece: int) -> tuple[Json, list[Json]]:
    match block["type"]:
        case "text":
            deltas = [{"type": "text_delta", "text": part} for part in _pieces(block["text"], piece)]
            return {"type": "text", "text": ""}, deltas
        case "thinking":
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _pieces(block["thinking"], piece)]
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
        case "tool_use" | "server_tool_use":
            given = orjson.dumps(block["input"]).decode()
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in _pieces(given, piece)]
            return {**block, "input": {}}, deltas
        case _:
            return block, []


def encode_events(events: Iterable[Json | bytes]) -> list[bytes]:
    """The SSE bytes of events, one element for each; bytes go through as they are."""
    return [event if isinstance(event, bytes) else _encode_event(event) for event in events]


def _encode_event(event: Json) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
