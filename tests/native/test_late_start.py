"""A native stream whose `message_start` went out before the upstream said anything."""

from typing import Any

import orjson
import pytest

from llama_stack_messages_provider.native.late_start import LateMessageStart
from tests.support.laws import assert_well_formed, fold
from tests.support.sse import events
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events


def started() -> LateMessageStart:
    return LateMessageStart("msg_1", "claude-x", "req_1")


def late(sent: list[Json], **cut: Any) -> list[Json]:
    """What a client gets of a stream that begins after ours did."""
    start = started()
    first = start.now()
    return events([first, *(start.merged(piece) for piece in pieces(sent, **cut))])


def pieces(sent: list[Json], *, together: int = 1) -> list[bytes]:
    """Whole events, so many at a time."""
    encoded = encode_events(sent)
    return [b"".join(encoded[at : at + together]) for at in range(0, len(encoded), together)]


@pytest.mark.parametrize("together", [1, 2, 99])
def test_the_upstream_s_message_start_is_left_out_and_its_input_told_at_the_end(together: int) -> None:
    usage = {"input_tokens": 7, "cache_read_input_tokens": 3, "output_tokens": 5}
    sent = anthropic_stream(anthropic_message("Hello", usage=usage))
    sent[-2] = {**sent[-2], "usage": {"output_tokens": 5, "cache_read_input_tokens": None}}
    got = late(sent, together=together)
    assert_well_formed(got)
    message = fold(got)
    assert (message["id"], message["model"]) == ("msg_1", "claude-x")
    assert {name: message["usage"][name] for name in usage} == usage


def test_what_the_end_counts_itself_stays() -> None:
    sent = anthropic_stream(anthropic_message("Hello", usage={"input_tokens": 7, "output_tokens": 5}))
    sent[0]["message"]["usage"] = {"input_tokens": 1, "output_tokens": 0}
    assert fold(late(sent))["usage"]["input_tokens"] == 7


def test_text_that_speaks_of_events_is_not_touched() -> None:
    sent = anthropic_stream(anthropic_message("event: message_start message_delta", usage={"output_tokens": 5}))
    for piece in pieces(sent[1:-2]):
        assert started().merged(piece) == piece


@pytest.mark.parametrize("message", [None, 7, {}, {"usage": None}, {"usage": {"input_tokens": None}}])
def test_a_message_start_of_any_shape_is_left_out(message: Any) -> None:
    start = started()
    assert start.merged(b"event: message_start\ndata: " + orjson.dumps({"message": message}) + b"\n\n") == b""
    ending = b'event: message_delta\ndata: {"type":"message_delta"}\n\n'
    assert start.merged(ending) == ending
