"""Blocks of a native stream that is mended, and the events that wait for one of them to end."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.native.message import Event

__all__ = ["CONTINUES", "MAX_HELD_EVENTS", "Block", "HeldEvents", "is_text", "takes_over"]

MAX_HELD_EVENTS = 100_000
"""How many events may wait for the block that is open to end."""

# The kind of block that a delta can begin anew where its own is closed; the others belong to one block only.
CONTINUES: Mapping[Any, str] = {"text_delta": "text", "citations_delta": "text", "thinking_delta": "thinking"}
# The delta that goes on with a block.
_DELTAS: Mapping[str, str] = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}


class Block:
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

    def is_same(self, block: Mapping[str, Any]) -> bool:
        """Whether a start is that of this block, come again."""
        return self.identity == _identity(block)

    def goes_on(self, event: Event) -> bool:
        """Whether an event is a delta of this block that needs no change; it is then noted as said."""
        delta = event.get("delta")
        if not (event.get("index") == self.index == self.source and type(delta) is dict and not self.signed):
            return False
        if event.get("type") != "content_block_delta" or delta.get("type") != _DELTAS.get(self.kind):
            return False
        self.say(delta)
        return True

    def say(self, delta: Mapping[str, Any]) -> None:
        """Note what its stop needs to know."""
        if self.kind == "thinking":
            self.said.append(delta.get("thinking") or "")
        if delta.get("partial_json"):
            self.arguments = ""


class HeldEvents:
    """Events that wait for the open block to end: in the order of their arrival, and in a queue for each block.

    A key is a block's index upstream, and whether the event is text, which can go into any block.
    """

    __slots__ = ("_ahead", "_count", "_order", "_queues")

    def __init__(self) -> None:
        self._order: deque[Any] = deque()
        self._queues: dict[Any, deque[Event]] = {}
        # How many events of a queue were taken before their turn.
        self._ahead: dict[Any, int] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, source: Any, event: Event) -> None:
        """Hold an event.

        Raises:
            UpstreamError: Too many are held.
        """
        if self._count >= MAX_HELD_EVENTS:
            raise UpstreamError("The upstream interleaves more events of parallel blocks than can be held")
        key = (source, is_text(event))
        self._count += 1
        self._order.append(key)
        self._queues.setdefault(key, deque()).append(event)

    def first(self) -> tuple[Any, Event]:
        """Take the event that came first, with its block's index."""
        while self._ahead.get(key := self._order.popleft(), 0):
            self._ahead[key] -= 1
        return key[0], self._take(key)

    def peek(self, source: Any) -> Event | None:
        """The event of a block that is next, other than text."""
        queue = self._queues.get((source, False))
        return queue[0] if queue else None

    def next_of(self, source: Any) -> Event:
        """Take what `peek` shows."""
        key = (source, False)
        self._ahead[key] = self._ahead.get(key, 0) + 1
        return self._take(key)

    def _take(self, key: Any) -> Event:
        self._count -= 1
        return self._queues[key].popleft()


def is_text(event: Event) -> bool:
    """Whether an event is a delta that can go into a block that is begun for it."""
    delta = event.get("delta")
    return isinstance(delta, dict) and delta.get("type") in CONTINUES


def takes_over(event: Event, call: Block) -> bool:
    """Whether an event gives the index of the open call to another block: that ends the call."""
    return event["type"] == "content_block_start" and not call.is_same(event.get("content_block") or {})


def _identity(block: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return block.get("type"), block.get("id"), block.get("name")
