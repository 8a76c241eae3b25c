"""OpenAI chunks in, Anthropic events out: one state machine.

```
message := message_start block* message_delta message_stop
block   := content_block_start content_block_delta* content_block_stop      index 0, 1, 2, ...; one open at a time
```

Here is what is around the blocks: the start of the message, its usage, and why it ended. The blocks are made in
`stream_blocks`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.translation.answer import Restore, Sign, Thinking, message_skeleton, unsigned
from llama_stack_messages_provider.translation.reasons import (
    Stop,
    finished_choice,
    stop_of,
    usage_in,
    usage_of,
)
from llama_stack_messages_provider.translation.stream_blocks import Event, StreamBlocks

__all__ = ["Event", "StreamTranslator"]


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
        self._stop_sequences = stop_sequences
        self.max_tokens = max_tokens
        self._window = window
        self._blocks = StreamBlocks(
            message_id, sign=sign, stop_sequences=stop_sequences, restore=restore, thinking=thinking
        )
        self.started = False
        self._usage: Mapping[str, Any] | None = None
        self._finish: Mapping[str, Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether the upstream has said why it stopped."""
        return self._finish is not None

    @property
    def cut(self) -> bool:
        """Whether a stop sequence was met in the text: what the upstream still says reaches nobody."""
        return self._blocks.cut_at is not None

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
            calls=self._blocks.calls,
            refused=self._blocks.is_refused,
            cut=self._blocks.cut_at,
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
            if (delta := choice.get("delta")) and self._blocks.cut_at is None:
                self._blocks.feed(delta, events)
            if choice.get("finish_reason"):
                self._finish = finished_choice(choice, chunk)
        return events

    def close(self) -> list[Event]:
        """The events that end the message: what was held, the open block's stop, `message_delta`, `message_stop`.

        Raises as `stop` does.
        """
        stop = self.stop
        events = self.start()
        self._blocks.close(events)
        events.append({"type": "message_delta", "delta": {**stop.fields, "container": None}, "usage": self.usage})
        return [*events, {"type": "message_stop"}]
