"""The laws of streams, checked without the package's code.

```
assert_well_formed(events)                 the grammar (below), skeletons included
fold(events) -> message                    what the SDK accumulates from the stream, as a dict
assert_calls_conserved(chunks, events)     one tool_use per upstream call, arguments equal
assert_text_conserved(chunks, events)      text and reasoning equal
upstream_calls(chunks) -> [Call]           the calls in an OpenAI stream, in order of first appearance
```
`events` are dicts, or the (name, dict) pairs of `sse.parse`. `chunks` are OpenAI dicts; choice 0 counts.

    message := message_start block* message_delta+ message_stop
               a ping anywhere after message_start; an error ends it
    block   := content_block_start content_block_delta* content_block_stop
               index 0, 1, 2, ...; one open at a time
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jiter

from tests.support.wire import Json

__all__ = [
    "Call",
    "assert_calls_conserved",
    "assert_text_conserved",
    "assert_well_formed",
    "fold",
    "upstream_calls",
]

type Events = Iterable[Json] | Iterable[tuple[str, Json]]
type Phase = Literal["start", "between", "block", "delta", "end"]

DELTAS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text_delta", "citations_delta"}),
    "thinking": frozenset({"thinking_delta", "signature_delta"}),
    "redacted_thinking": frozenset(),
    "tool_use": frozenset({"input_json_delta"}),
    "server_tool_use": frozenset({"input_json_delta"}),
    "mcp_tool_use": frozenset({"input_json_delta"}),
    "compaction": frozenset({"compaction_delta"}),
}
"""The deltas each block takes; a block that is not here arrives whole. The SDK drops what does not match."""

START: Json = {
    "type": "message",
    "role": "assistant",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
}
"""What `message_start` always says."""

SKELETONS: Mapping[str, Json] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
    "server_tool_use": {"input": {}},
    "mcp_tool_use": {"input": {}},
}
"""What `content_block_start` carries of each kind: present and empty."""


def _data(events: Events) -> list[Json]:
    found = []
    for event in events:
        if isinstance(event, tuple):
            name, data = event
            assert name == data.get("type"), f"event: {name!r} carries type {data.get('type')!r}"
            found.append(data)
        else:
            found.append(event)
    return found


# --- the grammar ---


class _Grammar:
    """The state of one stream: a phase, the next index and the open block."""

    def __init__(self) -> None:
        self.phase: Phase = "start"
        self.blocks = 0
        self.kind = ""
        self.signed = False

    def take(self, event: Json) -> None:
        kind = event.get("type")
        assert self.phase != "end", f"{kind} after the end"
        step = getattr(self, f"_{kind}", None)
        assert step is not None, f"unknown event {kind!r}"
        step(event)

    def _message_start(self, event: Json) -> None:
        assert self.phase == "start", "a second message_start"
        _check_start(event["message"])
        self.phase = "between"

    def _ping(self, event: Json) -> None:
        assert self.phase != "start", "a ping before message_start"
        assert event == {"type": "ping"}, f"a ping that carries something: {event}"

    def _error(self, event: Json) -> None:
        error = event.get("error")
        assert isinstance(error, dict), f"an error event without an error: {event}"
        assert isinstance(error.get("type"), str)
        assert isinstance(error.get("message"), str)
        self.phase = "end"

    def _content_block_start(self, event: Json) -> None:
        assert self.phase == "between", f"content_block_start in phase {self.phase}"
        assert event["index"] == self.blocks, f"block {event['index']} where {self.blocks} is next"
        block = event["content_block"]
        self.kind, self.signed, self.phase = block["type"], False, "block"
        _check_skeleton(block)

    def _content_block_delta(self, event: Json) -> None:
        assert self.phase == "block", "a delta outside a block"
        assert event["index"] == self.blocks, f"a delta for {event['index']} while {self.blocks} is open"
        delta = event["delta"]["type"]
        allowed = DELTAS.get(self.kind, frozenset())
        assert delta in allowed, f"{delta} in a {self.kind} block"
        assert not self.signed, f"{delta} after the signature"
        self.signed = delta == "signature_delta"

    def _content_block_stop(self, event: Json) -> None:
        assert self.phase == "block", "content_block_stop with no open block"
        assert event["index"] == self.blocks, f"a stop for block {event['index']} while {self.blocks} is open"
        self.blocks, self.phase = self.blocks + 1, "between"

    def _message_delta(self, event: Json) -> None:
        assert self.phase in ("between", "delta"), f"message_delta in phase {self.phase}"
        assert "stop_reason" in event.get("delta", {}), "message_delta without stop_reason"
        assert isinstance(event.get("usage", {}).get("output_tokens"), int), "message_delta without output_tokens"
        self.phase = "delta"

    def _message_stop(self, _event: Json) -> None:
        assert self.phase == "delta", f"message_stop in phase {self.phase}"
        self.phase = "end"


def _check_start(message: Json) -> None:
    for name, empty in START.items():
        assert name in message, f"message_start without {name!r}"
        assert message[name] == empty, f"message_start with {name} = {message[name]!r}"
    for name in ("id", "model"):
        assert isinstance(message.get(name), str), f"message_start without {name!r}"
        assert message[name], f"message_start with an empty {name!r}"
    for name in ("input_tokens", "output_tokens"):
        assert isinstance(message.get("usage", {}).get(name), int), f"message_start without {name!r}"


def _check_skeleton(block: Json) -> None:
    for name, empty in SKELETONS.get(block["type"], {}).items():
        assert name in block, f"a {block['type']} block starts without {name!r}"
        assert block[name] == empty, f"a {block['type']} block starts with {name} = {block[name]!r}"
    if "input" in SKELETONS.get(block["type"], {}):
        assert block["id"], "a call without an id"
        assert block["name"], "a call without a name"


def assert_well_formed(events: Events, *, complete: bool = True) -> None:
    """The stream obeys the grammar.

    Args:
        events: Dicts, or (name, dict) pairs.
        complete: Whether the stream must have come to its end (message_stop or error).

    Raises:
        AssertionError: Says which rule is broken.
    """
    grammar = _Grammar()
    stop_reason = None
    for event in _data(events):
        grammar.take(event)
        if event["type"] == "message_delta":
            stop_reason = event["delta"].get("stop_reason") or stop_reason
        if event["type"] == "message_stop":
            assert stop_reason, "the message stopped without a stop_reason"
    assert not complete or grammar.phase == "end", f"the stream ends in phase {grammar.phase}"


# --- folding ---


def fold(events: Events) -> Json:
    """The message that a client accumulates, by the rules of `anthropic.lib.streaming`.

    Deltas that do not fit their block are dropped there in silence; run `assert_well_formed` first.

    Raises:
        AssertionError: An error event, or nothing to fold.
    """
    message: Json | None = None
    inputs: dict[int, str] = {}
    for event in _data(events):
        assert event["type"] != "error", f"the stream ended in an error: {event['error']}"
        if event["type"] == "message_start":
            message = {**event["message"], "content": [], "usage": dict(event["message"]["usage"])}
            continue
        assert message is not None, f"{event['type']} before message_start"
        _fold_event(message, inputs, event)
    assert message is not None, "an empty stream"
    for index, text in inputs.items():
        message["content"][index]["input"] = jiter.from_json(text.encode(), partial_mode=True) if text else {}
    return message


def _fold_event(message: Json, inputs: dict[int, str], event: Json) -> None:
    match event["type"]:
        case "content_block_start":
            message["content"].append(dict(event["content_block"]))
            if event["content_block"]["type"] == "fallback":
                message["model"] = event["content_block"]["to"]["model"]
        case "content_block_delta":
            _fold_delta(message["content"][event["index"]], inputs, event["index"], event["delta"])
        case "message_delta":
            _fold_end(message, event)
        case _:
            pass


def _fold_delta(block: Json, inputs: dict[int, str], index: int, delta: Json) -> None:
    if delta["type"] not in DELTAS.get(block["type"], frozenset()):
        return
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        case "input_json_delta":
            inputs[index] = inputs.get(index, "") + delta["partial_json"]
        case _:
            block.update({name: value for name, value in delta.items() if name != "type"})


def _fold_end(message: Json, event: Json) -> None:
    delta = event["delta"]
    for name in ("stop_reason", "stop_sequence"):
        message[name] = delta.get(name)
    for name in ("stop_details", "container"):
        if delta.get(name) is not None:
            message[name] = delta[name]
    if "context_management" in event:
        message["context_management"] = event["context_management"]
    message["usage"].update({name: value for name, value in event["usage"].items() if value is not None})


# --- conservation ---


@dataclass
class Call:
    """One upstream tool call, its fragments joined."""

    id: str | None
    name: str
    arguments: str


def _choices(chunks: Iterable[Json]) -> list[Json]:
    return [choice for chunk in chunks for choice in chunk.get("choices") or [] if choice.get("index", 0) == 0]


def upstream_calls(chunks: Iterable[Json]) -> list[Call]:
    """The calls of choice 0.

    A fragment belongs to the call that is current at its index, unless it brings another id: then a new call
    begins there. Without an index, a fragment with an id begins a call and one without continues the last.
    """
    calls: list[Call] = []
    current: dict[int | None, Call] = {}
    for choice in _choices(chunks):
        for part in (choice.get("delta") or {}).get("tool_calls") or []:
            index, ident = part.get("index"), part.get("id") or None
            function = part.get("function") or {}
            call = current.get(index)
            if call is None or (ident and call.id and ident != call.id):
                call = Call(ident, "", "")
                calls.append(call)
            current[index] = current[None] = call
            call.id = call.id or ident
            if function.get("name") and function["name"] != call.name:
                call.name += function["name"]
            call.arguments += function.get("arguments") or ""
    return calls


def _streamed_calls(events: Sequence[Json]) -> list[Call]:
    calls: dict[int, Call] = {}
    for event in events:
        if event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            block = event["content_block"]
            calls[event["index"]] = Call(block["id"], block["name"], "")
        elif event["type"] == "content_block_delta" and event["delta"]["type"] == "input_json_delta":
            calls[event["index"]].arguments += event["delta"]["partial_json"]
    return list(calls.values())


def assert_calls_conserved(chunks: Iterable[Json], events: Events) -> None:
    """The second law: the same calls, in order of first appearance, argument strings equal.

    Empty arguments may come out as nothing or as `{}`. Ids may be rewritten, but are unique.
    """
    sent, got = upstream_calls(chunks), _streamed_calls(_data(events))
    assert [call.name for call in got] == [call.name for call in sent]
    for before, after in zip(sent, got, strict=True):
        assert after.arguments == before.arguments or (not before.arguments and after.arguments == "{}"), (
            f"{before.name}: {before.arguments!r} became {after.arguments!r}"
        )
    repeated = [ident for ident, times in Counter(call.id for call in got).items() if times > 1]
    assert not repeated, f"two calls share an id: {repeated}"


def _said(chunks: Iterable[Json], *names: str) -> str:
    deltas = [choice.get("delta") or {} for choice in _choices(chunks)]
    return "".join(next((delta[name] for name in names if delta.get(name)), "") for delta in deltas)


def _streamed(events: Sequence[Json], delta: str, name: str) -> str:
    parts: list[Any] = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return "".join(part[name] for part in parts if part["type"] == delta)


def assert_text_conserved(chunks: Sequence[Json], events: Events) -> None:
    """Text and reasoning come out as they went in; a refusal is text.

    White space alone makes no block beside others: Anthropic refuses it when it comes back.
    """
    data = _data(events)
    text, said = _streamed(data, "text_delta", "text"), _said(chunks, "content", "refusal")
    blocks = sum(event["type"] == "content_block_start" for event in data)
    assert "".join(text.split()) == "".join(said.split())
    assert text == said or blocks > bool(text), "only text was said, and it changed"
    reasoning = _said(chunks, "reasoning_content", "reasoning")
    assert _streamed(data, "thinking_delta", "thinking") == reasoning
