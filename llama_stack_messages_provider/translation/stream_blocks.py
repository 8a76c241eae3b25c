"""The content of OpenAI chunks as the blocks of a message: one is open at a time.

The state is one field, `_open`: nothing, a text block, a thinking block, or a tool call. `_enter` and `_leave` are the
only places that emit a start and a stop.

| while open | text or reasoning comes | a fragment of the open call comes | a fragment of another call comes |
| --- | --- | --- | --- |
| nothing, text, thinking | its block (entered if it is not open) | - | the first call that is not done is entered |
| a call | held until the calls are done | sent on | held until the open call is done |

A call is done when its arguments are a whole JSON object, or when the upstream is. Text of nothing but white space
opens no block beside others: it waits for more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.translation.answer import (
    Restore,
    Sign,
    Thinking,
    call_id_prefix,
    model_of,
    redacted_thinking,
    sign_thinking,
    tool_use,
)
from llama_stack_messages_provider.translation.calls import Call, ToolCallAccumulator
from llama_stack_messages_provider.translation.reasoning import ReasoningDetails, reasoning_of, text_of
from llama_stack_messages_provider.translation.text import StopCutter, join_halves

__all__ = ["Event", "StreamBlocks"]

Event = dict[str, Any]

_SKELETONS: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": "", "citations": None},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class StreamBlocks:
    """Feed it the deltas of one completion; it adds the events of blocks to a list.

    Args:
        message_id: Id of the message, of which ids of calls are made that come without a usable one.
        sign: Makes a thinking block's signature from its text.
        stop_sequences: Where text is cut if the upstream goes on.
        restore: Gives the `name` and other fields of a `tool_use` block for a function's name.
        thinking: Whether thinking is sent.

    Attributes:
        calls: The tool calls so far.
        is_refused: Whether the upstream sent a `refusal`.
    """

    def __init__(
        self, message_id: str, *, sign: Sign, stop_sequences: Sequence[str], restore: Restore, thinking: Thinking
    ) -> None:
        self._sign = sign
        self._restore = restore
        self._shown = thinking
        self._open: str | Call | None = None
        self._index = -1
        self.calls = ToolCallAccumulator(call_id_prefix(message_id), model_of(sign))
        self._call_at = 0
        self._cutter = StopCutter(stop_sequences) if stop_sequences else None
        self._held: list[tuple[str, list[str]]] = []
        self._thinking: list[str] = []
        self._details = ReasoningDetails()
        self._blank: list[str] = []
        self._halves = {"text": "", "thinking": ""}
        self.is_refused = False

    @property
    def cut_at(self) -> str | None:
        """The stop sequence that was met in the text: what the upstream still says reaches nobody."""
        return self._cutter.found if self._cutter is not None else None

    def feed(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        """Take a delta: reasoning before text before calls, where it carries several."""
        if self._shown != "hidden":
            self._details.add(delta)
            if reasoning := reasoning_of(delta):
                self._piece("thinking", reasoning, events)
        if text := text_of(delta):
            self._piece("text", text, events)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self.is_refused = True
            self._piece("text", refusal, events)
        if (fragments := delta.get("tool_calls")) and self.cut_at is None:
            for fragment in fragments:
                self.calls.add(fragment)
            self._send_calls(events)

    def close(self, events: list[Event]) -> None:
        """What was held, and the stop of the open block."""
        self._flush_calls(events)
        self._say_held(events)
        self._flush_text(events)
        self._leave(events)
        if self.calls and (block := redacted_thinking(self._sign, self._details.take())):
            self._insert(block, events)

    # --- text and thinking ---

    def _piece(self, kind: str, text: str, events: list[Event]) -> None:
        half = self._halves[kind]
        if half or not text.isascii():
            text, self._halves[kind] = join_halves(half, text)
        if kind == "text" and self._cutter is not None:
            text = self._cutter.feed(text)
        if not text:
            return
        if not isinstance(self._open, Call):
            self._say(kind, text, events)
        elif self._held and self._held[-1][0] == kind:
            self._held[-1][1].append(text)
        else:
            self._held.append((kind, [text]))

    def _say_held(self, events: list[Event]) -> None:
        """What came while a call was open."""
        held, self._held = self._held, []
        for kind, pieces in held:
            self._say(kind, "".join(pieces), events)

    def _say(self, kind: str, text: str, events: list[Event]) -> None:
        if kind == "text":
            if self._open != "text" and text.isspace():
                self._blank.append(text)
                return
            if self._blank:
                text = "".join([*self._blank, text])
                self._blank.clear()
        if self._open != kind:
            self._enter(kind, events)
        if kind == "text":
            events.append(self._delta({"type": "text_delta", "text": text}))
            return
        self._thinking.append(text)
        if self._shown == "shown":
            events.append(self._delta({"type": "thinking_delta", "thinking": text}))

    def _flush_text(self, events: list[Event]) -> None:
        """What waited for more: halves of pairs, and beginnings of stop sequences."""
        if self._halves["thinking"]:
            self._say("thinking", "\ufffd", events)
        text = "\ufffd" if self._halves["text"] else ""
        if self._cutter is not None:
            text = self._cutter.feed(text) + self._cutter.flush()
        if text:
            self._say("text", text, events)
        if self._blank and self._index < 0:  # there is nothing else to answer with
            self._enter("text", events)
            self._say("text", "", events)

    # --- calls ---

    def _send_calls(self, events: list[Event]) -> None:
        """Send what there is of the calls, in their order: the next one when one is whole."""
        calls = self.calls.calls
        while self._call_at < len(calls):
            call = calls[self._call_at]
            if not call.started and not call.begun:
                return
            self._send_call(call, events, last=False)
            if not call.complete:
                return
            self._call_at += 1

    def _send_call(self, call: Call, events: list[Event], *, last: bool) -> None:
        if call is not self._open:
            self._enter(call, events)
        if arguments := call.drain(last=last):
            events.append(self._delta({"type": "input_json_delta", "partial_json": arguments}))

    def _flush_calls(self, events: list[Event]) -> None:
        for call in self.calls.calls[self._call_at :]:
            if call.name or call.begun:
                self._send_call(call, events, last=True)
        self._call_at = len(self.calls.calls)

    # --- blocks ---

    def _enter(self, block: str | Call, events: list[Event]) -> None:
        if self._open == "text" and self._cutter is not None and (text := self._cutter.flush()):
            events.append(self._delta({"type": "text_delta", "text": text}))
        self._leave(events)
        if block != "thinking" and (redacted := redacted_thinking(self._sign, self._details.take())):
            self._insert(redacted, events)
        self._open = block
        self._index += 1
        events.append({"type": "content_block_start", "index": self._index, "content_block": self._skeleton(block)})

    def _leave(self, events: list[Event]) -> None:
        if self._open is None:
            return
        if self._open == "thinking":
            events.append(self._delta({"type": "signature_delta", "signature": self._signature()}))
        events.append({"type": "content_block_stop", "index": self._index})
        self._open = None

    def _signature(self) -> str:
        text = "".join(self._thinking)
        self._thinking.clear()
        return sign_thinking(self._sign, text, self._details.take(), self._shown)

    def _insert(self, block: dict[str, Any], events: list[Event]) -> None:
        self._index += 1
        events.append({"type": "content_block_start", "index": self._index, "content_block": block})
        events.append({"type": "content_block_stop", "index": self._index})

    def _skeleton(self, block: str | Call) -> dict[str, Any]:
        if not isinstance(block, Call):
            return dict(_SKELETONS[block])
        self.calls.start(block)
        return tool_use(block, self._restore, {})

    def _delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}
