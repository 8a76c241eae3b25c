"""One message of several models: what those said that refused, and what the one said that answered.

A `fallback` block stands where one model's output gives way to the next one's, for each model that ran and refused; a
model that could not be asked leaves none. What each cost stands in `usage.iterations`, the one that answered last, as
`fallback_message`. The usage of the message is that of the model that answered.

Source: `BetaFallbackBlock` and `BetaFallbackMessageIterationUsage` of `anthropic.types.beta`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import from_event, malformed_upstream_errors
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.fallbacks.reasons import reason_of
from llama_stack_messages_provider.routing.chain import Chain
from llama_stack_messages_provider.server_tools.usage import iteration
from llama_stack_messages_provider.wire.sse import ServerSentEvent, encode, encode_all

__all__ = ["JoinedEvents", "JoinedMessage"]

type Block = dict[str, Any]

_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class _Joined:
    """What both forms of a message have in common.

    Args:
        chain: The models.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._left = len(chain.fallbacks) + 1
        self._model = chain.requested
        self._iterations: list[dict[str, Any]] = []
        self._seam: Block | None = None
        self._is_marked = False
        self._fallen_back = False

    def begin(self, model: str) -> None:
        """The next model is asked.

        Args:
            model: Its identifier; the client's name of the first one.
        """
        self._left -= 1
        self._model = model
        self._fallen_back = model is not self._chain.requested

    def _hands_over(self, *, said: bool) -> bool:
        """Whether a model that refused is followed by another. Output before it needs a mark that the client knows."""
        return self._left > 0 and not self._chain.ended and (self._chain.marks or not said)

    def _decline(self, usage: Mapping[str, Any], details: Any) -> None:
        """The model refused, and another is asked."""
        reported = usage.get("iterations")
        if isinstance(reported, list) and reported:
            only = {"model": self._model} if len(reported) == 1 else {}
            self._iterations += ({**only, **each, "type": _declined(each)} for each in reported)
        else:
            self._iterations.append(iteration(usage, model=self._model))
        category = details.get("category") if isinstance(details, Mapping) else None
        trigger = {"type": "refusal", "category": category}
        if self._chain.marks:
            self._seam = {"type": "fallback", "from": {"model": self._model}, "trigger": trigger}

    def _take_seam(self) -> list[Block]:
        """The block before the first of a model's own, where one is due."""
        seam, self._seam = self._seam, None
        if seam is None:
            return []
        self._is_marked = True
        return [{**seam, "to": {"model": self._model}}]

    def _with_iterations(self, usage: Mapping[str, Any]) -> dict[str, Any]:
        """The usage of a model that answered, with what all cost."""
        if not (self._fallen_back or self._iterations):
            return dict(usage)
        reported = usage.get("iterations")
        own = list(reported) if isinstance(reported, list) and reported else [iteration(usage)]
        if self._fallen_back:
            last = max((n for n, each in enumerate(own) if each.get("type") == "message"), default=len(own) - 1)
            own[last] = {**own[last], "type": "fallback_message", "model": self._model}
        return {**usage, "iterations": [*self._iterations, *own]}


def _declined(entry: Mapping[str, Any]) -> Any:
    kind = entry.get("type")
    return "message" if kind == "fallback_message" else kind


class JoinedMessage(_Joined):
    """A whole message."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self._content: list[Block] = []
        self._first_id: Any = None
        self._last: dict[str, Any] = {}

    def add(self, message: Mapping[str, Any]) -> bool:
        """Take the answer of a model; whether it is the message's end."""
        self._content += [*self._take_seam(), *message["content"]]
        self._first_id = self._first_id or message.get("id")
        self._last = {**message, "model": self._model if self._is_marked else self._chain.requested}
        usage = message.get("usage") or {}
        if message.get("stop_reason") != "refusal" or not self._hands_over(said=bool(message["content"])):
            self._last["usage"] = self._with_iterations(usage)
            return True
        self._decline(usage, message.get("stop_details"))
        self._last["usage"] = {**usage, "iterations": [*self._iterations]}
        return False

    @property
    def refused(self) -> bool:
        """Whether a model has refused: the message, if no other can be asked."""
        return bool(self._last)

    def message(self) -> dict[str, Any]:
        """The message."""
        return {**self._last, "id": self._first_id, "content": self._content}


