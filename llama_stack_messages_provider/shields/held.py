"""Events of a message that wait until what they say was judged: a state machine that asks nobody itself.

```
events ── take ──> what goes out at once
             └──> due: parts of the open block that are to be judged now ── let_through ──> what goes out then
                                                                        └── refused ──> the end of the message
```
Of a block that grows, the last `hold_back` characters wait in any case, so nothing of a flagged stretch that is no
longer goes out, however it came in pieces. Events are held and sent as they are: none is cut.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import malformed_upstream_errors
from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.shields.parts import parts_of
from llama_stack_messages_provider.shields.said import CALLS, text_of_call
from llama_stack_messages_provider.wire.sse import ServerSentEvent, encode, encode_all

__all__ = ["HeldEvents"]

_TEXTS = {"text": "text", "thinking": "thinking"}
_END = 1 << 62


class HeldEvents:
    """The events of one call of a model.

    Args:
        judged: Types of blocks that are judged; all others pass.
        hold_back: Characters at a block's end that wait in any case; None holds a block until it has ended.
        characters: The longest part that is judged at once.
        overlap: Characters that two parts have in common.
        most: Characters of a block that are held; with any more it is `too_long`.

    Attributes:
        too_long: Whether the open block cannot be judged.
    """

    def __init__(
        self, judged: Collection[str], hold_back: int | None, characters: int, overlap: int, most: int
    ) -> None:
        self._judged_types = judged
        self._hold_back = hold_back
        self._characters, self._overlap, self._most = characters, overlap, most
        self._output_tokens = 0
        self._index = 0
        # The type of the open block, and the same if it is judged.
        self._open: str | None = None
        self._kind: str | None = None
        self.too_long = False
        self._begin({})

    def _begin(self, block: Mapping[str, Any]) -> None:
        """A block that is judged begins."""
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._pieces = [str(block.get(_TEXTS.get(self._kind or "", "")) or "")]
        self._given = block
        # Characters of the block, of its beginning that is not kept, and of its beginning that was judged.
        self._length, self._gone, self._known = len(self._pieces[0]), 0, 0
        self._ended = self._shown = self.too_long = False

    def take(self, received: ServerSentEvent) -> bytes:
        """Take an event; what goes out at once.

        Raises:
            UpstreamError: It is not one of a message.
        """
        with malformed_upstream_errors(received.data, "an event of a message"):
            # By its data: an engine may leave its name out, and clients read the data.
            return self._taken(received, orjson.loads(received.data))

    def _taken(self, received: ServerSentEvent, event: Mapping[str, Any]) -> bytes:
        kind = event["type"]
        if kind == "message_start":
            if event["message"].get("content"):
                raise UpstreamError("The upstream began a message with content, which cannot be judged")
            self._note_usage(event["message"])
        elif kind == "message_delta":
            self._note_usage(event)
        elif kind == "content_block_start":
            self._start_block(event)
        elif kind == "content_block_delta":
            self._check(event["delta"])
        # A block that its upstream does not close ends with the message.
        ends = kind in ("content_block_stop", "message_delta", "message_stop")
        self._open = None if ends else self._open
        if self._kind is None or kind in ("ping", "error"):
            return received.frame()
        if kind == "content_block_delta":
            self._grow(event["delta"])
        self._ended = self._ended or ends
        self._waiting.append((_END if self._ended else self._place, received.frame()))
        return b""

    @property
    def _place(self) -> int:
        """How much of the block has to be judged before what comes now may go out."""
        return _END if self._kind in CALLS else self._length

    def _start_block(self, event: Mapping[str, Any]) -> None:
        if self._kind is not None:
            raise UpstreamError("The upstream began a block within another, which cannot be judged")
        block = event["content_block"]
        kind = block["type"]
        is_judged = kind in self._judged_types or (kind in CALLS and "tool_use" in self._judged_types)
        self._index, self._open, self._kind = event.get("index", 0), kind, kind if is_judged else None
        self._begin(block)

    def _check(self, delta: Mapping[str, Any]) -> None:
        """Text in a block of another type would not be judged, and some clients show it."""
        strays = any(delta.get(name) for name in _TEXTS if name != self._open and name in self._judged_types)
        if self._open is None or strays:
            raise UpstreamError("The upstream sent a piece of no block of its type, which cannot be judged")

    def _grow(self, delta: Mapping[str, Any]) -> None:
        name = "partial_json" if self._kind in CALLS else _TEXTS.get(self._kind or "", "")
        more = delta.get(name)
        if isinstance(more, str):
            self._pieces.append(more)
            self._length += len(more)
            self.too_long = self._length - self._known > self._most

    def due(self) -> list[str]:
        """What is to be judged before anything more is taken; empty while there is nothing."""
        if self._kind is None:
            return []
        if self._kind in CALLS:
            return self._parts(self._call()) if self._ended else []
        grown = self._length - self._known
        enough = self._hold_back is not None and grown >= self._hold_back
        if not grown or not (self._ended or enough):
            return []
        return self._parts(self._joined(), self._known - self._gone)

    def _joined(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    def _parts(self, text: str, known: int = 0) -> list[str]:
        return parts_of(text, self._characters, self._overlap, known)

    def _call(self) -> str:
        text = self._joined()
        # Some clients read the beginning of a block, where others only read its pieces.
        texts = [text_of_call(self._given)]
        if text.strip():
            try:
                texts.append(text_of_call({"input": orjson.loads(text)}))
            except orjson.JSONDecodeError:
                texts.append(text)
        return "\n".join(filter(None, texts))

    def let_through(self) -> bytes:
        """All that was due may be known; what goes out."""
        self._known = self._length
        if self._kind not in CALLS:
            kept = self._joined()[-self._characters :]
            self._pieces, self._gone = [kept], self._length - len(kept)
        sent = self._sendable()
        if self._ended:
            self._kind = None
        return sent

    def _sendable(self) -> bytes:
        limit = _END if self._ended else self._known - (self._hold_back or 0)
        sent: list[bytes] = []
        # A block is not begun before something of it goes out: a refused one may leave no trace.
        if self._shown or self._ended or (len(self._waiting) > 1 and self._waiting[1][0] <= limit):
            while self._waiting and self._waiting[0][0] <= limit:
                sent.append(self._waiting.popleft()[1])
        self._shown = self._shown or bool(sent)
        return b"".join(sent)

    def give_up(self) -> bytes:
        """The open block is not judged any more; all of it that waits."""
        self._kind, self.too_long = None, False
        return b"".join(frame for _, frame in self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether the open block has ended, and waits for nothing but its judgement."""
        return self._kind is not None and self._ended

    def refused(self, details: Mapping[str, Any]) -> bytes:
        """What is due was flagged: the end of the message, without what waits.

        Args:
            details: `stop_details`.
        """
        stop = {"stop_reason": "refusal", "stop_sequence": None, "stop_details": dict(details)}
        usage = {"output_tokens": self._output_tokens}
        end: list[dict[str, Any]] = [{"type": "message_delta", "delta": stop, "usage": usage}, {"type": "message_stop"}]
        closed = encode({"type": "content_block_stop", "index": self._index}) if self._shown else b""
        return closed + encode_all(end)

    def _note_usage(self, value: Any) -> None:
        usage = value.get("usage") if isinstance(value, Mapping) else None
        count = usage.get("output_tokens") if isinstance(usage, Mapping) else None
        if isinstance(count, int):
            self._output_tokens = count
