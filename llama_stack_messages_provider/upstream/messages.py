"""Messages passed through to an upstream that speaks the Messages API."""

from collections.abc import AsyncGenerator, Mapping
from functools import partial

from llama_stack_messages_provider.adaptation.upstream_errors import (
    is_envelope,
    malformed_answer,
    malformed_upstream_errors,
)
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.http_client.response import Response
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.native.message import Event, PassedMessage, repair_message
from llama_stack_messages_provider.native.request import with_model
from llama_stack_messages_provider.native.shapes import (
    EARLY_END,
    looks_like_events,
    looks_whole,
    message_as_stream,
    stream_as_message,
)
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.upstream.body import Body, Timeouts
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.native_streams import RelayedStream, RepairedStream
from llama_stack_messages_provider.upstream.sessions import Sessions, UpstreamResponse, is_success, refusal
from llama_stack_messages_provider.wire.lenient_json import read_leniently

__all__ = ["NativeMessages", "NativeMissingError", "renamed"]

_MISSING = frozenset({404, 405, 501})
_PATH = "/v1/messages"


class NativeMissingError(UpstreamError):
    """The upstream has no such endpoint, whatever it said before."""


class NativeMessages:
    """Sends requests to `/v1/messages` of native upstreams."""

    def __init__(self, sessions: Sessions, timeouts: Timeouts) -> None:
        self._sessions = sessions
        self._timeouts = timeouts

    async def complete(
        self,
        endpoint: Endpoint,
        body: bytes,
        headers: Mapping[str, str],
        *,
        path: str = _PATH,
    ) -> UpstreamResponse:
        """A whole answer that is none of an error.

        Raises:
            NativeMissingError: There is no such endpoint.
            MessagesError: The upstream's refusal or failure.
        """
        response = await self._sessions.fetch(
            "POST", f"{endpoint.root}{path}", endpoint, self._timeouts, headers=headers, data=body
        )
        if not is_success(response.status):
            raise _refusal(response)
        return response

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
        response = await self._opened(endpoint, body, headers)
        del body  # nothing of the request is kept while its answer comes
        limits = self._sessions.limits
        make_repaired = partial(RepairedStream, sign, client_model, start, limits.event)
        is_repaired = ENGINES[engine].native.repaired
        events = make_repaired() if is_repaired else RelayedStream(engine, client_model, start, limits.event)
        # All in one generator: each more is some of what a small event costs.
        with Body(response, self._timeouts.of(endpoint), limits.stream) as received:
            data = await received.read()
            is_stream = not looks_whole(data) and (looks_like_events(data) or _is_event_stream(response))
            if not is_stream:
                received.hand_over()
            while data and is_stream:
                received.mark_received(data)
                if piece := events.feed(data):
                    yield start.merged(piece) if start.sent else piece
                if events.failure:
                    raise events.failure
                if events.over:
                    await received.close_soon()
                    return
                received.arm()
                data = await received.read()
        if is_stream:
            piece = events.close()
        else:
            whole = await self._sessions.whole(response, endpoint, self._timeouts, head=data)
            events = make_repaired()
            piece = events.feed(message_as_stream(_message_of(whole.body, "a stream of events")[0]))
        if piece:
            yield start.merged(piece) if start.sent else piece
        if not events.over:
            raise events.failure or UpstreamError(EARLY_END)

    async def _opened(self, endpoint: Endpoint, body: bytes, headers: Mapping[str, str]) -> Response:
        """The response to a request that is taken."""
        url = f"{endpoint.root}{_PATH}"
        response = await self._sessions.open("POST", url, endpoint, self._timeouts, headers=headers, data=body)
        if not is_success(response.status):
            raise _refusal(await self._sessions.whole(response, endpoint, self._timeouts))
        return response


def _is_event_stream(response: Response) -> bool:
    return response.content_type == "text/event-stream"


def renamed(response: UpstreamResponse, client_model: str, engine: str, sign: Signer) -> Event:
    """A whole message with the client's name of the model: as it came, or mended where the engine's are broken.

    Raises:
        MessagesError: It is no message; its error, if it says one.
    """
    if looks_like_events(response.body[:64]):
        with malformed_upstream_errors(None, "a message"):
            return stream_as_message(response.body, sign, message_id="msg_unknown", model=client_model)
    message, is_readable = _message_of(response.body, "a message")
    # vLLM leaves out what is null.
    if ENGINES[engine].native.repaired or "stop_sequence" not in message or not is_readable:
        with malformed_upstream_errors(message, "a message"):
            return repair_message(message, sign, model=client_model)
    return PassedMessage({**message, "model": client_model}, with_model(response.body, message, client_model))


def _message_of(body: bytes, wanted: str) -> tuple[Event, bool]:
    """A message, and whether any client can read the bytes as they are."""
    try:
        message, is_readable = read_leniently(body)
    except ValueError:
        raise malformed_answer(body, wanted) from None
    if not isinstance(message, dict) or message.get("type") != "message" or not _has_content(message):
        raise malformed_answer(body, wanted)
    return message, is_readable


def _has_content(message: Event) -> bool:
    """Whether the content, if there is any, is blocks."""
    content = [] if message.get("content") is None else message["content"]
    return isinstance(content, list) and all(
        isinstance(block, dict) and isinstance(block.get("type"), str) for block in content
    )


def _refusal(response: UpstreamResponse) -> MessagesError:
    body = response.json()
    error = body.get("error") if isinstance(body, dict) else None
    if response.status in _MISSING and not is_envelope(body, error):
        return NativeMissingError(f"The upstream has no Messages endpoint ({response.status})")
    return refusal(response)
