"""Native streams that break the protocol, mended event by event; what breaks nothing comes out as it came in.

```
message := message_start block* message_delta+ message_stop      ping anywhere after message_start; error ends it
block   := content_block_start content_block_delta* content_block_stop      index 0, 1, 2, ...; one open at a time
```

The state is one field, `_open`: the block that the client has open. `_enter` and `_leave` are the only places that
emit a start and a stop.

| while open | another block's start | another block's delta | its own stop |
| --- | --- | --- | --- |
| nothing | entered | text or thinking: entered as a new block | - |
| text, thinking | left, the other one entered | text or thinking: left, entered as a new block | left |
| any other, such as a call | held | held | left; what was held is taken up again |

So text and thinking reach the client at once even from an upstream that stops all its blocks at the end, and a call
stays one block whatever comes in between.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import from_event
from llama_stack_messages_provider.errors import ErrorType
from llama_stack_messages_provider.wire.sse import ServerSentEvent, encode_all

__all__ = ["Event", "StreamRepair", "repair_message", "told_error"]

Event = dict[str, Any]
Sign = Callable[[str], str]

_ERROR_TYPES = frozenset(get_args(ErrorType))
# The kind of block that a delta can begin anew where its own is closed; the others belong to one block only.
_CONTINUES: Mapping[Any, str] = {"text_delta": "text", "citations_delta": "text", "thinking_delta": "thinking"}


class _Block:
    """One block: where the upstream put it, where the client has it, and what its stop has to bring."""

    __slots__ = ("arguments", "identity", "index", "kind", "said", "signature", "signed", "source", "stopped")

    def __init__(self, source: Any, index: int, block: Mapping[str, Any]) -> None:
        self.source = source
        self.index = index
        self.kind: str = block.get("type") or ""
        self.identity = _identity(block)
        self.stopped = False
        self.said: list[str] = []
        self.signed = False
        self.signature = str(block.get("signature") or "")
        given = block.get("input")
        self.arguments = orjson.dumps(given).decode() if given else ""
        """An input that came with the start, until deltas bring one."""

    @property
    def yields(self) -> bool:
        """Whether it can be closed at any time, because what comes late can go into another block."""
        return self.kind in ("text", "thinking")


class StreamRepair:
    """Feed it the events of a native upstream; it returns those that a client may see.

    Args:
        sign: Makes a thinking block's signature from its text, for upstreams that give none.
        message_id: Id of the message, for upstreams that give none.
        model: The name that the client used.
        request_id: Id of the request, for error events.
    """

    def __init__(self, sign: Sign, *, message_id: str, model: str, request_id: str | None = None) -> None:
        self._sign = sign
        self._message_id = message_id
        self._model = model
        self._request_id = request_id
        self._open: _Block | None = None
        self._index = -1
        self._blocks: dict[Any, _Block] = {}
        self._held: list[Event] = []
        self._output_tokens = 0
        self._closing = False
        self._reason = ""
        self._over = False
        self.started = False
        """Whether `message_start` was sent: from then on a ping may be."""
        self.finished = False
        """Whether the stream came to its end: `message_stop`, or an error. Otherwise the upstream cut it."""
        self.lost = 0
        """How many deltas belonged to no block that is open, and could not begin one."""

    def feed(self, event: Event, name: str = "") -> list[Event]:
        """The events that an event makes.

        Args:
            event: The parsed data.
            name: The `event:` line it came with; tells an error that does not say so itself.
        """
        out: list[Event] = []
        if self._over:
            return out
        if _is_error(event, name):
            self._over = self.finished = True
            return [told_error(event, self._request_id)]
        match event.get("type"):
            case "message_start":
                self._message_start(event, out)
            case "content_block_start" | "content_block_delta" | "content_block_stop":
                self._block_event(event, out)
            case "message_delta":
                self._message_delta(event, out)
            case "message_stop":
                self._message_stop(event, out)
            case "ping" if not self.started:
                pass
            case _:
                out.append(event)
        return out

    def mended(self, received: ServerSentEvent) -> bytes:
        """What a received event makes, as bytes: its own where nothing in it was wrong."""
        name = received.event.decode(errors="replace")
        try:
            event = orjson.loads(received.data)
        except orjson.JSONDecodeError:
            return b""
        if not isinstance(event, dict):
            return b""
        events = self.feed(event, name)
        if len(events) == 1 and events[0] is event and event.get("type") == name:
            return received.frame()
        return encode_all(events)

    def close(self) -> list[Event]:
        """The upstream is over: nothing more may be sent.

        After a cut (`finished` is false) what was held stays behind: it could only follow the stop of a call
        that is not whole, and a client would run it. The caller says that the stream broke.
        """
        self._over = True
        self._held.clear()
        return []

    # --- the message ---

    def _message_start(self, event: Event, out: list[Event]) -> None:
        if self.started:
            return
        self.started = True
        given = event.get("message") or {}
        message = _complete(given, self._message_id, self._model)
        message = _changed(message, {"stop_reason": None, "stop_sequence": None})
        self._message_id = message["id"]
        self._output_tokens = message["usage"]["output_tokens"]
        out.append(_changed(event, {"message": message}))

    def _message_delta(self, event: Event, out: list[Event]) -> None:
        self._settle(out)
        self._closing = True
        usage = event.get("usage") or {}
        if not isinstance(usage.get("output_tokens"), int):
            usage = {**usage, "output_tokens": self._output_tokens}
        self._output_tokens = usage["output_tokens"]
        given = event.get("delta") or {}
        delta = _with_stop_sequence(given)
        if "stop_reason" not in given:  # null is said by those that tell it later
            delta = _with_reason(delta, self._reason or _reason(block.kind for block in self._blocks.values()))
        self._reason = delta["stop_reason"] or ""
        out.append(_changed(event, {"delta": delta, "usage": usage}))

    def _message_stop(self, event: Event, out: list[Event]) -> None:
        self._over = True
        self._settle(out)
        # Without a message_delta nobody knows why the message stopped: that is a cut stream, however it ends.
        if self._closing:
            self.finished = True
            out.append(event)

    def _settle(self, out: list[Event]) -> None:
        """Close what is open and bring out what is held: the upstream says that no content follows."""
        if not self.started:
            self._message_start({"type": "message_start"}, out)
        while self._open is not None or self._held:
            self._leave(out)
            held, self._held = self._held, []
            for event in held:
                self._route(event, out)

    # --- the blocks ---

    def _block_event(self, event: Event, out: list[Event]) -> None:
        if self._closing:
            self.lost += event["type"] == "content_block_delta"
            return
        if not self.started:
            self._message_start({"type": "message_start"}, out)
        self._route(event, out)

    def _route(self, event: Event, out: list[Event]) -> None:
        todo = deque([event])
        while todo:
            event = todo.popleft()
            source = event.get("index", self._open and self._open.source)
            if self._holding and self._open is not None and source != self._open.source:
                self._held.append(event)
                continue
            match event["type"]:
                case "content_block_start":
                    self._block_start(source, event, out)
                case "content_block_delta":
                    self._block_delta(source, event, out)
                case _:
                    self._block_stop(source, event, out)
            if self._held and not self._holding:
                todo.extendleft(reversed(self._held))
                self._held.clear()

    @property
    def _holding(self) -> bool:
        return self._open is not None and not self._open.yields

    def _block_start(self, source: Any, event: Event, out: list[Event]) -> None:
        block = event.get("content_block") or {}
        known = self._blocks.get(source)
        # llama.cpp starts a block again when its last chunk still brings a piece of it.
        if known is not None and not known.stopped and known.identity == _identity(block):
            return
        if self._holding:  # the open call's index, given to another block: that ends the call
            self._held.append(event)
            self._leave(out)
        else:
            self._enter(source, event, out)

    def _block_delta(self, source: Any, event: Event, out: list[Event]) -> None:
        delta = event.get("delta") or {}
        kind = delta.get("type")
        block = self._blocks.get(source)
        if (anew := _CONTINUES.get(kind)) and not self._takes(block, anew):
            if self._holding:  # text with the open call's index
                self._held.append(event)
                return
            start = {"type": "content_block_start", "content_block": {"type": anew}}
            block = self._enter(source, start, out)
        if kind == "signature_delta":
            self._take_signature(block, event, delta, out)
        elif block is None or block is not self._open or not kind or (kind == "input_json_delta" and block.yields):
            self.lost += 1
        else:
            self._say(block, event, delta, out)

    def _takes(self, block: _Block | None, kind: str) -> bool:
        # After its signature a block is complete.
        return block is not None and block is self._open and block.kind == kind and not block.signed

    def _say(self, block: _Block, event: Event, delta: Mapping[str, Any], out: list[Event]) -> None:
        if block.kind == "thinking":
            block.said.append(delta.get("thinking") or "")
        if delta.get("partial_json"):
            block.arguments = ""
        out.append(_changed(event, {"index": block.index}))

    def _take_signature(self, block: _Block | None, event: Event, delta: Mapping[str, Any], out: list[Event]) -> None:
        # An empty one would replace ours, and one that comes after the stop has nothing to sign.
        if block is not None and delta.get("signature") and self._takes(block, "thinking"):
            block.signed = True
            out.append(_changed(event, {"index": block.index}))

    def _block_stop(self, source: Any, event: Event, out: list[Event]) -> None:
        block = self._blocks.get(source)
        if block is not None:
            block.stopped = True
            if block is self._open:
                self._leave(out, event)

    def _enter(self, source: Any, event: Event, out: list[Event]) -> _Block:
        self._leave(out)
        self._index += 1
        given = event.get("content_block") or {}
        block = self._open = self._blocks[source] = _Block(source, self._index, given)
        skeleton = _changed(given, _skeleton(block.kind))
        if "input" in skeleton and not skeleton.get("id"):
            skeleton = {**skeleton, "id": f"toolu_{self._message_id.removeprefix('msg_')}_{self._index}"}
        out.append(_changed(event, {"index": self._index, "content_block": skeleton}))
        if block.yields and (text := given.get(block.kind)):
            delta = {"type": f"{block.kind}_delta", block.kind: text}
            self._say(block, {"type": "content_block_delta", "delta": delta}, delta, out)
        return block

    def _leave(self, out: list[Event], event: Event | None = None) -> None:
        block, self._open = self._open, None
        if block is None:
            return
        if block.kind == "thinking" and not block.signed:
            signature = block.signature or self._sign("".join(block.said))
            out.append(_delta(block, {"type": "signature_delta", "signature": signature}))
        # A client reads a call's input from its deltas only.
        if block.arguments:
            out.append(_delta(block, {"type": "input_json_delta", "partial_json": block.arguments}))
        out.append(_changed(event or {"type": "content_block_stop"}, {"index": block.index}))


def told_error(event: Event, request_id: str | None) -> Event:
    """An upstream's error as Anthropic tells one; the same object if it does so already.

    Args:
        event: An `error` event's data in any shape: engines have types of their own, or leave the envelope out.
        request_id: Id of the request, for the envelope.
    """
    error = event.get("error")
    told = from_event(event if isinstance(error, Mapping | str) else {"error": event})
    if event.get("type") != "error" or not isinstance(error, Mapping) or error.get("type") not in _ERROR_TYPES:
        return told.body(request_id)
    # A context that is full is told in one way, whatever its words: agents act on it.
    overflow = told.message.startswith("prompt is too long") and told.message != error.get("message")
    return told.body(request_id) if overflow or not isinstance(error.get("message"), str) else event


def repair_message(message: Event, sign: Sign, *, message_id: str = "", model: str | None = None) -> Event:
    """A native upstream's whole message, mended; the same object if nothing was wrong.

    Args:
        message: The parsed body.
        sign: Makes a thinking block's signature from its text, for upstreams that give none.
        message_id: Id of the message, for upstreams that give none.
        model: The name that the client used; None leaves the upstream's.
    """
    whole = _with_stop_sequence(_complete(message, message_id, model))
    whole = _with_reason(whole, _reason(block.get("type") for block in whole["content"]))
    return _changed(whole, {"content": [_whole_block(block, sign) for block in whole["content"]]})


def _complete(message: Event, message_id: str, model: str | None) -> Event:
    always = {"id": message_id, "type": "message", "role": "assistant", "content": []}
    missing = {name: value for name, value in always.items() if not message.get(name)}
    nullable = {name: None for name in ("stop_reason", "stop_sequence") if name not in message}
    usage = message.get("usage") or {}
    uncounted = {name: 0 for name in ("input_tokens", "output_tokens") if not isinstance(usage.get(name), int)}
    named = {"model": message.get("model") or "" if model is None else model}
    new = {**missing, **named, **nullable, "usage": _changed(usage, uncounted)}
    return _changed(message, new)


def _whole_block(block: Event, sign: Sign) -> Event:
    empty = _skeleton(block.get("type"))
    block = _changed(block, {name: value for name, value in empty.items() if block.get(name) is None})
    if block.get("type") == "thinking" and not block["signature"]:
        return {**block, "signature": sign(block["thinking"])}
    return block


def _skeleton(kind: str | None) -> Event:
    """The fields that a block of this kind starts with, empty."""
    match kind:
        case "text":
            return {"text": ""}
        case "thinking":
            return {"thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            return {"input": {}}
        case _:
            return {}


def _with_stop_sequence(fields: Event) -> Event:
    # llama.cpp names the sequence that it stopped at, and gives `end_turn` as the reason.
    if fields.get("stop_sequence") and fields.get("stop_reason") in ("end_turn", None):
        return {**fields, "stop_reason": "stop_sequence"}
    missing = {name: None for name in ("stop_reason", "stop_sequence") if name not in fields}
    return {**fields, **missing} if missing else fields


def _with_reason(fields: Event, reason: str) -> Event:
    # Ollama leaves out a reason that it does not know; a message that came to its end has one, on both routes.
    return fields if fields.get("stop_reason") else {**fields, "stop_reason": reason}


def _reason(kinds: Iterable[Any]) -> str:
    return "tool_use" if "tool_use" in kinds else "end_turn"


def _changed(fields: Event, new: Mapping[str, Any]) -> Event:
    """`fields` with `new` in them; the same object if they are there already."""
    if all(name in fields and fields[name] == value for name, value in new.items()):
        return fields
    return {**fields, **new}


def _delta(block: _Block, delta: Event) -> Event:
    return {"type": "content_block_delta", "index": block.index, "delta": delta}


def _identity(block: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return block.get("type"), block.get("id"), block.get("name")


def _is_error(event: Mapping[str, Any], name: str) -> bool:
    # llama.cpp sends the bare error object: its `type` is the error's own, such as `server_error`.
    kind = event.get("type")
    if kind is None:
        return name == "error" or "error" in event or "message" in event
    return "error" in (kind, name) or str(kind).endswith("_error")
