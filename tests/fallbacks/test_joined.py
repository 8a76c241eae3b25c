"""The law of joined messages: whatever models say and refuse, the stream is well formed and folds into the whole."""

from typing import Any

from anthropic.types.beta import BetaMessage
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.fallbacks.joined import JoinedEvents, JoinedMessage
from llama_stack_messages_provider.routing.chain import Chain, Fallback, request_for
from llama_stack_messages_provider.wire.sse import SSEDecoder
from tests.support import sse
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events, text_block, tool_use_block

FAILURE: Json = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
BLOCKS = st.lists(st.sampled_from([text_block("So it is."), tool_use_block("look", {"at": "sky"})]), max_size=3)
TURN = st.tuples(st.sampled_from(["answers", "refuses", "fails", "fails early"]), BLOCKS, st.integers(0, 9))


def told(turn: tuple[str, list[Json], int]) -> Json:
    kind, blocks, tokens = turn
    usage = {"input_tokens": tokens, "output_tokens": tokens + 1, "cache_read_input_tokens": tokens // 2}
    refusal = {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": "bio", "explanation": None}}
    return anthropic_message(
        blocks, usage=usage, model="m", **(refusal if kind == "refuses" else {"stop_details": None})
    )


def whole(chain: Chain, turns: list[Any]) -> Json | None:
    joined = JoinedMessage(chain)
    for n, turn in enumerate(turns):
        joined.begin(f"p/{n}" if n else chain.requested)
        if not turn[0].startswith("fails") and joined.add(told(turn)):
            break
    return joined.message() if joined.refused else None


def streamed(chain: Chain, turns: list[Any], size: int) -> bytes:
    joined, sent = JoinedEvents(chain), b""
    for n, turn in enumerate(turns):
        joined.begin(f"p/{n}" if n else chain.requested)
        if turn[0] == "fails early":
            continue
        events = anthropic_stream(told(turn))
        events = [events[0], FAILURE] if turn[0] == "fails" else events
        # A route leaves out what was sent.
        pieces = encode_events(events[1:] if joined.started else events)
        decoder = SSEDecoder()
        for start in range(0, len(pieces), size):
            sent += joined.take(decoder.decode(b"".join(pieces[start : start + size])))
        if not (joined.declined or joined.failure):
            return sent
    return sent + (joined.refusal() or b"")


@given(st.lists(TURN, min_size=1, max_size=5), st.booleans(), st.sampled_from([1, 3, 100]))
def test_a_stream_folds_into_the_whole_message(turns: list[Any], marks: bool, size: int) -> None:
    chain = Chain("m", [Fallback(f"p/{n}") for n in range(1, len(turns))], marks)
    message, events = whole(chain, turns), sse.events(streamed(chain, turns, size))
    if message is None:
        assert all(event["type"] in ("message_start", "ping") for event in events)
        return
    assert_well_formed(events)
    BetaMessage.model_validate(message)
    folded = fold(events)
    for name in ("content", "model", "stop_reason", "stop_details"):
        assert folded.get(name) == message.get(name), name
    # Null is what a stream does not say.
    spent = {name: value for name, value in message["usage"].items() if value is not None}
    assert {name: folded["usage"].get(name) for name in spent} == spent


@given(st.lists(TURN, min_size=1, max_size=5))
def test_clients_that_asked_for_none_are_sent_no_mark(turns: list[Any]) -> None:
    chain = Chain("m", [Fallback(f"p/{n}") for n in range(1, len(turns))], marks=False)
    message = whole(chain, turns)
    if message is not None:
        assert all(block["type"] != "fallback" for block in message["content"])
        assert message["model"] == "m"


def test_what_a_client_wants_changed_for_one_model() -> None:
    """As the SDK's own middleware changes it."""
    request: Json = {
        "model": "m",
        "max_tokens": 5,
        "fallbacks": [],
        "thinking": {"type": "between_tools"},
        "output_config": {"effort": "low", "format": {"type": "json_schema"}},
        "speed": "fast",
    }
    overrides = {"max_tokens": None, "output_config": {"effort": None, "task_budget": {"total": 1}}, "speed": None}
    assert request_for(request, Fallback("a", overrides)) == {
        "model": "a",
        "max_tokens": 5,
        "thinking": {"type": "disabled"},
        "output_config": {"format": {"type": "json_schema"}, "task_budget": {"total": 1}},
    }
    assert request_for(request, Fallback("a", {"output_config": None, "thinking": {"type": "adaptive"}})) == {
        "model": "a",
        "max_tokens": 5,
        "thinking": {"type": "adaptive"},
        "speed": "fast",
    }
    assert request_for(request, Fallback("a"))["output_config"] == request["output_config"]
