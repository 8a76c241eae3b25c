"""Messages passed through to an upstream that speaks the Messages API."""

import re
from collections.abc import AsyncGenerator, Mapping

import aiohttp
import orjson
from llama_stack.log import get_logger

from llama_stack_messages_provider.adaptation.upstream_errors import from_event, is_envelope, not_understood, understood
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.native.relay import Relay
from llama_stack_messages_provider.native.repair import StreamRepair, repair_message
from llama_stack_messages_provider.native.request import with_model
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.sessions import (
    Answer,
    Body,
    Limits,
    Sessions,
    linger,
    parsed,
    pieces,
    refusal,
)
from llama_stack_messages_provider.wire.sse import PING, ServerSentEvent, SSEDecoder

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
        engine: str,
        client_model: str,
        sign: Signer,
        start: LateMessageStart,
    ) -> AsyncGenerator[bytes]:
        """The events of a streamed message, each piece ending at an event's end.

        Raises:
            NativeMissingError, MessagesError: As `complete`, before the first piece. Later failures too, for the
                caller to tell in the stream.
        """
        response = await self._sessions.open(
            "POST", f"{endpoint.root}/v1/messages", endpoint, self._limits, headers=headers, data=body
        )
        if response.status != 200:
            raise _refusal(Answer(response.status, response.headers, await _whole(response, self._limits)))
        if not response.content_type.startswith("text/event-stream"):
            raise not_understood(await _whole(response, self._limits), "a stream of events")
        way = _Repaired if ENGINES[engine].native.repaired else _Relayed
        events = way(engine, client_model, sign, start)
        try:
            with Body(response, self._limits) as answer:
                while data := await answer.more():
                    answer.came()
                    if piece := events.feed(data):
                        yield start.merged(piece) if start.sent else piece
                    if events.over:
                        linger(response)
                    answer.wait()
        except MessagesError:
            if not events.over:
                raise
        if piece := events.close():
            yield start.merged(piece) if start.sent else piece
        if not events.over:
            raise UpstreamError(_EARLY_END)


async def _whole(response: aiohttp.ClientResponse, limits: Limits) -> bytes:
    return b"".join([piece async for piece in pieces(response, limits)])


class _Relayed:
    """Bytes as they come, cut where events end.

    Attributes:
        over: Whether the message has come to its end, or to its error.
    """

    def __init__(self, engine: str, client_model: str, sign: Signer, start: LateMessageStart) -> None:
        patches = ENGINES[engine].native.patches
        self._relay = Relay(client_model, ping=PING, patches=patches, request_id=start.request_id)
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """What may be sent.

        Raises:
            MessagesError: The upstream's error before it began its message: it can still become a status.
        """
        return self._told(self._relay.feed(data))

    def close(self) -> bytes:
        """What was held back."""
        return self._told(self._relay.close())

    def _told(self, piece: bytes) -> bytes:
        relay = self._relay
        if not relay.started:
            if relay.ended:
                raise _first_error(piece)
            # Only a sign of life, which no client may see yet?
            return b"" if _SIGNS_OF_LIFE.fullmatch(piece) else piece
        if b"message_stop" in piece or b"error" in piece:  # in a text too, where it costs a second look
            self.over = relay.ended
        return piece


class _Repaired:
    """Events, parsed and mended; as `_Relayed` otherwise."""

    def __init__(self, engine: str, client_model: str, sign: Signer, start: LateMessageStart) -> None:
        self._decoder = SSEDecoder()
        self._repair = StreamRepair(sign, message_id=start.message_id, model=client_model, request_id=start.request_id)
        self.over = False

    def feed(self, data: bytes) -> bytes:
        return self._mended(self._decoder.decode(data))

    def close(self) -> bytes:
        piece = self._mended(self._decoder.flush())
        if self._repair.lost:
            logger.warning("Parts of a native stream belonged to no block", lost=self._repair.lost)
        return piece

    def _mended(self, received: list[ServerSentEvent]) -> bytes:
        with understood(None, "a stream of messages' events"):
            piece = b"".join(map(self._repair.mended, received))
        if not self._repair.started:
            if self._repair.finished:
                raise _first_error(piece)
            return b""
        self.over = self._repair.finished
        return piece


def _first_error(piece: bytes) -> MessagesError:
    return from_event(parsed(SSEDecoder().decode(piece)[-1].data))


def renamed(answer: Answer, client_model: str, engine: str, sign: Signer) -> bytes:
    """A whole message with the client's name of the model, mended where the engine's are broken."""
    message = answer.json()
    if not isinstance(message, dict) or message.get("type") != "message":
        raise not_understood(answer.body, "a message")
    if ENGINES[engine].native.repaired or "stop_sequence" not in message:  # vLLM leaves out what is null
        with understood(message, "a message"):
            return orjson.dumps(repair_message(message, sign, model=client_model))
    return with_model(answer.body, message, client_model)


def _refusal(answer: Answer) -> MessagesError:
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    if answer.status in _MISSING and not is_envelope(body, error):
        return NativeMissingError(f"The upstream has no Messages endpoint ({answer.status})")
    return refusal(answer)
