"""What a client is told of the edits of its context: in the message, or in the event that tells its end."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson

from llama_stack_messages_provider.routing.state import RouteState
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode

__all__ = ["edited_events", "edited_message"]

Edits = list[dict[str, Any]]


def edited_message(message: dict[str, Any], applied: Edits | None) -> dict[str, Any]:
    """A whole message with its `context_management`; the same object where no edit was asked for."""
    if applied is None:
        return message
    return {**message, "context_management": {"applied_edits": applied}}


async def edited_events(events: AsyncGenerator[bytes], state: RouteState) -> AsyncGenerator[bytes]:
    """The events of a message, `message_delta` with its `context_management`.

    Args:
        events: Pieces of bytes, each ending at an event's end.
        state: Knows the edits, which a later call of the model within the message may renew.
    """
    decoder = SSEDecoder()
    async with aclosing(events):
        async for piece in events:
            if b"message_delta" not in piece:
                yield piece
                continue
            yield b"".join(_edited(each, state.applied_edits or []) for each in decoder.decode(piece))


def _edited(received: ServerSentEvent, applied: Edits) -> bytes:
    if received.event != b"message_delta":
        return received.frame()
    return encode({**orjson.loads(received.data), "context_management": {"applied_edits": applied}})