class JoinedEvents(_Joined):
    """The events of a message.

    Attributes:
        started: Whether it has begun.
        said: Whether the model that is asked now has said something.
        declined: Whether it has refused, and another is to be asked.
        failure: Why another is to be asked, if it failed before it said anything.
    """

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self.started = False
        self.said = self.declined = False
        self.failure: MessagesError | None = None
        self._before = self._blocks = 0
        self._usage: dict[str, Any] = {}
        self._end: dict[str, Any] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether no other model can be asked, whatever the one says that is asked now."""
        return self.said and not self._hands_over(said=True)

    def begin(self, model: str) -> None:
        super().begin(model)
        self.said = self.declined = False
        self.failure = None
        self._before, self._usage = self._blocks, {}

    def take(self, received: Iterable[ServerSentEvent]) -> bytes:
        """Take events of the model; those that the client gets."""
        sent = []
        for event in received:
            if self.declined or self.failure:
                break
            sent.append(self._taken(event))
        return b"".join(sent)

    def _taken(self, received: ServerSentEvent) -> bytes:
        if received.event in (b"ping", b"message_stop"):
            return received.frame()
        with malformed_upstream_errors(received.data, "an event of a message"):
            event = orjson.loads(received.data)
            match event.get("type"):
                case "error":
                    return self._error(received, event)
                case "message_start":
                    return self._start(received, event)
                case "message_delta":
                    return self._stop(received, event)
                case "content_block_start":
                    return self._block(received, event)
        if self._before and "index" in event:
            return encode({**event, "index": event["index"] + self._before})
        return received.frame()

    def _start(self, received: ServerSentEvent, event: dict[str, Any]) -> bytes:
        self.started = True
        self._usage = dict(event["message"].get("usage") or {})
        if not self._fallen_back:
            return received.frame()
        return encode({**event, "message": {**event["message"], "model": self._chain.requested}})

    def _block(self, received: ServerSentEvent, event: dict[str, Any]) -> bytes:
        self.said = True
        before = self._seam_events()
        self._blocks += 1
        if not self._before:
            return received.frame()
        return before + encode({**event, "index": event["index"] + self._before})

    def _seam_events(self) -> bytes:
        seams = self._take_seam()
        for _ in seams:
            self._before += 1
            self._blocks += 1
        index = self._blocks - 1
        return encode_all(
            each
            for seam in seams
            for each in (
                {"type": "content_block_start", "index": index, "content_block": seam},
                {"type": "content_block_stop", "index": index},
            )
        )

    def _stop(self, received: ServerSentEvent, event: dict[str, Any]) -> bytes:
        usage, delta = event.get("usage") or {}, event.get("delta") or {}
        spent = {**self._usage, **{name: value for name, value in usage.items() if value is not None}}
        if delta.get("stop_reason") == "refusal" and self._hands_over(said=self.said):
            self.declined = True
            marked = self._seam_events()
            self._decline(spent, delta.get("stop_details"))
            self._end = {**event, "usage": {**usage, "iterations": [*self._iterations]}}
            return marked
        if not (self._fallen_back or self._iterations):
            return received.frame()
        # The client has the numbers of another model's beginning.
        told = {**usage, **{name: spent.get(name) or 0 for name in _INPUT}}
        told["iterations"] = self._with_iterations(spent)["iterations"]
        return self._seam_events() + encode({**event, "usage": told})

    def _error(self, received: ServerSentEvent, event: dict[str, Any]) -> bytes:
        failure = from_event(event)
        if self.said or not (self._fallen_back or reason_of(failure)):
            return received.frame()
        self.failure = failure
        return b""

    def refusal(self) -> bytes | None:
        """The end of the message, if a model has refused and no other can be asked."""
        return encode_all([self._end, {"type": "message_stop"}]) if self._end else None
