"""What is asked and what must come back: the cases, their request bodies, and the check of an answer.

A case is chosen by the model's name, so it reaches the upstream through any server:
``bench-plain`` and ``bench-agent`` are answered in one piece, the others with a stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Dialect = Literal["anthropic", "openai"]
Json = dict[str, Any]

PATHS: dict[Dialect, str] = {"anthropic": "/v1/messages", "openai": "/v1/chat/completions"}
PLAIN_TEXT = "The quick brown fox jumps over the lazy dog. " * 4
AGENT_TEXT = "I will run the tests again."
AGENT_CALL: Json = {"command": "pytest -q", "description": "Run the tests"}
AGENT_BODY_BYTES = 150_000
AGENT_TOOLS = 14
AGENT_ROUNDS = 40
AGENT_TOOLS_BYTES = 36_000


@dataclass(frozen=True)
class Case:
    """One kind of request: a stream of ``events`` text deltas ``gap`` seconds apart, or 0 for one piece."""

    model: str
    events: int = 0
    gap: float = 0.0

    @property
    def text(self) -> str:
        """The text that the upstream answers with."""
        if self.events:
            return "".join(token(i) for i in range(self.events))
        return AGENT_TEXT if self.model == "bench-agent" else PLAIN_TEXT


CASES = {
    case.model: case
    for case in (
        Case("bench-plain"),
        Case("bench-agent"),
        Case("bench-first", events=5, gap=0.002),
        Case("bench-saturated", events=1000),
        Case("bench-paced", events=100, gap=0.020),
        Case("bench-slow", events=50, gap=0.100),
        Case("bench-agents", events=50, gap=0.100),
    )
}


def token(index: int) -> str:
    """The text of a stream's delta number ``index``."""
    return f"tok{index:04d} "


FIRST_TOKEN = token(0).encode()


def request_body(case: Case, dialect: Dialect, model: str) -> bytes:
    """The body that asks for ``case``; ``model`` is the name under which the server knows it."""
    if case.model in ("bench-agent", "bench-agents"):
        body = agent_request() if dialect == "anthropic" else agent_chat_request()
    else:
        body = {"max_tokens": 4096, "messages": [{"role": "user", "content": "Say something about foxes."}]}
    if case.events:
        body = {**body, "stream": True}
    if case.events and dialect == "openai":
        body["stream_options"] = {"include_usage": True}
    return orjson.dumps({"model": model, **body})


# --- the agent's request ------------------------------------------------------------------------------


def filler(length: int, seed: int) -> str:
    """``length`` characters of text that looks like code and prose, different for each seed."""
    words = ["def", "return", "client", "stream", "value:", "\n", "(self)", '"quoted"', "and", "café"]
    out: list[str] = []
    size = 0
    while size < length:
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(words[(seed >> 8) % len(words)])
        size += len(out[-1]) + 1
    return " ".join(out)[:length]


def agent_tools() -> list[Json]:
    """Fourteen tools with schemas of about 36 kB in all, as a coding agent sends them."""
    description = AGENT_TOOLS_BYTES // AGENT_TOOLS - 700
    return [
        {
            "name": "Bash" if index == 0 else f"Tool{index}",
            "description": filler(description, index),
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "command": {"type": "string", "description": filler(150, index + 50)},
                    "description": {"type": "string", "description": filler(150, index + 60)},
                    "timeout": {"type": "number", "minimum": 0, "maximum": 600000},
                    "mode": {"type": "string", "enum": ["read", "write", "both"], "default": "read"},
                },
                "required": ["command"],
                "additionalProperties": False,
            },
        }
        for index in range(AGENT_TOOLS)
    ]


def agent_turns() -> Iterator[Json]:
    """A long session: rounds of text, a tool call and its result."""
    reminder = {"type": "text", "text": "<reminder>" + filler(800, 7) + "</reminder>"}
    yield {"role": "user", "content": [reminder, {"type": "text", "text": "Make the tests pass."}]}
    for index in range(AGENT_ROUNDS):
        name, command = f"toolu_{index:024d}", {"command": f"cat {index}.py"}
        call = {"type": "tool_use", "id": name, "name": "Bash", "input": command}
        yield {"role": "assistant", "content": [{"type": "text", "text": filler(300, index + 100)}, call]}
        text = filler(1850, index + 200)
        content = [{"type": "text", "text": text}] if index % 2 else text
        yield {"role": "user", "content": [{"type": "tool_result", "tool_use_id": name, "content": content}]}


