"""What is counted of requests: bounded, by the minute, and no words of anybody's."""

import asyncio
from collections.abc import Iterable

import orjson
import pytest

from llama_stack_messages_provider.errors import OverloadedError, UpstreamTimeoutError
from llama_stack_messages_provider.status.access import is_administrator
from llama_stack_messages_provider.status.noted import Noted
from llama_stack_messages_provider.status.tally import MAX_FAILURES, MAX_MODELS, MAX_NAME, MAX_NAMES, MINUTES, Tally
from tests.support.wire import Json, anthropic_message, anthropic_stream, encode_events

SECRET = "the otters are plotting"
USAGE: Json = {"input_tokens": 10, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5, "output_tokens": 7}


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(clock)


def noted(tally: Tally, *, operation: str = "chat", inner: bool = False, label: str | None = "p/m") -> Noted:
    request = {"model": "m", "stream": True, "messages": [{"role": "user", "content": SECRET}]}
    made = Noted(operation, "req_1", request, inner=inner, tally=tally)
    made.label = label
    return made


def streamed(one: Noted, pieces: Iterable[bytes]) -> None:
    with one:
        for piece in pieces:
            one.see(piece)


def pieces_of(message: Json) -> list[bytes]:
    return list(encode_events(anthropic_stream(message)))


@pytest.mark.parametrize("joined", [False, True], ids=["event by event", "at once"])
def test_a_stream_is_counted_from_its_first_and_last_pieces(tally: Tally, joined: bool) -> None:
    pieces = pieces_of(anthropic_message(SECRET, usage=USAGE))
    streamed(noted(tally), [b"".join(pieces)] if joined else pieces)
    [minute] = tally.report()["minutes"]
    assert minute["requests"] == minute["first_tokens"] == 1
    assert (minute["input_tokens"], minute["cached_tokens"], minute["output_tokens"]) == (45, 30, 7)
    assert minute["failures"] == 0
    assert SECRET not in orjson.dumps(tally.report()).decode()


def test_a_whole_message_is_counted(tally: Tally) -> None:
    one = noted(tally)
    with one:
        assert tally.running == 1
        one.answered(anthropic_message("x", usage=USAGE))
    assert tally.running == 0
    assert tally.report()["usage"]["p/m"]["output_tokens"] == 7


def test_a_failure_has_its_id_and_none_of_its_words(tally: Tally) -> None:
    one = noted(tally)
    with pytest.raises(OverloadedError), one:
        raise OverloadedError(SECRET)
    report = tally.report()
    assert report["failures"] == [
        {
            "at": Clock.now,
            "request_id": "req_1",
            "model": "p/m",
            "status": 529,
            "error": "overloaded_error",
            "streamed": True,
            "batch": None,
        }
    ]
    assert report["minutes"][0]["requests"] == report["minutes"][0]["failures"] == 1
    assert SECRET not in str(report)


def test_an_error_that_ends_a_stream_is_a_failure(tally: Tally) -> None:
    start = pieces_of(anthropic_message("x"))[:3]
    error = {"type": "error", "error": {"type": "overloaded_error", "message": SECRET}}
    streamed(noted(tally), [*start, b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"])
    [failure] = tally.report()["failures"]
    assert (failure["status"], failure["error"]) == (529, "overloaded_error")


@pytest.mark.parametrize("gone", [GeneratorExit, asyncio.CancelledError])
def test_who_gives_up_is_no_failure(tally: Tally, gone: type[BaseException]) -> None:
    one = noted(tally)
    with pytest.raises(gone), one:
        raise gone
    assert tally.report()["minutes"][0] | {"requests": 1, "failures": 0} == tally.report()["minutes"][0]
    assert tally.report()["failures"] == []


def test_a_model_that_is_none_is_named_by_its_failure_alone(tally: Tally) -> None:
    for number in range(2 * MAX_MODELS):
        one = Noted("chat", "req_1", {"model": f"invented-{number}" + "x" * 500}, tally=tally)
        one.failed(UpstreamTimeoutError())
    report = tally.report()
    assert list(report["usage"]) == ["no model"]
    assert report["usage"]["no model"]["requests"] == 2 * MAX_MODELS
    assert {len(failure["model"]) for failure in report["failures"]} == {MAX_NAME}
    assert len(report["failures"]) == MAX_FAILURES


def test_of_a_count_only_its_failure_is_told_and_of_a_request_of_our_own_its_tokens(tally: Tally) -> None:
    count = noted(tally, operation="count_tokens")
    with pytest.raises(OverloadedError), count:
        raise OverloadedError
    with noted(tally, inner=True) as inner:
        inner.answered(anthropic_message("x", usage=USAGE))
    with pytest.raises(OverloadedError), noted(tally, inner=True):
        raise OverloadedError
    report = tally.report()
    assert len(report["failures"]) == 1
    assert report["minutes"][0]["requests"] == report["minutes"][0]["failures"] == 0
    assert report["minutes"][0]["output_tokens"] == 7


def test_an_hour_is_kept(tally: Tally, clock: Clock) -> None:
    for _ in range(3 * MINUTES):
        tally.figures("p/m").requests += 1
        clock.now += 60
    report = tally.report()
    assert len(report["minutes"]) == MINUTES - 1  # and the one that has just begun
    assert report["usage"]["p/m"]["requests"] == MINUTES - 1
    clock.now += 3600
    assert tally.report()["minutes"] == []
    assert tally.report()["usage"] == {}


def test_names_are_bounded(tally: Tally) -> None:
    for number in range(2 * MAX_MODELS):
        tally.figures(f"p/{number}" + "x" * 500).requests += 1
        tally.adapt(f"p/{number}", "CapMaxTokens")
    for number in range(2 * MAX_NAMES):
        tally.drop(f"part-{number}")
    report = tally.report()
    assert len(report["usage"]) == MAX_MODELS + 1
    assert report["usage"]["other"]["requests"] == MAX_MODELS
    assert max(map(len, report["usage"])) == MAX_NAME
    assert len(report["dropped"]) == MAX_NAMES + 1
    assert len(report["adapted"]) == MAX_MODELS


@pytest.mark.parametrize(
    ("who", "is_one"),
    [
        ({"roles": ["admin"]}, True),
        ({"roles": ["operator", "admin"]}, True),
        ({"teams": ["admin"]}, False),
        ({"roles": ["adm"]}, False),
        ({"principal": ["ada"]}, True),
        ({"principal": ["bob"], "teams": ["core"]}, True),
        ({"roles": []}, False),
        ({}, False),
    ],
)
def test_an_administrator_has_one_of_the_values_of_one_attribute(who: dict[str, list[str]], is_one: bool) -> None:
    from llama_stack_messages_provider.host.access import User

    assert is_administrator(User("ada", {"roles": ["user", "admin"], "teams": ["core"]}), who) is is_one
    assert not is_administrator(None, who)
    assert not is_administrator(User("eve", None), {"roles": ["admin"]})
