"""What a native upstream's stream becomes on its way: relayed as bytes, or mended event by event."""

from collections.abc import Iterator

from llama_stack_messages_provider.adaptation.upstream_errors import from_event, malformed_upstream_errors
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.native.relay import Relay
from llama_stack_messages_provider.native.repair import StreamRepair
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.upstream.sessions import parsed
from llama_stack_messages_provider.wire.sse import PING, ServerSentEvent, SSEDecoder

__all__ = ["RelayedStream", "RepairedStream"]

logger = get_logger(name=__name__, category="providers")


class RelayedStream:
    """Bytes as they come, cut where events end.

    Args:
        engine: The upstream's engine, by name.
        client_model: The name of the model that the client used.
        start: Ids of the message and the request.
        max_event_bytes: The most that is held of an event.

    Attributes:
        over: Whether the message has come to its end, or to its error.
        failure: What is wrong with the event that follows those that came out.
    """

    def __init__(self, engine: str, client_model: str, start: LateMessageStart, max_event_bytes: int) -> None:
        patches = ENGINES[engine].native.patches
        self._relay = Relay(
            client_model,
            ping=PING,
            patches=patches,
            request_id=start.request_id,
            max_event_bytes=max_event_bytes,
        )
        self.over = False
        self.failure: MessagesError | None = None

    def feed(self, data: bytes) -> bytes:
        """What may be sent.

        Raises:
            MessagesError: The upstream's error before it began its message: it can still become a status.
        """
        return self._sent(self._relay.feed(data))

    def close(self) -> bytes:
        """What was held back."""
        return self._sent(self._relay.close())

    def _sent(self, piece: bytes) -> bytes:
        relay = self._relay
        self.failure = relay.failure
        if not relay.started:
            if relay.failure:
                raise relay.failure
            if relay.ended:
                raise _first_error(piece)
        self.over = relay.ended
        return piece


class RepairedStream:
    """Events, parsed and mended; as `RelayedStream` otherwise."""

    def __init__(self, sign: Signer, client_model: str, start: LateMessageStart, max_event_bytes: int) -> None:
        self._decoder = SSEDecoder(max_event_bytes)
        self._repair = StreamRepair(sign, message_id=start.message_id, model=client_model, request_id=start.request_id)
        self.over = False
        self.failure: MessagesError | None = None

    def feed(self, data: bytes) -> bytes:
        return self._sent(self._decoder.decode(data))

    def close(self) -> bytes:
        piece = self._sent(self._decoder.flush())
        if self._repair.lost:
            logger.warning("Parts of a native stream belonged to no block", lost=self._repair.lost)
        return piece

    def _sent(self, received: list[ServerSentEvent]) -> bytes:
        piece = b"".join(self._pieces(received))
        if not self._repair.started:
            if self.failure:
                raise self.failure
            if self._repair.finished:
                raise _first_error(piece)
            return b""
        self.over = self._repair.finished
        return piece

    def _pieces(self, received: list[ServerSentEvent]) -> Iterator[bytes]:
        """What each event makes, up to the first that is broken."""
        try:
            with malformed_upstream_errors(None, "a stream of messages' events"):
                for event in received:
                    yield self._repair.mended(event)
        except MessagesError as exc:
            self.failure = exc


def _first_error(piece: bytes) -> MessagesError:
    return from_event(parsed(SSEDecoder().decode(piece)[-1].data))
