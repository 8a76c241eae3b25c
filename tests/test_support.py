"""The test support keeps its own promises."""

import asyncio
import json
import socket
import urllib.request

import aiohttp
import pytest

from tests.support import sse
from tests.support.laws import assert_calls_conserved, assert_text_conserved, assert_well_formed, fold
from tests.support.personalities import openai_style
from tests.support.upstream import (
    ScriptedUpstream,
    anthropic_message,
    anthropic_stream,
    call,
    call_delta,
    chat_chunks,
    chat_reply,
    cut_reply,
    delta,
    encode_chunks,
    encode_events,
    hang_reply,
    json_reply,
    silent_reply,
    stream_reply,
    text_block,
    thinking_block,
    tool_use_block,
)
from tests.support.waiting import eventually, eventually_async
from tests.support.wire import Json

CHAT = "/v1/chat/completions"
MESSAGE = anthropic_message(
    [thinking_block("hm, hm"), text_block("Hello you"), tool_use_block("look", {"at": ["sky", 1]})]
)


def _well_formed() -> list[Json]:
    return anthropic_stream(MESSAGE)


def test_a_built_stream_is_well_formed_and_folds_to_its_message() -> None:
    events = sse.events(encode_events(_well_formed()))

    assert_well_formed(events)
    assert fold(events) == MESSAGE


SPOILERS = {
    "no start": lambda events: events.pop(0),
    "two starts": lambda events: events.insert(0, events[0]),
    "ping first": lambda events: events.insert(0, {"type": "ping"}),
    "no end": lambda events: events.pop(),
    "something after the end": lambda events: events.append({"type": "ping"}),
    "no message_delta": lambda events: events.pop(-2),
    "a block after message_delta": lambda events: events.insert(-1, events[2]),
    "an index skipped": lambda events: events[2].update(index=1),
    "a block never opened": lambda events: events.pop(2),
    "a block never closed": lambda events: events.remove({"type": "content_block_stop", "index": 0}),
    "no skeleton": lambda events: events[2]["content_block"].pop("signature"),
    "text into thinking": lambda events: events[3]["delta"].update(type="text_delta", text=""),
    "a delta after the signature": lambda events: events.insert(6, events[3]),
    "an unknown event": lambda events: events.insert(1, {"type": "surprise"}),
    "no output tokens": lambda events: events[-2]["usage"].pop("output_tokens"),
    "no stop reason": lambda events: events[-2]["delta"].update(stop_reason=None),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS.keys())
def test_the_grammar_refuses_a_spoilt_stream(spoil) -> None:  # type: ignore[no-untyped-def]
    events = json.loads(json.dumps(_well_formed()))
    spoil(events)

    with pytest.raises((AssertionError, KeyError)):
        assert_well_formed(events)


def test_an_error_event_ends_a_stream_anywhere() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}

    assert_well_formed([*_well_formed()[:4], error])
    with pytest.raises(AssertionError):
        assert_well_formed([*_well_formed()[:4], error, {"type": "message_stop"}])


def test_calls_and_text_are_compared_with_what_the_upstream_sent() -> None:
    chunks = chat_chunks(
        "Hello you", reasoning_content="hm, hm", tool_calls=[call("look", {"at": ["sky", 1]})]
    )

    assert_calls_conserved(chunks, _well_formed())
    assert_text_conserved(chunks, _well_formed())


@pytest.mark.parametrize(
    "tool_calls",
    [
        [],
        [call("see", {"at": ["sky", 1]})],
        [call("look", {"at": ["sky", 2]})],
        [call("look", {"at": ["sky", 1]}), call("look", {}, id="other")],
    ],
)
def test_a_call_lost_renamed_changed_or_added_is_noticed(tool_calls: list[Json]) -> None:
    with pytest.raises(AssertionError):
        assert_calls_conserved(chat_chunks("x", tool_calls=tool_calls), _well_formed())


def test_two_ids_at_one_index_are_two_calls() -> None:
    chunks = [
        delta(tool_calls=[call_delta(0, id="a", name="look", arguments="{}")]),
        delta(tool_calls=[call_delta(0, id="b", name="look", arguments='{"x"')]),
        delta(tool_calls=[call_delta(0, arguments=":1}")]),
    ]
    blocks = [tool_use_block("look", id="a"), tool_use_block("look", {"x": 1}, id="b")]

    assert_calls_conserved(chunks, anthropic_stream(anthropic_message(blocks)))


def test_the_parser_takes_every_line_end_comments_and_split_data() -> None:
    raw = b': hi\r\n\r\nevent: a\rdata: {"x":\rdata: 1}\r\rdata:{"y":2}\n\nevent: lost\ndata: {}\n'

    assert sse.parse(raw) == [("a", {"x": 1}), ("", {"y": 2})]
    assert sse.comments(raw) == ["hi"]
    with pytest.raises(AssertionError):
        sse.events(raw)


def _post(url: str, body: Json) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"x-note": "kept"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return bytes(response.read())


def test_a_request_is_recorded_and_answered_by_the_script() -> None:
    with ScriptedUpstream(openai_style(models=["m"])) as upstream:
        upstream.queue(CHAT, json_reply({"first": 1}))
        upstream.reply(CHAT, chat_reply("later"))

        assert json.loads(_post(upstream.url + CHAT, {"model": "m"})) == {"first": 1}
        assert (
            json.loads(_post(upstream.url + CHAT, {"model": "m"}))["choices"][0]["message"]["content"]
            == "later"
        )
        assert b"[DONE]" in _post(upstream.url + CHAT, {"model": "m", "stream": True})

        eventually(lambda: upstream.last.finished_at)
        assert upstream.last.json == {"model": "m", "stream": True}
        assert upstream.last.headers["X-Note"] == "kept"
        assert [seen.path for seen in upstream.requests] == [CHAT] * 3
        assert upstream.last.disconnected_at is None


@pytest.mark.parametrize("kind", ["hanging", "silent", "streaming", "delayed"])
async def test_a_client_that_leaves_is_noticed(kind: str) -> None:
    reply = {
        "hanging": hang_reply(),
        "silent": silent_reply(),
        "streaming": stream_reply([b"x"] * 1000, pause=0.01),
        "delayed": json_reply({}).delayed(60),
    }[kind]
    with ScriptedUpstream() as upstream:
        upstream.reply(CHAT, reply)
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(_read_all(session, upstream.url + CHAT))
            await eventually_async(lambda: upstream.requests)
            asking.cancel()
        await eventually_async(lambda: upstream.last.disconnected_at, within=2)
        assert upstream.last.finished_at is None


async def _read_all(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.post(url, json={}) as response:
        return await response.read()


async def test_a_cut_stream_breaks_off_at_the_client_and_is_not_called_a_disconnect() -> None:
    with ScriptedUpstream() as upstream:
        upstream.reply(CHAT, cut_reply(encode_chunks(chat_chunks("Hello")), after=2))
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await _read_all(session, upstream.url + CHAT)
        assert upstream.last.cut
        assert upstream.last.disconnected_at is None


async def test_a_released_reply_goes_on() -> None:
    with ScriptedUpstream() as upstream:
        upstream.reply(CHAT, silent_reply(b"then"))
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(_read_all(session, upstream.url + CHAT))
            await eventually_async(lambda: upstream.requests)
            upstream.release()
            assert await asking == b"then"


def test_an_upstream_that_is_down_refuses_connections_and_can_come_back_on_its_port() -> None:
    with ScriptedUpstream() as upstream:
        port = upstream.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    with ScriptedUpstream(port=port) as upstream:
        assert _post(upstream.url + CHAT, {"model": "test-model"})
