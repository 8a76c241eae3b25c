"""Requests with `max_tokens: 0`: their prompt is read into the engine's cache, and nothing is answered.

Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pre-warming-the-cache
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from llama_stack_messages_provider.routing.plan import Plan, is_first_party
from llama_stack_messages_provider.translation.reasons import usage_of
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode

__all__ = ["one_token", "warmed_events", "warmed_message", "warms_up"]


_STOP = {"stop_reason": "max_tokens", "stop_sequence": None}


def warms_up(request: Mapping[str, Any], plan: Plan) -> bool:
    """Whether a prompt is only to be read, by an engine that does not know how to do that."""
    return request.get("max_tokens") == 0 and not is_first_party(plan)


def one_token(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request that is sent: engines refuse 0, and some take it for no limit."""
    return {**request, "max_tokens": 1}


def warmed_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """The answer without what the model was made to say."""
    return {**message, "content": [], **_stop(message), "usage": _unsaid(message.get("usage"))}


async def warmed_events(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The events of a message without those of its blocks.

    Args:
        pieces: The model's, each ending at an event's end.
    """
    decoder = SSEDecoder()
    async with aclosing(pieces):
        async for piece in pieces:
            if left := b"".join(map(_warmed, decoder.decode(piece))):
                yield left


def _warmed(received: ServerSentEvent) -> bytes:
    if (received.event or b"").startswith(b"content_block"):
        return b""
    if received.event != b"message_delta":
        return received.frame()
    event = orjson.loads(received.data)
    delta = event.get("delta") or {}
    return encode({**event, "delta": {**delta, **_stop(delta)}, "usage": _unsaid(event.get("usage"))})


def _stop(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """How it ends: as it was to, unless it was refused."""
    return {} if said.get("stop_reason") == "refusal" else _STOP


def _unsaid(usage: Any) -> dict[str, Any]:
    return {**(usage if isinstance(usage, Mapping) else usage_of(None)), "output_tokens": 0}
