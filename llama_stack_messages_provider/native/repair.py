"""Native streams that break the protocol, mended event by event; what breaks nothing comes out as it came in.

```
message := message_start block* message_delta+ message_stop      ping anywhere after message_start; error ends it
block   := content_block_start content_block_delta* content_block_stop      index 0, 1, 2, ...; one open at a time
```

Here is what is around the blocks: the start of the message, its deltas, its end, and errors. The blocks are mended in
`block_repair`.
"""

import orjson

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.native.block_repair import BlockRepair
from llama_stack_messages_provider.native.message import (
    Event,
    Sign,
    changed,
    complete,
    error_event,
    is_error,
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
        self._message_id = message_id
        self._model = model
        self._request_id = request_id
        self._blocks = BlockRepair(sign, message_id)
        self._json = JSONReader()
        self._output_tokens = 0
        self._closing = False
        self._reason = ""
        self._over = False
        self.started = False
        """Whether `message_start` was sent: from then on a ping may be."""
        self.finished = False
        """Whether the stream came to its end: `message_stop`, or an error. Otherwise the upstream cut it."""

    @property
    def lost(self) -> int:
        """How many deltas belonged to no block that is open, and could not begin one."""
        return self._blocks.lost

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
        block = None if self._over else self._blocks.open
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
        self._blocks.forget()
        return []

    # --- the message ---

    def _message_start(self, event: Event, out: list[Event]) -> None:
        if self.started:
            return
        self.started = True
        given = event.get("message") or {}
        message = complete(given, self._message_id, self._model)
        message = changed(message, {"stop_reason": None, "stop_sequence": None})
        self._blocks.message_id = message["id"]
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
            delta = with_reason(delta, self._reason or ("tool_use" if self._blocks.has_calls else "end_turn"))
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
        if not self.started:
            self._message_start({"type": "message_start"}, out)
        self._blocks.settle(out)

    def _block_event(self, event: Event, out: list[Event]) -> None:
        if self._closing:
            self._blocks.lost += event["type"] == "content_block_delta"
            return
        if not self.started:
            self._message_start({"type": "message_start"}, out)
        self._blocks.feed(event, out)