def agent_request() -> Json:
    """A coding agent's Messages request of 150 kB: system blocks, tools, a long conversation."""
    cached = {"cache_control": {"type": "ephemeral"}}
    body: Json = {
        "max_tokens": 32000,
        "system": [
            {"type": "text", "text": "You are a coding agent."},
            {"type": "text", "text": filler(7000, 1), **cached},
        ],
        "tools": agent_tools(),
        "messages": list(agent_turns()),
        "metadata": {"user_id": "user_bench"},
        "stream": False,
    }
    rest = filler(max(AGENT_BODY_BYTES - len(orjson.dumps(body)), 1), 3)
    body["messages"][-1]["content"].append({"type": "text", "text": rest, **cached})
    return body


def agent_chat_request() -> Json:
    """The same conversation in OpenAI's dialect, for the host's own chat route."""
    source = agent_request()
    system = "".join(block["text"] for block in source["system"])
    messages: list[Json] = [{"role": "system", "content": system}]
    for turn in source["messages"]:
        messages.extend(chat_turn(turn))
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool["description"],
                "parameters": tool["input_schema"],
            },
        }
        for tool in source["tools"]
    ]
    return {"max_tokens": 32000, "messages": messages, "tools": tools, "stream": False}


def chat_turn(turn: Json) -> Iterator[Json]:
    """One Messages turn as chat messages."""
    texts = [block["text"] for block in turn["content"] if block["type"] == "text"]
    if turn["role"] == "assistant":
        calls = [chat_call(block) for block in turn["content"] if block["type"] == "tool_use"]
        yield {"role": "assistant", "content": "".join(texts), "tool_calls": calls}
        return
    for block in turn["content"]:
        if block["type"] == "tool_result":
            content = block["content"] if isinstance(block["content"], str) else block["content"][0]["text"]
            yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}
    if texts:
        yield {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


def chat_call(block: Json) -> Json:
    """One tool_use block as a chat tool call."""
    function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}


# --- the check of an answer ---------------------------------------------------------------------------


class WrongAnswerError(Exception):
    """A server answered something else than what the upstream said."""


def verify(case: Case, dialect: Dialect, body: bytes) -> None:
    """Raise WrongAnswerError unless ``body`` is the whole answer: text, calls, count of deltas, end."""
    if case.events:
        events = [orjson.loads(data) for data in sse_data(body)]
        texts, ended = stream_texts(events) if dialect == "anthropic" else chat_stream_texts(events)
        if len(texts) != case.events or "".join(texts) != case.text or not ended:
            raise WrongAnswerError(f"{len(texts)} of {case.events} deltas, end {ended}: {body[-300:]!r}")
        return
    answer = orjson.loads(body)
    text, calls = message_parts(answer) if dialect == "anthropic" else completion_parts(answer)
    if text != case.text or calls != ([AGENT_CALL] if case.model == "bench-agent" else []):
        raise WrongAnswerError(f"{body[:300]!r}")


def sse_data(body: bytes) -> Iterator[bytes]:
    """The ``data`` of each event of an event stream."""
    for line in body.splitlines():
        if line.startswith(b"data:") and not line.endswith(b"[DONE]"):
            yield line[5:]


def stream_texts(events: list[Json]) -> tuple[list[str], bool]:
    """The text deltas of a Messages stream, and whether it began and ended as it must."""
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    reasons = [event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta"]
    ended = bool(events) and events[0]["type"] == "message_start" and events[-1]["type"] == "message_stop"
    return texts, ended and "end_turn" in reasons


def chat_stream_texts(events: list[Json]) -> tuple[list[str], bool]:
    """The text deltas of a chat completion stream, and whether it has a finish reason."""
    choices = [choice for event in events for choice in event["choices"]]
    texts = [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")]
    return texts, any(choice.get("finish_reason") == "stop" for choice in choices)


def message_parts(message: Json) -> tuple[str, list[Json]]:
    """The text and the tool inputs of a message."""
    blocks = message["content"]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    return text, [block["input"] for block in blocks if block["type"] == "tool_use"]


def completion_parts(completion: Json) -> tuple[str, list[Json]]:
    """The text and the tool inputs of a chat completion."""
    message = completion["choices"][0]["message"]
    calls = message.get("tool_calls") or []
    return message["content"] or "", [orjson.loads(call["function"]["arguments"]) for call in calls]
