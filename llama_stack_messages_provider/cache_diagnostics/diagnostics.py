"""Answers with `diagnostics`, for clients that name the message before."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from pydantic import ValidationError

from llama_stack_messages_provider.cache_diagnostics.fingerprint import (
    Fingerprint,
    cache_miss_reason,
    kept,
)
from llama_stack_messages_provider.cache_diagnostics.shared import SharedFingerprints
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
    """Remembers requests by the ids of their messages, each client's for itself.

    Args:
        shared: Where other replicas of the server find them too; None where there is no such place.
    """

    def __init__(self, shared: SharedFingerprints | None = None) -> None:
        self._requests: Remembered[Fingerprint] = Remembered(MAX_REMEMBERED)
        self._shared = shared

    async def compared(
        self, asked: Mapping[str, Any], request: Fingerprint, client: str, place: Callable[[], str]
    ) -> "Compared":
        """A request that asks for diagnostics, compared with the one that it names.

        Args:
            asked: Its `diagnostics`, checked.
            request: Its fingerprint, with every beginning of its messages.
            client: Whose it is; nobody is told anything of others' messages.
            place: Tells which replica it goes to, which may change until it has an answer.
        """
        named = asked.get("previous_message_id")
        previous = None if named is None else await self._known(client, named)
        reason = None if named is None else cache_miss_reason(previous, request)
        remember = partial(self._remember, client)
        return Compared(remember, kept(request), reason, previous.place if previous else None, place)

    async def _known(self, client: str, message_id: str) -> Fingerprint | None:
        known = self._requests.get((client, message_id))
        if known is None and self._shared is not None:
            return await self._shared.get(client, message_id)
        return known

    def _remember(self, client: str, message_id: str, request: Fingerprint) -> None:
        self._requests.replace((client, message_id), request, client)
        if self._shared is not None:
            self._shared.keep(client, message_id, request)

    async def close(self) -> None:
        """Close what is open."""
        if self._shared is not None:
            await self._shared.close()


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
        remember: Remembers it by its message's id.
        request: Its fingerprint.
        reason: Where it parts from the one before.
        previous_place: The replica that read the one before, where one is known.
        place: Tells which replica this one goes to.
    """

    def __init__(
        self,
        remember: Callable[[str, Fingerprint], None],
        request: Fingerprint,
        reason: dict[str, Any] | None,
        previous_place: str | None,
        place: Callable[[], str],
    ) -> None:
        self._remembers = remember
        self._request = request
        self._reason = reason
        self._previous_place = previous_place
        self._place = place

    @property
    def told(self) -> dict[str, Any] | None:
        """The answer's `diagnostics`."""
        if self._reason is None and self._previous_place not in (None, self._place()):
            return {"cache_miss_reason": {"type": "unavailable"}}  # it begins alike, in another replica's cache
        return None if self._reason is None else {"cache_miss_reason": self._reason}

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
            self._remembers(message_id, replace(self._request, place=self._place()))
