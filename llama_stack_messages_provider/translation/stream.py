"""OpenAI chunks in, Anthropic events out: one state machine.

```
message := message_start block* message_delta message_stop
block   := content_block_start content_block_delta* content_block_stop      index 0, 1, 2, ...; one open at a time
```

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
    message_skeleton,
    model_of,
    redacted_thinking,
    sign_thinking,
    tool_use,
    unsigned,
)
from llama_stack_messages_provider.translation.calls import Call, ToolCallAccumulator
from llama_stack_messages_provider.translation.reasoning import ReasoningDetails, reasoning_of, text_of
from llama_stack_messages_provider.translation.reasons import (
    Stop,
    finished_choice,
    stop_of,
    usage_in,
    usage_of,
)
from llama_stack_messages_provider.translation.text import StopCutter, join_halves

__all__ = ["Event", "StreamTranslator"]

Event = dict[str, Any]

_SKELETONS: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": "", "citations": None},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class StreamTranslator:
    """Feed it the chunks of one completion; it returns the events of one message.

    Args:
        message_id: Id of the message, `msg_...`.
        model: The name that the client used.
        sign: Makes a thinking block's signature from its text.
        stop_sequences: What the client asked to stop at; text is cut there if the upstream goes on.
        max_tokens: The limit that was sent, in tokens.
        window: The model's context window in tokens, if it is known.
        restore: Gives the `name` and other fields of a `tool_use` block for a function's name.
        thinking: Whether thinking is sent.

    Attributes:
        started: Whether `message_start` has been sent.
    """

    def __init__(
        self,
        message_id: str,
        model: str,
        *,
        sign: Sign = unsigned,
        stop_sequences: Sequence[str] = (),
        max_tokens: int | None = None,
        window: int | None = None,
        restore: Restore = lambda name: {"name": name},
        thinking: Thinking = "shown",
    ) -> None:
        self._message_id = message_id
        self._model = model
        self._sign = sign
        self._stop_sequences = stop_sequences
        self.max_tokens = max_tokens
        self._window = window
        self._restore = restore
        self._shown = thinking
        self._open: str | Call | None = None
        self._index = -1
        self.started = False
        self._calls = ToolCallAccumulator(call_id_prefix(message_id), model_of(sign))
        self._call_at = 0
        self._cutter = StopCutter(self._stop_sequences) if self._stop_sequences else None
        self._held: list[tuple[str, list[str]]] = []
        self._thinking: list[str] = []
        self._details = ReasoningDetails()
        self._blank: list[str] = []
        self._halves = {"text": "", "thinking": ""}
        self._usage: Mapping[str, Any] | None = None
        self._finish: Mapping[str, Any] | None = None
        self._refused = False

    @property
    def finished(self) -> bool:
        """Whether the upstream has said why it stopped."""
        return self._finish is not None

    @property
    def cut(self) -> bool:
        """Whether a stop sequence was met in the text: what the upstream still says reaches nobody."""
        return self._cutter is not None and self._cutter.found is not None

    @property
    def usage(self) -> dict[str, Any]:
        """The usage so far, in Anthropic's terms."""
        return usage_of(self._usage)

    @property
    def stop(self) -> Stop:
        """Why the message ended.

        Raises:
            UpstreamError: The upstream said that it failed: there is no end to tell.
        """
        finish = self._finish or {}
        return stop_of(
            finish.get("finish_reason"),
            finish,
            calls=self._calls,
            refused=self._refused,
            cut=self._cutter.found if self._cutter is not None else None,
            stop_sequences=self._stop_sequences,
            max_tokens=self.max_tokens,
            window=self._window,
            usage=self.usage,
        )

    def start(self) -> list[Event]:
        """`message_start`, unless it was sent: for a client that has waited long enough."""
        if self.started:
            return []
        self.started = True
        message = message_skeleton(self._message_id, self._model, usage_of(self._usage))
        return [{"type": "message_start", "message": message}]

    def feed(self, chunk: Mapping[str, Any]) -> list[Event]:
        """The events that a chunk makes; reasoning before text before calls, where it carries several."""
        if usage := usage_in(chunk):
            self._usage = usage
        events = [] if self.started else self.start()
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0):  # `n` is never asked for: a second choice belongs to nobody
                continue
            if (delta := choice.get("delta")) and (self._cutter is None or self._cutter.found is None):
                self._delta(delta, events)
            if choice.get("finish_reason"):
                self._finish = finished_choice(choice, chunk)
        return events

    def close(self) -> list[Event]:
        """The events that end the message: what was held, the open block's stop, `message_delta`, `message_stop`.

        Raises as `stop` does.
        """
        stop = self.stop
        events = self.start()
        self._flush_calls(events)
        self._say_held(events)
        self._flush_text(events)
        self._leave(events)
        if self._calls and (block := redacted_thinking(self._sign, self._details.take())):
            self._insert(block, events)
        events.append({"type": "message_delta", "delta": {**stop.fields, "container": None}, "usage": self.usage})
        return [*events, {"type": "message_stop"}]

    def _delta(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        if self._shown != "hidden":
            self._details.add(delta)
            if reasoning := reasoning_of(delta):
                self._piece("thinking", reasoning, events)
        if text := text_of(delta):
            self._piece("text", text, events)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._refused = True
            self._piece("text", refusal, events)
        if (fragments := delta.get("tool_calls")) and not self.cut:
            for fragment in fragments:
                self._calls.add(fragment)
            self._send_calls(events)

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
            events.append(self._block_delta({"type": "text_delta", "text": text}))
            return
        self._thinking.append(text)
        if self._shown == "shown":
            events.append(self._block_delta({"type": "thinking_delta", "thinking": text}))

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

    def _send_calls(self, events: list[Event]) -> None:
        """Send what there is of the calls, in their order: the next one when one is whole."""
        calls = self._calls.calls
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
            events.append(self._block_delta({"type": "input_json_delta", "partial_json": arguments}))

    def _flush_calls(self, events: list[Event]) -> None:
        for call in self._calls.calls[self._call_at :]:
            if call.name or call.begun:
                self._send_call(call, events, last=True)
        self._call_at = len(self._calls.calls)

    def _enter(self, block: str | Call, events: list[Event]) -> None:
        if self._open == "text" and self._cutter is not None and (text := self._cutter.flush()):
            events.append(self._block_delta({"type": "text_delta", "text": text}))
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
            events.append(self._block_delta({"type": "signature_delta", "signature": self._signature()}))
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
        self._calls.start(block)
        return tool_use(block, self._restore, {})

    def _block_delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}
