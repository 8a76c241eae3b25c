"""A model behind a scripted native endpoint."""

from collections.abc import Callable

from tests.support.upstream import RecordedRequest, Reply, Responder, ScriptedUpstream, json_reply, stream_reply
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events

__all__ = ["native_model"]

MESSAGES = "/v1/messages"


def native_model(upstream: ScriptedUpstream, block: Callable[[Json], Json]) -> Responder:
    """What answers a request with one content block, streamed or not; a probe gets the engine's own answer.

    Args:
        upstream: Whose endpoint it is.
        block: The block that answers a request's body.
    """

    def answer(request: RecordedRequest) -> Reply:
        body = request.json or {}
        if not body.get("messages") or "max_tokens" not in body:
            probe = upstream.personality.answer("POST", MESSAGES)
            return probe(request) if callable(probe) else probe
        message = anthropic_message([block(body)], model=body["model"])
        return stream_reply(encode_events(anthropic_stream(message))) if body.get("stream") else json_reply(message)

    return answer
