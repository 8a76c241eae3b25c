"""Summaries of conversations that have become too long, and messages that go on from them."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.loop import TranslateInsteadError
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.rewriting import RewriteOptions, rewrite_native
from llama_stack_messages_provider.rewriting.compaction import (
    continued,
    summary_of,
    summary_request,
    tool_changes,
    without_compaction,
)
from llama_stack_messages_provider.rewriting.context_edits import Compact
from llama_stack_messages_provider.routing.state import RouteState
from llama_stack_messages_provider.server_tools.usage import iteration
from llama_stack_messages_provider.translation.answer import message_skeleton
from llama_stack_messages_provider.translation.reasons import usage_of
from llama_stack_messages_provider.upstream.messages import NativeMissingError
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode, encode_all
from llama_stack_messages_provider.wire.token_estimate import estimated_tokens

__all__ = ["Call", "Compacted", "compact_conversation", "is_due"]

logger = get_logger(name=__name__, category="providers")

type Call = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Asks a model for a message."""

# Where nothing is said: Anthropic's own, and what leaves a small window room for a summary.
_TRIGGER, _WINDOW_PART = 150_000, 0.7
_SUMMARY_TOKENS, _SUMMARY_PART = 4096, 8


def is_due(compact: Compact, request: Mapping[str, Any], window: int | None, bytes_per_token: float) -> bool:
    """Whether a conversation is to be summarised now.

    Args:
        compact: What the client asks for.
        request: Its request.
        window: The model's, in tokens, if it is known.
        bytes_per_token: The model's.
    """
    if compact.always:
        return True
    trigger = compact.trigger or min(_TRIGGER, int(window * _WINDOW_PART) if window else _TRIGGER)
    options = RewriteOptions(bytes_per_token=bytes_per_token)
    edited = rewrite_native(
        request, marked=("context_edits",), lacks=frozenset(), options=options, dropped=DroppedFields()
    )
    return estimated_tokens(edited.request, bytes_per_token) >= trigger


async def compact_conversation(
    compact: Compact, request: dict[str, Any], state: RouteState, call: Call, sign: Callable[[str], str]
) -> "Compacted":
    """The summary of a conversation; one that cannot be made is a block without content.

    Args:
        compact: What the client asks for.
        request: Its request, prepared.
        state: The way that it goes.
        call: Asks the model for a message.
        sign: Makes the signature of a summary.
    """
    window = state.plan.window
    most = min(_SUMMARY_TOKENS, window // _SUMMARY_PART) if window else _SUMMARY_TOKENS
    summary, usage = None, usage_of(None)
    try:
        message = await call(summary_request(request, compact, most))
        summary, usage = summary_of(message), {**usage, **message["usage"]}
    except (NativeMissingError, TranslateInsteadError):  # it goes the other way, and is summarised there
        raise
    except MessagesError as exc:
        logger.warning("A conversation was not summarised", model=state.plan.target.identifier, error=exc.message)
    block: dict[str, Any] = {"type": "compaction", "content": summary, "encrypted_content": None}
    if summary is None:
        after = without_compaction(request)
    else:
        block["signature"] = sign(summary)
        block["tool_changes"] = tool_changes(request["messages"])
        after = continued(request, summary, block["tool_changes"])
    return Compacted(after, block, iteration(usage, "compaction", cache_creation=None), compact.pauses)


@dataclass(slots=True)
class Compacted:
    """A conversation that was summarised, and the message that goes on from it.

    Args:
        request: What the model goes on from.
        block: The summary, as the client gets it.
        iteration: What it cost, as an item of `usage.iterations`.
        pauses: Whether the message ends with the block.
    """

    request: dict[str, Any]
    block: dict[str, Any]
    iteration: dict[str, Any]
    pauses: bool
    _begun: bool = field(default=False, init=False)
    _usage: dict[str, Any] = field(default_factory=dict, init=False)

    # --- a message that ends with the summary ---

    def alone(self, message_id: str, model: str) -> dict[str, Any]:
        """The whole message."""
        message = message_skeleton(message_id, model, self._spent())
        return {**message, "content": [self.block], **self._stop()}

    async def events_alone(self, message_id: str, model: str, started: Callable[[], bool]) -> AsyncGenerator[bytes]:
        """The same as events.

        Args:
            message_id: Id of the message.
            model: The name that the client used.
            started: Whether `message_start` has been sent.
        """
        message = message_skeleton(message_id, model, usage_of(None))
        start = [] if started() else [{"type": "message_start", "message": message}]
        end: dict[str, Any] = {"type": "message_delta", "delta": self._stop(), "usage": self._spent()}
        yield encode_all([*start, *self._block_events(), end, {"type": "message_stop"}])

    def _spent(self) -> dict[str, Any]:
        """The usage of the summary is told apart."""
        return {**usage_of(None), "iterations": [self.iteration]}

    def _stop(self) -> dict[str, Any]:
        return {"stop_reason": "compaction", "stop_sequence": None, "stop_details": None}

    # --- a message that goes on ---

    def joined(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The message that the model went on with, behind the summary."""
        usage = self._with_iterations(message["usage"], message["usage"])
        return {**message, "content": [self.block, *message["content"]], "usage": usage}

    async def events(self, pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The same as events.

        Args:
            pieces: The model's, each ending at an event's end.
        """
        decoder = SSEDecoder()
        async with aclosing(pieces):
            async for piece in pieces:
                yield b"".join(map(self._event, decoder.decode(piece)))

    def _event(self, received: ServerSentEvent) -> bytes:
        if received.event in (b"ping", b"error"):
            return received.frame()
        event = orjson.loads(received.data)
        if event["type"] == "message_start":
            self._usage |= event["message"].get("usage") or {}
            return received.frame() + self._begin()
        if "index" in event:
            event["index"] += 1
        elif event["type"] == "message_delta":
            self._usage |= {name: value for name, value in event["usage"].items() if value is not None}
            event["usage"] = self._with_iterations(event["usage"], self._usage)
        return self._begin() + encode(event)

    def _begin(self) -> bytes:
        """The summary's block, before any other."""
        if self._begun:
            return b""
        self._begun = True
        return encode_all(self._block_events())

    def _block_events(self) -> list[dict[str, Any]]:
        delta = {"type": "compaction_delta", "content": self.block["content"], "encrypted_content": None}
        return [
            {"type": "content_block_start", "index": 0, "content_block": {**self.block, "content": None}},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
        ]

    def _with_iterations(self, usage: Mapping[str, Any], spent: Mapping[str, Any]) -> dict[str, Any]:
        others = usage.get("iterations") or [iteration(spent, cache_creation=None)]
        return {**usage, "iterations": [self.iteration, *others]}
