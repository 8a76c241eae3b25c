"""Messages passed through to an upstream that speaks the Messages API."""

import re
from collections.abc import AsyncGenerator, Mapping

import orjson
from aiohttp import ClientResponse
from llama_stack.log import get_logger

from llama_stack_messages_provider.api.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.sse import PING, ServerSentEvent, SSEDecoder
from llama_stack_messages_provider.start import Start
from llama_stack_messages_provider.translate.errors import from_event, not_understood
from llama_stack_messages_provider.translate.gaps import PATCHES, REPAIRED, Engine
from llama_stack_messages_provider.translate.native import with_model
from llama_stack_messages_provider.translate.relay import Relay
from llama_stack_messages_provider.translate.repair import StreamRepair, repair_message
from llama_stack_messages_provider.translate.signatures import Signer
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.probe import is_envelope
from llama_stack_messages_provider.upstream.sessions import Answer, Limits, Sessions, linger, parsed, pieces, refusal

__all__ = ["NativeMessages", "NativeMissingError", "renamed"]

logger = get_logger(name=__name__, category="providers")

_EARLY_END = "The upstream's stream ended before its message did"
_MISSING = frozenset({404, 405, 501})
_SIGNS_OF_LIFE = re.compile(rb"(?::[^\n]*\n|event: ?ping\r?\ndata:[^\n]*\n|\r?\n)*")


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
                raise not_understood(b"".join([p async for p in source]), "a stream of events")
            if engine in REPAIRED:
                repair = StreamRepair(
                    sign, message_id=start.message_id, model=client_model, request_id=start.request_id
                )
                events = _repaired(source, response, repair)
            else:
                patches = PATCHES.get(engine, ())
                relay = Relay(client_model, ping=PING, patches=patches, request_id=start.request_id)
                events = _relayed(source, response, relay)
            async for piece in events:
                yield start.merged(piece) if start.sent else piece
        finally:
            await source.aclose()
            response.close()  # a generator that was never begun has closed nothing


async def _relayed(source: AsyncGenerator[bytes], response: ClientResponse, relay: Relay) -> AsyncGenerator[bytes]:
    try:
        async for data in source:
            piece = relay.feed(data)
            if not relay.started and _says_nothing(piece, ended=relay.ended):
                continue
            if piece:
                yield piece
            if (b"message_stop" in piece or b"event: error" in piece) and relay.ended:
                linger(response)
    except MessagesError:
        if not (relay.started and relay.ended):
            raise
    if piece := relay.close():
        yield piece
    if not relay.ended:
        raise UpstreamError(_EARLY_END)


def _says_nothing(piece: bytes, *, ended: bool) -> bool:
    """Whether what comes before `message_start` is only a sign of life, which no client may see yet.

    Raises:
        MessagesError: It is the upstream's error, which can still become a status.
    """
    if ended:
        raise _first_error(piece)
    return _SIGNS_OF_LIFE.fullmatch(piece) is not None


async def _repaired(
    source: AsyncGenerator[bytes], response: ClientResponse, repair: StreamRepair
) -> AsyncGenerator[bytes]:
    decoder = SSEDecoder()
    try:
        async for data in source:
            if piece := _mend(repair, decoder.decode(data)):
                yield piece
            if repair.finished:
                linger(response)
    except MessagesError:
        if not (repair.started and repair.finished):
            raise
    if piece := _mend(repair, decoder.flush()):
        yield piece
    if repair.lost:
        logger.warning("Parts of a native stream belonged to no block", lost=repair.lost)
    if not repair.finished:
        raise UpstreamError(_EARLY_END)


def _mend(repair: StreamRepair, received: list[ServerSentEvent]) -> bytes:
    """The events that come of those received; bytes that need no mending stay as they are.

    Raises:
        MessagesError: The upstream's error before it began its message: it can still become a status.
    """
    out = b"".join(map(repair.mended, received))
    if repair.started:
        return out
    if repair.finished:
        raise _first_error(out)
    return b""


def _first_error(piece: bytes) -> MessagesError:
    return from_event(parsed(SSEDecoder().decode(piece)[-1].data))


def renamed(answer: Answer, client_model: str, engine: Engine, sign: Signer) -> bytes:
    """A whole message with the client's name of the model, mended where the engine's are broken."""
    message = answer.json()
    if not isinstance(message, dict) or message.get("type") != "message":
        raise not_understood(answer.body, "a message")
    if engine in REPAIRED or "stop_sequence" not in message:  # vLLM leaves out what is null
        return orjson.dumps(repair_message(message, sign, model=client_model))
    return with_model(answer.body, message, client_model)


def _refusal(answer: Answer) -> MessagesError:
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    if answer.status in _MISSING and not is_envelope(body, error):
        return NativeMissingError(f"The upstream has no Messages endpoint ({answer.status})")
    return refusal(answer)
