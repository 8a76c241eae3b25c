"""The blocks of a native stream, mended: one is open at a time, and none is left open.

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

from llama_stack_messages_provider.native.blocks import CONTINUES, Block, HeldEvents, is_text, takes_over
from llama_stack_messages_provider.native.message import Event, Sign, changed, skeleton

__all__ = ["BlockRepair"]


class BlockRepair:
    """Feed it the events of blocks; it adds those that a client may see to a list.

    The state is one field, `open`: the block that the client has open. `_enter` and `_leave` are the only places that
    emit a start and a stop.

    Args:
        sign: Makes a thinking block's signature from its text, for upstreams that give none.
        message_id: Id of the message, of which ids of calls are made that come without one.

    Attributes:
        open: The block that the client has open.
        has_calls: Whether there were calls among the blocks.
        lost: How many deltas belonged to no block that is open, and could not begin one.
    """

    def __init__(self, sign: Sign, message_id: str) -> None:
        self._sign = sign
        self.message_id = message_id
        self.open: Block | None = None
        self._index = -1
        self._blocks: dict[Any, Block] = {}
        self._held = HeldEvents()
        self.has_calls = False
        self.lost = 0

    def feed(self, event: Event, out: list[Event]) -> None:
        """Take the start, a delta or the stop of a block."""
        source = event.get("index", self.open and self.open.source)
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

    def settle(self, out: list[Event]) -> None:
        """Close what is open and bring out what is held: the upstream says that no content follows."""
        while self.open is not None or self._held:
            self._leave(out)
            self._take_up(out)

    def forget(self) -> None:
        """Leave what is held behind."""
        self._held = HeldEvents()

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
                self._start(source, event, out)
            case "content_block_delta":
                self._delta(source, event, out)
            case _:
                self._stop(source, event, out)

    @property
    def _holding(self) -> Block | None:
        """The open block, if it is one that others wait for."""
        return self.open if self.open is not None and not self.open.yields else None

    def _start(self, source: Any, event: Event, out: list[Event]) -> None:
        block = event.get("content_block") or {}
        known = self._blocks.get(source)
        # llama.cpp starts a block again when its last chunk still brings a piece of it.
        if known is not None and not known.stopped and known.is_same(block):
            return
        self._enter(source, event, out)

    def _delta(self, source: Any, event: Event, out: list[Event]) -> None:
        delta = event.get("delta") or {}
        kind = delta.get("type")
        block = self._blocks.get(source)
        if (anew := CONTINUES.get(kind)) and not self._takes(block, anew):
            start = {"type": "content_block_start", "content_block": {"type": anew}}
            block = self._enter(source, start, out)
        if kind == "signature_delta":
            self._take_signature(block, event, delta, out)
        elif block is None or block is not self.open or not kind or (kind == "input_json_delta" and block.yields):
            self.lost += 1
        else:
            self._say(block, event, delta, out)

    def _takes(self, block: Block | None, kind: str) -> bool:
        # After its signature a block is complete.
        return block is not None and block is self.open and block.kind == kind and not block.signed

    def _say(self, block: Block, event: Event, delta: Mapping[str, Any], out: list[Event]) -> None:
        block.say(delta)
        out.append(changed(event, {"index": block.index}))

    def _take_signature(self, block: Block | None, event: Event, delta: Mapping[str, Any], out: list[Event]) -> None:
        # An empty one would replace ours, and one that comes after the stop has nothing to sign.
        if block is not None and delta.get("signature") and self._takes(block, "thinking"):
            block.signed = True
            out.append(changed(event, {"index": block.index}))

    def _stop(self, source: Any, event: Event, out: list[Event]) -> None:
        block = self._blocks.get(source)
        if block is not None:
            block.stopped = True
            if block is self.open:
                self._leave(out, event)

    def _enter(self, source: Any, event: Event, out: list[Event]) -> Block:
        self._leave(out)
        self._index += 1
        given = event.get("content_block") or {}
        block = self.open = self._blocks[source] = Block(source, self._index, given)
        self.has_calls = self.has_calls or block.kind == "tool_use"
        started = changed(given, skeleton(block.kind))
        if "input" in started and not started.get("id"):
            started = {**started, "id": f"toolu_{self.message_id.removeprefix('msg_')}_{self._index}"}
        out.append(changed(event, {"index": self._index, "content_block": started}))
        if block.yields and (text := given.get(block.kind)):
            delta = {"type": f"{block.kind}_delta", block.kind: text}
            self._say(block, {"type": "content_block_delta", "delta": delta}, delta, out)
        return block

    def _leave(self, out: list[Event], event: Event | None = None) -> None:
        block, self.open = self.open, None
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
