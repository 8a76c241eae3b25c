"""OpenAI chunks in, Anthropic events out: one state machine.

```
message := message_start block* message_delta message_stop
block   := content_block_start content_block_delta* content_block_stop      index 0, 1, 2, ...; one open at a time
```

The state is one field, `_open`: nothing, a text block, a thinking block, or a tool call. `_enter` and `_leave` are the
only places that emit a start and a stop.

| while open | text or reasoning comes | a fragment of the open call comes | a fragment of another call comes |
| --- | --- | --- | --- |
| nothing, text, thinking | its block (entered if it is not open) | - | the call is entered |
| a call | held until the calls are done | sent on | held until the open call is done |

A call is done when the upstream is: fragments may come back to any call until then, and one call must stay one block.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.translation.calls import Call, ToolCallAccumulator
from llama_stack_messages_provider.translation.reasons import (
    Stop,
    added_usage,
    finished_choice,
    stop_of,
    usage_in,
    usage_of,
)

__all__ = ["Event", "StreamTranslator", "ids_of_round", "message_skeleton", "reasoning_of", "text_of", "tool_use"]

Event = dict[str, Any]
Sign = Callable[[str], str]
Restore = Callable[[str], dict[str, Any]]

_TAIL = 4096


class StreamTranslator:
    """Feed it the chunks of one completion; it returns the events of one message.

    Args:
        message_id: Id of the message, `msg_...`.
        model: The name that the client used.
        sign: Makes a thinking block's signature from its text.
        stop_sequences: What the client asked to stop at.
        max_tokens: The limit that was sent, in tokens.
        restore: Gives the `name` and other fields of a `tool_use` block for a function's name, and another `type` for
            a tool that is run here.
        show_thinking: Whether thinking text is sent; without it the block is sent empty, with its signature.

    Attributes:
        started: Whether `message_start` has been sent.
        max_tokens: The limit of the current round, in tokens.
    """

    def __init__(
        self,
        message_id: str,
        model: str,
        *,
        sign: Sign = lambda _: "",
        stop_sequences: Sequence[str] = (),
        max_tokens: int | None = None,
        restore: Restore = lambda name: {"name": name},
        show_thinking: bool = True,
    ) -> None:
        self._message_id = message_id
        self._model = model
        self._sign = sign
        self._stop_sequences = stop_sequences
        self.max_tokens = max_tokens
        self._restore = restore
        self._show_thinking = show_thinking
        self._open: str | Call | None = None
        self._index = -1
        self._round = 0
        self._earlier: dict[str, Any] | None = None
        self._book = ToolCallAccumulator(ids_of_round(message_id, 0))
        self._held: list[tuple[str, str]] = []
        self._thinking: list[str] = []
        self._tail = ""
        self._usage: Mapping[str, Any] | None = None
        self._finish: Mapping[str, Any] | None = None
        self._refused = False
        self.started = False

    @property
    def finished(self) -> bool:
        """Whether the upstream has said why it stopped."""
        return self._finish is not None

    @property
    def usage(self) -> dict[str, Any]:
        """The usage so far, of all rounds, in Anthropic's terms."""
        usage = usage_of(self._usage)
        return added_usage(self._earlier, usage) if self._earlier else usage

    @property
    def stop(self) -> Stop:
        """Why the round ended.

        Raises:
            UpstreamError: The upstream said that it failed: there is no end to tell.
        """
        finish = self._finish or {}
        return stop_of(
            finish.get("finish_reason"),
            finish,
            calls=self._book,
            refused=self._refused,
            text_tail=self._tail,
            stop_sequences=self._stop_sequences,
            max_tokens=self.max_tokens,
            output_tokens=usage_of(self._usage)["output_tokens"],
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
            if delta := choice.get("delta"):
                self._delta(delta, events)
            if choice.get("finish_reason"):
                self._finish = finished_choice(choice, chunk)
        return events

    def end_round(self) -> list[Event]:
        """The events that end the upstream's turn: what was held, and the open block's stop."""
        events = self.start()
        self._flush_calls(events)
        self._leave(events)
        for kind, text in self._held:
            self._say(kind, text, events)
        self._leave(events)
        self._held = []
        return events

    def insert(self, block: dict[str, Any]) -> list[Event]:
        """The events of a block that is made here, between two rounds."""
        self._index += 1
        return [
            {"type": "content_block_start", "index": self._index, "content_block": block},
            {"type": "content_block_stop", "index": self._index},
        ]

    def next_round(self) -> None:
        """Be ready for the chunks of another completion, which go on with the same message."""
        self._earlier = self.usage
        self._round += 1
        self._book = ToolCallAccumulator(ids_of_round(self._message_id, self._round))
        self._tail, self._usage, self._finish, self._refused = "", None, None, False

    def close(self, stop: Stop | None = None, usage: Mapping[str, Any] | None = None) -> list[Event]:
        """The events that end the message: those of the round's end, `message_delta`, `message_stop`.

        Args:
            stop: Why it ended, if not as the upstream says.
            usage: What it cost, if it is more than tokens.

        Raises:
            UpstreamError: The upstream said that it failed: there is no end to tell.
        """
        stop = stop or self.stop
        events = self.end_round()
        events.append(
            {
                "type": "message_delta",
                "delta": {
                    "stop_reason": stop.reason,
                    "stop_sequence": stop.sequence,
                    "stop_details": stop.details,
                    "container": None,
                },
                "usage": dict(usage) if usage else self.usage,
            }
        )
        events.append({"type": "message_stop"})
        return events

    def _delta(self, delta: Mapping[str, Any], events: list[Event]) -> None:
        if reasoning := reasoning_of(delta):
            self._say_or_hold("thinking", reasoning, events)
        if text := text_of(delta):
            self._say_or_hold("text", text, events)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._refused = True
            self._say_or_hold("text", refusal, events)
        for fragment in delta.get("tool_calls") or ():
            self._call(fragment, events)

    def _say_or_hold(self, kind: str, text: str, events: list[Event]) -> None:
        if not isinstance(self._open, Call):
            self._say(kind, text, events)
        elif self._held and self._held[-1][0] == kind:
            self._held[-1] = (kind, self._held[-1][1] + text)
        else:
            self._held.append((kind, text))

    def _say(self, kind: str, text: str, events: list[Event]) -> None:
        if self._open != kind:
            self._enter(kind, events)
        if kind == "text":
            self._tail = (self._tail + text)[-_TAIL:] if self._stop_sequences else ""
            events.append(self._block_delta({"type": "text_delta", "text": text}))
            return
        self._thinking.append(text)
        if self._show_thinking:
            events.append(self._block_delta({"type": "thinking_delta", "thinking": text}))

    def _call(self, fragment: Mapping[str, Any], events: list[Event]) -> None:
        call = self._book.add(fragment)
        if not isinstance(self._open, Call) and call.buffered:
            self._enter(self._book.calls[0], events)
        if call is self._open and (arguments := call.take()):
            events.append(self._block_delta({"type": "input_json_delta", "partial_json": arguments}))

    def _flush_calls(self, events: list[Event]) -> None:
        for call in self._book.calls:
            if not call.started:
                self._enter(call, events)
            if arguments := call.take():
                events.append(self._block_delta({"type": "input_json_delta", "partial_json": arguments}))

    def _enter(self, block: str | Call, events: list[Event]) -> None:
        self._leave(events)
        self._open = block
        self._index += 1
        events.append({"type": "content_block_start", "index": self._index, "content_block": self._skeleton(block)})

    def _leave(self, events: list[Event]) -> None:
        if self._open is None:
            return
        if self._open == "thinking":
            signature = self._sign("".join(self._thinking))
            self._thinking.clear()
            events.append(self._block_delta({"type": "signature_delta", "signature": signature}))
        events.append({"type": "content_block_stop", "index": self._index})
        self._open = None

    def _skeleton(self, block: str | Call) -> dict[str, Any]:
        if block == "text":
            return {"type": "text", "text": "", "citations": None}
        if block == "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        assert isinstance(block, Call)
        block.started = True
        return tool_use(block, self._restore, {})

    def _block_delta(self, delta: dict[str, Any]) -> Event:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def message_skeleton(message_id: str, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    """A message before its content: what `message_start` carries. Null is written, as Anthropic does."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {"cache_creation": None, "inference_geo": None, "service_tier": None, **usage},
        "container": None,
    }


def ids_of_round(message_id: str, number: int) -> str:
    """What the ids of calls begin with where the upstream gives none."""
    return f"toolu_{message_id.removeprefix('msg_')}_" + (f"{number}_" if number else "")


def tool_use(call: Call, restore: Restore, arguments: dict[str, Any]) -> dict[str, Any]:
    """A call's block."""
    caller = {"type": "direct"}
    block = {"type": "tool_use", "id": call.id, **restore(call.name), "input": arguments, "caller": caller}
    if block["type"] == "server_tool_use":
        block["id"] = f"srv{call.own_id}"
    return block


def reasoning_of(delta: Mapping[str, Any]) -> str:
    """The reasoning text of a delta or message: `reasoning_content` (DeepSeek's name, most servers) or `reasoning`, or
    the `thinking` parts of Mistral's content.
    """
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := delta.get(key), str) and text:
            return text
    parts = content if isinstance(content := delta.get("content"), list) else ()
    return "".join(_joined(part.get("thinking")) for part in parts if isinstance(part, Mapping))


def text_of(delta: Mapping[str, Any]) -> str:
    """The text of a delta or message: its content, or the `text` parts of Mistral's."""
    return _joined(delta.get("content"))


def _joined(content: Any) -> str:
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in content if isinstance(part, Mapping)) if isinstance(content, list) else ()
    return "".join(text for text in texts if isinstance(text, str))
