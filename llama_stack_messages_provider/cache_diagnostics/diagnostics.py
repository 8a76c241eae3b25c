"""Answers with `diagnostics`, for clients that name the message before."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from pydantic import ValidationError

from llama_stack_messages_provider.cache_diagnostics.fingerprint import (
    Fingerprint,
    cache_miss_reason,
    kept,
)
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.remembered import Remembered
from llama_stack_messages_provider.wire.base import describe
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode
from llama_stack_messages_provider.wire.types import wire_type

__all__ = ["FIELD", "MAX_REMEMBERED", "CacheDiagnostics", "Compared", "asked_of"]

FIELD = "diagnostics"
MAX_REMEMBERED = 4096
"""Messages whose requests are remembered, of all clients; some 4 kB each."""

_PARAM = wire_type("DiagnosticsParam")


class CacheDiagnostics:
    """Remembers requests by the ids of their messages, each client's for itself."""

    def __init__(self) -> None:
        self._requests: Remembered[Fingerprint] = Remembered(MAX_REMEMBERED)

    def compared(self, asked: Mapping[str, Any], request: Fingerprint, client: str) -> "Compared":
        """A request that asks for diagnostics, compared with the one that it names.

        Args:
            asked: Its `diagnostics`, checked.
            request: Its fingerprint, with every beginning of its messages.
            client: Whose it is; nobody is told anything of others' messages.
        """
        reason, previous = None, asked.get("previous_message_id")
        if previous is not None:
            reason = cache_miss_reason(self._requests.get((client, previous)), request)
        told = None if reason is None else {"cache_miss_reason": reason}
        return Compared(self._requests, kept(request), client, told)


def asked_of(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The `diagnostics` of a request; None if it asks for none.

    Raises:
        InvalidRequestError: They are not as documented.
    """
    if (asked := request.get(FIELD)) is None:
        return None
    try:
        _PARAM.model_validate(asked)
    except ValidationError as exc:
        raise InvalidRequestError(f"{FIELD}.{describe(exc)}") from exc
    return dict(asked)


class Compared:
    """What is told of a request's cache, and its place among those that are remembered.

    Args:
        requests: Where it is remembered once its message has an id.
        request: Its fingerprint.
        client: Whose it is.
        told: The answer's `diagnostics`.
    """

    def __init__(
        self, requests: Remembered[Fingerprint], request: Fingerprint, client: str, told: dict[str, Any] | None
    ) -> None:
        self._requests = requests
        self._request = request
        self._client = client
        self.told = told

    def message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A whole message with its diagnostics."""
        self._remember(message.get("id"))
        return {**message, FIELD: self.told}

    async def events(self, events: AsyncGenerator[bytes], start: LateMessageStart) -> AsyncGenerator[bytes]:
        """The events of a message, `message_start` with its diagnostics.

        Args:
            events: Pieces of bytes, each ending at an event's end.
            start: Whether `message_start` was sent before the upstream said anything; then it tells them itself.
        """
        waits = True
        async with aclosing(events):
            async for piece in events:
                if waits and start.sent:
                    self._remember(start.message_id)
                    waits = False
                elif waits and b"message_start" in piece:
                    waits = False
                    yield b"".join(map(self._started, SSEDecoder().decode(piece)))
                    continue
                yield piece

    def _started(self, received: ServerSentEvent) -> bytes:
        if received.event != b"message_start":
            return received.frame()
        event = orjson.loads(received.data)
        return encode({**event, "message": self.message(event.get("message") or {})})

    def _remember(self, message_id: object) -> None:
        if isinstance(message_id, str):
            self._requests.replace((self._client, message_id), self._request, self._client)
