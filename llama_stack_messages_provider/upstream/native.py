"""Messages passed through to an upstream that speaks the Messages API."""

from collections.abc import AsyncGenerator, Mapping

import orjson

from llama_stack_messages_provider.api.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.sse import PING, ServerSentEvent, SSEDecoder, encode, encode_all
from llama_stack_messages_provider.start import Start
from llama_stack_messages_provider.translate.errors import from_event, from_status
from llama_stack_messages_provider.translate.gaps import REPAIRED, Engine
from llama_stack_messages_provider.translate.relay import Relay
from llama_stack_messages_provider.translate.repair import StreamRepair, repair_message
from llama_stack_messages_provider.translate.signatures import Signer
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.probe import is_envelope
from llama_stack_messages_provider.upstream.sessions import Answer, Limits, Sessions, parsed, pieces

__all__ = ["NativeMessages", "NativeMissingError", "renamed"]

_EARLY_END = "The upstream's stream ended before its message did"
_MISSING = frozenset({404, 405, 501})


class NativeMissingError(UpstreamError):
    """The upstream has no such endpoint, whatever it said before."""


class NativeMessages:
    """Sends requests to `/v1/messages` of native upstreams."""

    def __init__(self, sessions: Sessions, limits: Limits) -> None:
        self._sessions = sessions
        self._limits = limits

    async def complete(
        self,
        endpoint: Endpoint,
        body: bytes,
        headers: Mapping[str, str],
        *,
        path: str = "/v1/messages",
    ) -> Answer:
        """A whole answer with status 200.

        Raises:
            NativeMissingError: There is no such endpoint.
            MessagesError: The upstream's refusal or failure.
        """
        answer = await self._sessions.fetch(
            "POST", f"{endpoint.root}{path}", endpoint, self._limits, headers=headers, data=body
        )
        if answer.status != 200:
            raise _refusal(answer)
        return answer

    async def stream(
        self,
        endpoint: Endpoint,
        body: bytes,
        headers: Mapping[str, str],
        *,
        engine: Engine,
        client_model: str,
        sign: Signer,
        start: Start,
    ) -> AsyncGenerator[bytes]:
        """The events of a streamed message, each piece ending at an event's end.

        Raises:
            NativeMissingError, MessagesError: As `complete`, before the first piece. Later failures too, for the
                caller to tell in the stream.
        """
        response = await self._sessions.open(
            "POST", f"{endpoint.root}/v1/messages", endpoint, self._limits, headers=headers, data=body
        )
        source = pieces(response, self._limits)
        try:
            if response.status != 200:
                raise _refusal(Answer(response.status, response.headers, b"".join([p async for p in source])))
            if not response.content_type.startswith("text/event-stream"):
                raise UpstreamError("The upstream's answer is not a stream of events")
            events = (
                _repaired(source, StreamRepair(sign, message_id=start.message_id, model=client_model), start)
                if engine in REPAIRED
                else _relayed(source, client_model, start)
            )
            async for piece in events:
                yield piece
        finally:
            await source.aclose()


async def _relayed(source: AsyncGenerator[bytes], model: str | None, start: Start) -> AsyncGenerator[bytes]:
    relay = Relay(model, ping=PING)
    begun = False
    async for data in source:
        if piece := relay.feed(data):
            if start.sent and not begun and relay.started:
                piece = _without_start(piece)
            begun = relay.started
            yield piece if b"event: error" not in piece else _mended_errors(piece)
    if piece := relay.close():
        yield piece
    if not relay.ended:
        raise UpstreamError(_EARLY_END)


async def _repaired(source: AsyncGenerator[bytes], repair: StreamRepair, start: Start) -> AsyncGenerator[bytes]:
    decoder = SSEDecoder()
    async for data in source:
        if piece := _mend(repair, decoder.decode(data), start):
            yield piece
    if piece := _mend(repair, decoder.flush(), start):
        yield piece
    if not repair.finished:
        raise UpstreamError(_EARLY_END)


def _mend(repair: StreamRepair, received: list[ServerSentEvent], start: Start) -> bytes:
    bodies = ((parsed(event.data), event.event.decode(errors="replace")) for event in received)
    events = [event for body, name in bodies if isinstance(body, dict) for event in repair.feed(body, name)]
    if start.sent and events and events[0]["type"] == "message_start":
        events = events[1:]
    return encode_all(events)


def _without_start(piece: bytes) -> bytes:
    """A first piece without its `message_start`, which was sent already."""
    end = piece.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in piece else piece.find(b"\n\n") + 2
    return piece[end:] if b"message_start" in piece[:end] else piece


def _mended_errors(piece: bytes) -> bytes:
    # Engines have error types of their own, which SDKs do not know.
    return b"".join(
        _mended(event) + b"\n\n" for event in piece.replace(b"\r\n", b"\n").split(b"\n\n") if event
    )


def _mended(event: bytes) -> bytes:
    if not event.startswith(b"event: error"):
        return event
    error = from_event(parsed(event.partition(b"data:")[2]))
    return encode(error.body()).removesuffix(b"\n\n")


def renamed(answer: Answer, client_model: str, engine: Engine, sign: Signer) -> bytes:
    """A whole message with the client's name of the model, mended where the engine's are broken."""
    message = answer.json()
    if not isinstance(message, dict) or message.get("type") != "message":
        raise UpstreamError("The upstream's answer is not a message")
    if engine in REPAIRED:
        message = repair_message(message, sign)
    elif message.get("model") == client_model:
        return answer.body
    return orjson.dumps({**message, "model": client_model})


def _refusal(answer: Answer) -> MessagesError:
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    if answer.status in _MISSING and not is_envelope(body, error):
        return NativeMissingError(f"The upstream has no Messages endpoint ({answer.status})")
    return from_status(answer.status, answer.headers, answer.body if body is None else body)
