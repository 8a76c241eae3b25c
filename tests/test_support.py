"""The test support keeps its own promises."""

import asyncio
import json
import socket
import urllib.request
from pathlib import Path

import aiohttp
import pytest
from anthropic import Anthropic

from tests.conftest import ROOT, SLOW_FILES
from tests.support import personalities, sse
from tests.support.fixtures import chunk_bytes, chunk_names, chunks, sse_bytes, sse_is_sound, sse_names, sse_table
from tests.support.laws import (
    assert_calls_conserved,
    assert_text_conserved,
    assert_well_formed,
    fold,
    upstream_calls,
)
from tests.support.personalities import openai_style
from tests.support.stack import Stack, openai_provider, run_config
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
USER = {"role": "user", "content": "x"}
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
    chunks = chat_chunks("Hello you", reasoning_content="hm, hm", tool_calls=[call("look", {"at": ["sky", 1]})])

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
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"x-note": "kept", "content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return bytes(response.read())


def test_a_request_is_recorded_and_answered_by_the_script() -> None:
    with ScriptedUpstream(openai_style(models=["m"])) as upstream:
        upstream.queue(CHAT, json_reply({"first": 1}))
        upstream.reply(CHAT, chat_reply("later"))

        assert json.loads(_post(upstream.url + CHAT, {"model": "m"})) == {"first": 1}
        assert json.loads(_post(upstream.url + CHAT, {"model": "m"}))["choices"][0]["message"]["content"] == "later"
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
        await eventually_async(lambda: upstream.last.disconnected_at)
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


SOUND_ANSWERS = [name for name in sse_names() if sse_is_sound(name) and b"event: error" not in sse_bytes(name)]


def _blocks_and_end(message: Json) -> Json:
    kept = {name: message.get(name) for name in ("content", "stop_reason", "stop_sequence", "model", "id")}
    usage = {name: value for name, value in message["usage"].items() if value is not None}
    return {**kept, "usage": usage}


@pytest.mark.parametrize("name", SOUND_ANSWERS)
def test_folding_gives_what_the_sdk_accumulates(name: str) -> None:
    with ScriptedUpstream() as upstream:
        upstream.reply("/v1/messages", stream_reply([sse_bytes(name)]))
        client = Anthropic(base_url=upstream.url, api_key="any", max_retries=0)
        with (
            client,
            client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as got,
        ):
            expected = got.get_final_message().to_dict(mode="json")

    assert _blocks_and_end(fold(sse.parse(sse_bytes(name)))) == _blocks_and_end(expected)


def test_every_recorded_stream_has_its_row_and_every_row_its_stream() -> None:
    assert sorted(sse_table()) == sse_names()


@pytest.mark.parametrize("name", sse_names())
def test_the_table_says_which_recorded_streams_are_sound(name: str) -> None:
    try:
        assert_well_formed(sse.events(sse_bytes(name)))
        sound = True
    except (AssertionError, json.JSONDecodeError):
        sound = False

    assert sound == sse_is_sound(name)


@pytest.mark.parametrize("name", chunk_names())
def test_a_recorded_chunk_stream_is_the_same_on_the_wire(name: str) -> None:
    assert [data for _, data in sse.parse(chunk_bytes(name))] == chunks(name)
    assert all(call.name for call in upstream_calls(chunks(name)))


ENGINES = {
    "openai": personalities.openai_style,
    "vllm": personalities.vllm,
    "sglang": personalities.sglang,
    "llama.cpp": personalities.llama_cpp,
    "ollama": personalities.ollama,
    "anthropic": personalities.anthropic,
}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_lists_its_models_and_answers_a_chat(engine: str) -> None:
    with ScriptedUpstream(ENGINES[engine](models=["m"])) as upstream:
        request = urllib.request.Request(f"{upstream.url}/v1/models", headers={"x-api-key": "k"})
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response)["data"][0]["id"] == "m"
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        request = urllib.request.Request(upstream.url + CHAT, json.dumps(body).encode(), {"x-api-key": "k"})
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response)["choices"][0]["message"]["content"] == "Hello from m"


def test_a_killed_stack_comes_back_on_its_port_and_storage(tmp_path: Path) -> None:
    with ScriptedUpstream(openai_style(models=["m"])) as upstream:
        config = run_config(tmp_path, inference=[openai_provider(upstream.url, "up")])
        with Stack(config, tmp_path) as stack:
            stack.kill()
            assert not stack.running
            stack.start()

            answer = json.loads(_post(stack.base_url + CHAT, {"model": "up/m", "messages": [USER]}))
            assert answer["choices"][0]["message"]["content"] == "Hello from m"
            assert upstream.last.headers["authorization"] == "Bearer sk-test"
            assert any("Uvicorn running" in record["event"] for record in stack.records())
        assert not stack.running


def test_files_that_are_slow_are_there() -> None:
    assert [file for file in SLOW_FILES if not (ROOT / "tests" / file).is_file()] == []
