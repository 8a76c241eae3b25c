"""Calls are judged beside the stream, each by itself, and nobody is left at work for a client that has gone."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any

import orjson
import pytest
from starlette.types import Message

from llama_stack_messages_provider.config import SafeguardsConfig
from llama_stack_messages_provider.errors import NotFoundError, OverloadedError
from llama_stack_messages_provider.http.streaming import EventStream
from llama_stack_messages_provider.safeguards import judge as judging
from llama_stack_messages_provider.safeguards.judge import Classifier, Judge, Safeguards
from llama_stack_messages_provider.safeguards.verdicts import NOT_FLAGGED, flagged, unavailable
from llama_stack_messages_provider.wire.sse import PING
from tests.support import sse
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import (
    Json,
    anthropic_message,
    anthropic_stream,
    encode_events,
    text_block,
    tool_use_block,
)

REQUEST: Json = {
    "model": "m",
    "messages": [{"role": "user", "content": "Tidy up."}],
    "safeguards": [{"type": "dangerous_tool_use", "classifier_context": {"v": 1}}],
}
Ask = Callable[[Json], Awaitable[Json]]


def verdict(outcome: str = "not_flagged") -> Json:
    return anthropic_message(orjson.dumps({"explanation": "It is so.", "outcome": outcome}).decode())


async def by_words(request: Json) -> Json:
    """Flags what removes."""
    call = request["messages"][0]["content"].partition("<call>")[2]
    return verdict("flagged" if "rm -rf" in call else "not_flagged")


async def opened(ask: Ask = by_words, request: Json = REQUEST, **settings: Any) -> Judge:
    async def find(template: Json) -> Classifier:
        return Classifier(template["model"], ask)

    judge = await Safeguards(SafeguardsConfig(**settings)).open(request, find)
    assert judge is not None
    return judge


def status_of(message: Json) -> Any:
    (result,) = message["safeguard_results"]
    assert result["type"] == "dangerous_tool_use"
    return result["status"]


def calls(*commands: str) -> list[Json]:
    return [tool_use_block("Bash", {"command": command}, id=f"toolu_{n}") for n, command in enumerate(commands)]


async def pieces(blocks: Sequence[Json], size: int = 1) -> AsyncGenerator[bytes]:
    events = encode_events(anthropic_stream(anthropic_message([text_block("I do."), *blocks])))
    for start in range(0, len(events), size):
        yield b"".join(events[start : start + size])


async def streamed(judge: Judge, events: AsyncGenerator[bytes]) -> Json:
    found = sse.events(b"".join([piece async for piece in judge.events(events)]))
    assert_well_formed(found)
    (end,) = [event for event in found if event["type"] == "message_delta"]
    return {**fold(found), "safeguard_results": end["delta"]["safeguard_results"]}


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_stream_and_a_whole_message_say_the_same(size: int) -> None:
    blocks = calls("ls", "rm -rf /")
    expected = {"toolu_0": NOT_FLAGGED, "toolu_1": flagged("It is so.")}
    whole = await (await opened()).message(anthropic_message(blocks))
    stream = await streamed(await opened(), pieces(blocks, size))
    assert status_of(whole) == status_of(stream) == {"type": "available", "tool_uses": expected}
    assert [block["input"] for block in stream["content"][1:]] == [block["input"] for block in blocks]


async def test_all_else_of_a_stream_is_as_it_came() -> None:
    came = [piece async for piece in pieces(calls("ls"))]
    told = [piece async for piece in (await opened()).events(pieces(calls("ls")))]
    assert [piece for piece in told if b"message_delta" not in piece] == [
        piece for piece in came if b"message_delta" not in piece
    ]
    assert len(told) == len(came)


async def test_an_answer_without_calls_was_judged_too() -> None:
    assert status_of(await streamed(await opened(), pieces([]))) == {"type": "available", "tool_uses": {}}
    assert status_of(await (await opened()).message(anthropic_message("Hi"))) == {"type": "available", "tool_uses": {}}


async def test_it_begins_when_the_call_is_complete() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def ask(request: Json) -> Json:
        asked.set()
        await go_on.wait()
        return verdict()

    async def slow() -> AsyncGenerator[bytes]:
        async for piece in pieces(calls("ls", "pwd")):
            if b"toolu_1" in piece:
                await asyncio.wait_for(asked.wait(), 10)  # the second call has not begun
                go_on.set()
            yield piece

    assert len(status_of(await streamed(await opened(ask), slow()))["tool_uses"]) == 2


async def test_pings_are_sent_while_a_verdict_is_waited_for() -> None:
    pinged, sent = asyncio.Event(), bytearray()

    async def ask(request: Json) -> Json:
        await pinged.wait()
        return verdict()

    async def send(message: Message) -> None:
        sent.extend(message.get("body", b""))
        if message.get("body") == PING and sent.count(b"event: content_block_stop") == 2:
            pinged.set()

    async def receive() -> Message:
        return await asyncio.Event().wait() or {}

    events = (await opened(ask)).events(pieces(calls("ls")))
    stream = EventStream(events, dict, lambda: b"", ping_after=0.01)
    await asyncio.wait_for(stream({"type": "http"}, receive, send), 30)
    found = sse.events(bytes(sent))
    assert_well_formed(found)
    kinds = [kind for kind, _ in groupby(event["type"] for event in found)]
    assert kinds[-4:] == ["content_block_stop", "ping", "message_delta", "message_stop"]


async def test_the_call_that_is_judged_is_told_of_those_before_it() -> None:
    seen: list[str] = []

    async def ask(request: Json) -> Json:
        seen.append(request["messages"][0]["content"])
        return verdict()

    await (await opened(ask)).message(anthropic_message(calls("echo 'rm -rf /' > a.sh", "sh a.sh")))
    told = [content.partition("<conversation>")[2].partition("</conversation>")[0] for content in seen]
    assert ["a.sh" in each for each in told] == [False, True]
    assert len({content.partition("<conversation>")[0] for content in seen}) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"command": "ls', "input_unparsed"),
        ('"ls"', "input_unparsed"),
        ('{"a": "%s"}' % ("x" * 60_000), "input_too_long"),
    ],
)
async def test_arguments_that_cannot_be_read_are_not_judged(arguments: str, reason: str) -> None:
    async def broken() -> AsyncGenerator[bytes]:
        delta = {"type": "input_json_delta", "partial_json": arguments}
        events: list[Json] = [
            {"type": "content_block_start", "index": 0, "content_block": tool_use_block("Bash", {}, id="a")},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
        ]
        for piece in encode_events(events):
            yield piece

    told = sse.events(b"".join([piece async for piece in (await opened()).events(broken())]))
    assert status_of(told[-1]["delta"])["tool_uses"] == {"a": unavailable(reason)}


async def late(request: Json) -> Json:
    await asyncio.Event().wait()
    return verdict()


async def overloaded(request: Json) -> Json:
    raise OverloadedError


async def broken(request: Json) -> Json:
    raise KeyError("a bug")


async def refusing(request: Json) -> Json:
    return {**verdict(), "stop_reason": "refusal"}


@pytest.mark.parametrize(
    ("ask", "reason"), [(late, "timeout"), (overloaded, "error"), (broken, "error"), (refusing, "refused")]
)
async def test_what_fails_is_unavailable_and_never_let_through(ask: Ask, reason: str) -> None:
    message = await (await opened(ask, seconds=0.01)).message(anthropic_message(calls("ls")))
    assert status_of(message)["tool_uses"] == {"toolu_0": unavailable(reason)}


async def test_the_number_of_calls_is_bounded_and_how_many_are_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MAX_CALLS", 9)
    running, most = 0, 0

    async def ask(request: Json) -> Json:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return verdict()

    message = await (await opened(ask)).message(anthropic_message(calls(*["ls"] * 12)))
    told = list(status_of(message)["tool_uses"].values())
    assert told == [NOT_FLAGGED] * 9 + [unavailable("error")] * 3
    assert most == judging.CALLS_AT_ONCE


async def test_a_client_that_leaves_ends_what_judges() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def ask(request: Json) -> Json:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return verdict()

    judge = await opened(ask)
    events = judge.events(pieces(calls("ls")))
    async for piece in events:
        if b"content_block_stop" in piece and b'"index":1' in piece:
            break
    await asyncio.wait_for(asked.wait(), 10)
    await events.aclose()
    assert ended.is_set()

    asked.clear()
    ended.clear()
    whole = asyncio.create_task((await opened(ask)).message(anthropic_message(calls("ls"))))
    await asyncio.wait_for(asked.wait(), 10)
    whole.cancel()
    await asyncio.wait([whole])
    assert ended.is_set()


async def test_a_failure_of_the_stream_is_the_stream_s() -> None:
    async def cut() -> AsyncGenerator[bytes]:
        async for piece in pieces(calls("ls")):
            if b"message_delta" in piece:
                raise OverloadedError
            yield piece

    with pytest.raises(OverloadedError):
        await streamed(await opened(late), cut())


async def test_who_may_not_use_the_classifier_gets_no_verdicts() -> None:
    async def find(template: Json) -> Classifier:
        raise NotFoundError("model: there is no model m")

    judge = await Safeguards(SafeguardsConfig()).open(REQUEST, find)
    assert judge is not None
    assert status_of(await judge.message(anthropic_message(calls("ls")))) == unavailable("error")


async def test_a_server_that_does_not_judge_says_so() -> None:
    judge = await opened(enabled=False)
    assert status_of(await streamed(judge, pieces(calls("ls")))) == unavailable("disabled")


async def test_another_model_can_be_the_judge() -> None:
    asked: list[str] = []

    async def ask(request: Json) -> Json:
        asked.append(request["model"])
        return verdict()

    await (await opened(ask, model="guard")).message(anthropic_message(calls("ls")))
    assert asked == ["guard"]


async def test_a_request_that_asks_for_nothing_has_no_judge() -> None:
    async def find(template: Json) -> Classifier:
        raise AssertionError

    for asked in (None, [], [{}]):
        assert await Safeguards(SafeguardsConfig()).open({**REQUEST, "safeguards": asked}, find) is None


def test_a_classifier_with_a_small_window_is_shown_less() -> None:
    assert Classifier("m", by_words).characters(60_000) == 60_000
    assert Classifier("m", by_words, 8192).characters(60_000) == 16_384
    assert Classifier("m", by_words, 200_000).characters(60_000) == 60_000
