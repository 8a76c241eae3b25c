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
stays one block whatever comes in between. What is held waits in `HeldEvents`, and each event is held and taken up
at most once: time and memory are linear in what comes.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.native.blocks import CONTINUES, Block, HeldEvents, is_text, takes_over
from llama_stack_messages_provider.native.message import (
    Event,
    Sign,
    changed,
    complete,
    error_event,
    is_error,
    skeleton,
    with_reason,
    with_stop_sequence,
)
from llama_stack_messages_provider.wire.lenient_json import JSONReader
from llama_stack_messages_provider.wire.sse import ServerSentEvent, encode_all

__all__ = ["NOT_JSON", "StreamRepair"]

NOT_JSON = "The upstream sent an event that is not JSON"


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
        self._open: Block | None = None
        self._index = -1
        self._blocks: dict[Any, Block] = {}
        self._held = HeldEvents()
        self._json = JSONReader()
        self._calls = False
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
        if is_error(event, name):
            self._over = self.finished = True
            return [error_event(event, self._request_id)]
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
        """What a received event makes, as bytes: its own where nothing in it was wrong.

        Raises:
            UpstreamError: It is no event that a client could read.
        """
        try:
            event = orjson.loads(received.data)
        except orjson.JSONDecodeError:
            return self._mended_broken(received)
        if not isinstance(event, dict):
            raise UpstreamError(NOT_JSON)
        block = None if self._over else self._open
        if block is not None and received.event == b"content_block_delta" and block.goes_on(event):
            return received.frame()  # nearly all that comes
        name = received.event.decode(errors="replace")
        events = self._typed(event, name)
        if len(events) == 1 and events[0] is event and event.get("type") == name:
            return received.frame()
        return encode_all(events)

    def _mended_broken(self, received: ServerSentEvent) -> bytes:
        """What comes of data that is not JSON, but for halves of characters."""
        if received.data.strip() in (b"", b"[DONE]") or self._over:
            return b""
        try:
            event = self._json.read(received.data)
        except ValueError as exc:
            raise UpstreamError(NOT_JSON) from exc
        if not isinstance(event, dict):
            raise UpstreamError(NOT_JSON)
        return encode_all(self._typed(event, received.event.decode(errors="replace")))

    def _typed(self, event: Event, name: str) -> list[Event]:
        """What an event makes whose type may only be its name; nobody could read one that has neither."""
        if not isinstance(event.get("type"), str) and not is_error(event, name):
            if not name:
                return []
            event = {**event, "type": name}
        return self.feed(event, name)

    def close(self) -> list[Event]:
        """The upstream is over: nothing more may be sent.

        After a cut (`finished` is false) what was held stays behind: it could only follow the stop of a call
        that is not whole, and a client would run it. The caller says that the stream broke.
        """
        self._over = True
        self._held = HeldEvents()
        return []

    # --- the message ---

    def _message_start(self, event: Event, out: list[Event]) -> None:
        if self.started:
            return
        self.started = True
        given = event.get("message") or {}
        message = complete(given, self._message_id, self._model)
        message = changed(message, {"stop_reason": None, "stop_sequence": None})
        self._message_id = message["id"]
        self._output_tokens = message["usage"]["output_tokens"]
        out.append(changed(event, {"message": message}))

    def _message_delta(self, event: Event, out: list[Event]) -> None:
        self._settle(out)
        self._closing = True
        usage = event.get("usage") or {}
        if not isinstance(usage.get("output_tokens"), int):
            usage = {**usage, "output_tokens": self._output_tokens}
        self._output_tokens = usage["output_tokens"]
        given = event.get("delta") or {}
        delta = with_stop_sequence(given)
        if "stop_reason" not in given:  # null is said by those that tell it later
            delta = with_reason(delta, self._reason or ("tool_use" if self._calls else "end_turn"))
        self._reason = delta["stop_reason"] or ""
        out.append(changed(event, {"delta": delta, "usage": usage}))

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
            self._take_up(out)

    # --- the blocks ---

    def _block_event(self, event: Event, out: list[Event]) -> None:
        if self._closing:
            self.lost += event["type"] == "content_block_delta"
            return
        if not self.started:
            self._message_start({"type": "message_start"}, out)
        self._route(event, out)

    def _route(self, event: Event, out: list[Event]) -> None:
        source = event.get("index", self._open and self._open.source)
        if (call := self._holding) is None:
            self._apply(source, event, out)
        elif source != call.source or is_text(event):
            self._held.add(source, event)
        elif takes_over(event, call):
            self._held.add(source, event)
            self._leave(out)
        else:
            self._apply(source, event, out)
        self._take_up(out)

    def _take_up(self, out: list[Event]) -> None:
        """Bring out what is held, until a block is open that others wait for."""
        while self._held and self._holding is None:
            self._apply(*self._held.first(), out)
            while (call := self._holding) is not None and (event := self._held.peek(call.source)) is not None:
                if takes_over(event, call):
                    self._leave(out)
                else:
                    self._apply(call.source, self._held.next_of(call.source), out)

    def _apply(self, source: Any, event: Event, out: list[Event]) -> None:
        match event["type"]:
            case "content_block_start":
                self._block_start(source, event, out)
            case "content_block_delta":
                self._block_delta(source, event, out)
            case _:
                self._block_stop(source, event, out)

    @property
    def _holding(self) -> Block | None:
        """The open block, if it is one that others wait for."""
        return self._open if self._open is not None and not self._open.yields else None

    def _block_start(self, source: Any, event: Event, out: list[Event]) -> None:
        block = event.get("content_block") or {}
        known = self._blocks.get(source)
        # llama.cpp starts a block again when its last chunk still brings a piece of it.
        if known is not None and not known.stopped and known.is_same(block):
            return
        self._enter(source, event, out)

    def _block_delta(self, source: Any, event: Event, out: list[Event]) -> None:
        delta = event.get("delta") or {}
        kind = delta.get("type")
        block = self._blocks.get(source)
        if (anew := CONTINUES.get(kind)) and not self._takes(block, anew):
            start = {"type": "content_block_start", "content_block": {"type": anew}}
            block = self._enter(source, start, out)
        if kind == "signature_delta":
            self._take_signature(block, event, delta, out)
        elif block is None or block is not self._open or not kind or (kind == "input_json_delta" and block.yields):
            self.lost += 1
        else:
            self._say(block, event, delta, out)

    def _takes(self, block: Block | None, kind: str) -> bool:
        # After its signature a block is complete.
        return block is not None and block is self._open and block.kind == kind and not block.signed

    def _say(self, block: Block, event: Event, delta: Mapping[str, Any], out: list[Event]) -> None:
        block.say(delta)
        out.append(changed(event, {"index": block.index}))

    def _take_signature(self, block: Block | None, event: Event, delta: Mapping[str, Any], out: list[Event]) -> None:
        # An empty one would replace ours, and one that comes after the stop has nothing to sign.
        if block is not None and delta.get("signature") and self._takes(block, "thinking"):
            block.signed = True
            out.append(changed(event, {"index": block.index}))

    def _block_stop(self, source: Any, event: Event, out: list[Event]) -> None:
        block = self._blocks.get(source)
        if block is not None:
            block.stopped = True
            if block is self._open:
                self._leave(out, event)

    def _enter(self, source: Any, event: Event, out: list[Event]) -> Block:
        self._leave(out)
        self._index += 1
        given = event.get("content_block") or {}
        block = self._open = self._blocks[source] = Block(source, self._index, given)
        self._calls = self._calls or block.kind == "tool_use"
        started = changed(given, skeleton(block.kind))
        if "input" in started and not started.get("id"):
            started = {**started, "id": f"toolu_{self._message_id.removeprefix('msg_')}_{self._index}"}
        out.append(changed(event, {"index": self._index, "content_block": started}))
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
        out.append(changed(event or {"type": "content_block_stop"}, {"index": block.index}))


def _delta(block: Block, delta: Event) -> Event:
    return {"type": "content_block_delta", "index": block.index, "delta": delta}
