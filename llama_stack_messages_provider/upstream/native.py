"""Messages passed through to an upstream that speaks the Messages API."""

from collections.abc import AsyncGenerator, Mapping

import orjson
from llama_stack.log import get_logger

from llama_stack_messages_provider.api.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.sse import PING, ServerSentEvent, SSEDecoder, encode_all
from llama_stack_messages_provider.start import Start
from llama_stack_messages_provider.translate.errors import from_status
from llama_stack_messages_provider.translate.gaps import PATCHES, REPAIRED, Engine
from llama_stack_messages_provider.translate.native import with_model
from llama_stack_messages_provider.translate.relay import Relay
from llama_stack_messages_provider.translate.repair import StreamRepair, repair_message
from llama_stack_messages_provider.translate.signatures import Signer
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.probe import is_envelope
from llama_stack_messages_provider.upstream.sessions import Answer, Limits, Sessions, parsed, pieces

__all__ = ["NativeMessages", "NativeMissingError", "renamed"]

logger = get_logger(name=__name__, category="providers")

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
            if engine in REPAIRED:
                repair = StreamRepair(
                    sign, message_id=start.message_id, model=client_model, request_id=start.request_id
                )
                events = _repaired(source, repair, start)
            else:
                patches = PATCHES.get(engine, ())
                relay = Relay(client_model, ping=PING, patches=patches, request_id=start.request_id)
                events = _relayed(source, relay, start)
            async for piece in events:
                yield piece
        finally:
            await source.aclose()


async def _relayed(source: AsyncGenerator[bytes], relay: Relay, start: Start) -> AsyncGenerator[bytes]:
    relay.start_sent = start.sent
    async for data in source:
        if piece := relay.feed(data):
            yield piece
    if piece := relay.close():
        yield piece
    if not relay.ended:
        raise UpstreamError(_EARLY_END)


async def _repaired(source: AsyncGenerator[bytes], repair: StreamRepair, start: Start) -> AsyncGenerator[bytes]:
    repair.started = start.sent
    decoder = SSEDecoder()
    async for data in source:
        if piece := _mend(repair, decoder.decode(data)):
            yield piece
    if piece := _mend(repair, decoder.flush()):
        yield piece
    if repair.lost:
        logger.warning("Parts of a native stream belonged to no block", lost=repair.lost)
    if not repair.finished:
        raise UpstreamError(_EARLY_END)


def _mend(repair: StreamRepair, received: list[ServerSentEvent]) -> bytes:
    bodies = ((parsed(event.data), event.event.decode(errors="replace")) for event in received)
    return encode_all(
        event for body, name in bodies if isinstance(body, dict) for event in repair.feed(body, name)
    )


def renamed(answer: Answer, client_model: str, engine: Engine, sign: Signer) -> bytes:
    """A whole message with the client's name of the model, mended where the engine's are broken."""
    message = answer.json()
    if not isinstance(message, dict) or message.get("type") != "message":
        raise UpstreamError("The upstream's answer is not a message")
    if engine in REPAIRED:
        return orjson.dumps(repair_message(message, sign, model=client_model))
    return with_model(answer.body, message, client_model)


def _refusal(answer: Answer) -> MessagesError:
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    if answer.status in _MISSING and not is_envelope(body, error):
        return NativeMissingError(f"The upstream has no Messages endpoint ({answer.status})")
    return from_status(answer.status, answer.headers, answer.body if body is None else body)
