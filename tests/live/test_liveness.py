"""Silence, and who ends it: pings while the upstream lives, limits when it does not, and clients that go away.

The upstreams' silences are real, a few times longer than `PING_AFTER`; nothing is said about how long answers take.
"""

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from tests.conftest import ROOT, Fleet
from tests.live.raw import Answer, RawClient, complaints, post
from tests.support import personalities
from tests.support.laws import assert_well_formed, fold
from tests.support.replies import (
    FOREVER,
    Reply,
    Step,
    Wait,
    cut_reply,
    hang_reply,
    json_reply,
    silent_reply,
    stream_reply,
)
from tests.support.stack import Stack, llama_cpp_provider, openai_provider, run_config, vllm_provider
from tests.support.upstream import RecordedRequest, ScriptedUpstream
from tests.support.waiting import eventually
from tests.support.wire import (
    Json,
    anthropic_message,
    anthropic_stream,
    chat_chunks,
    completion_usage,
    encode_chunks,
    encode_events,
)

PING_AFTER = 0.3
SILENCE = 1.2
CONNECT, FIRST_BYTE, IDLE = 0.5, 3.0, 2.5
TEXT = "Hello there"
USAGE = {"input_tokens": 11, "output_tokens": 5}

# --- upstreams that answer in pieces ---


def _native_parts() -> list[bytes]:
    """As llama.cpp and SGLang count: what the prompt cost is in `message_start` only."""
    usage = {**USAGE, "cache_read_input_tokens": 7}
    events = anthropic_stream(anthropic_message(TEXT, usage=usage), ping=False)
    events[-2] = {**events[-2], "usage": {"output_tokens": 5}}
    return encode_events(events)


def _chat_parts() -> list[bytes]:
    return encode_chunks(chat_chunks(TEXT, usage=completion_usage(18, 5, cached_tokens=7)))


@dataclass(frozen=True)
class Way:
    """One way through: the model to ask for, the upstream behind it, and what that is asked."""

    model: str
    upstream: str
    path: str
    parts: Callable[[], list[bytes]]

    @property
    def provider(self) -> str:
        """The id of the provider."""
        return self.model.partition("/")[0]


WAYS = {
    "relayed": Way("vllm/m", "vllm", "/v1/messages", _native_parts),
    "repaired": Way("llamacpp/m", "llamacpp", "/v1/messages", _native_parts),
    "translated": Way("vllm-translated/m", "vllm", "/v1/chat/completions", _chat_parts),
    "by the provider": Way("own/m", "openai", "/v1/chat/completions", _chat_parts),
}
FLEET_WAYS = {
    "relayed": Way("vllm/vllm-model", "vllm", "/v1/messages", _native_parts),
    "repaired": Way("llamacpp/llamacpp-model", "llamacpp", "/v1/messages", _native_parts),
    "translated": Way("vllm-translated/vllm-model", "vllm", "/v1/chat/completions", _chat_parts),
}


@dataclass(frozen=True)
class Impatient:
    """A stack that pings early and does not wait long, and its upstreams."""

    stack: Stack
    upstreams: dict[str, ScriptedUpstream]
    jammed: socket.socket

    def reply(self, way: Way, answer: Reply) -> None:
        """Let the upstream of a way answer so."""
        self.upstreams[way.upstream].reply(way.path, answer)

    def requests(self, way: Way) -> list[RecordedRequest]:
        """The requests that came by a way."""
        return self.upstreams[way.upstream].requests_to(way.path)

    def last(self, way: Way) -> RecordedRequest:
        """The newest of them."""
        return self.requests(way)[-1]

    def stream(self, way: Way, answer: Reply) -> Answer:
        """The stream that this answer becomes."""
        self.reply(way, answer)
        return post(self.stack, way.model, stream=True)


def own_client_provider(url: str) -> Json:
    """A provider that wraps its chat completions: requests to it go through Llama Stack's inference API."""
    config = {"base_url": f"{url}/v1"}
    return {
        "provider_id": "own",
        "provider_type": "remote::own-client",
        "config": config,
        "module": "tests.live.own_client",
    }


@pytest.fixture(scope="module")
def _impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Impatient]:
    folder = tmp_path_factory.mktemp("impatient")
    makers = {"vllm": personalities.vllm, "llamacpp": personalities.llama_cpp, "openai": personalities.openai_style}
    with ExitStack() as opened:
        upstreams = {name: opened.enter_context(ScriptedUpstream(make(["m"]))) for name, make in makers.items()}
        jammed = opened.enter_context(socket.socket())
        jammed.bind(("127.0.0.1", 0))  # not listening yet: refused, so that the stack starts at once
        vllm, llamacpp, openai = (upstreams[name].url for name in makers)
        config = run_config(
            folder,
            inference=[
                vllm_provider(vllm),
                vllm_provider(vllm, "vllm-translated"),
                llama_cpp_provider(llamacpp, "llamacpp"),
                own_client_provider(openai),
                openai_provider(f"http://127.0.0.1:{jammed.getsockname()[1]}", "jammed"),
            ],
            messages={
                "routes": {"vllm-translated": "translation"},
                "ping": {"after_seconds": PING_AFTER},
                "probe": {"timeout_seconds": 2.0, "no_seconds": 600.0},
                "limits": {"connect_seconds": CONNECT, "first_byte_seconds": FIRST_BYTE, "idle_seconds": IDLE},
            },
        )
        stack = opened.enter_context(Stack(config, folder, env={"PYTHONPATH": str(ROOT)}))
        for way in WAYS.values():  # a probe would get the scripted answer
            assert post(stack, way.model).status == 200
        yield Impatient(stack, upstreams, jammed)
        assert complaints(stack.log()) == []


@pytest.fixture
def impatient(_impatient: Impatient) -> Iterator[Impatient]:
    for upstream in _impatient.upstreams.values():
        upstream.forget()
    yield _impatient
    for upstream in _impatient.upstreams.values():
        upstream.release()
        upstream.forget()


READ_HERE = ("relayed", "repaired", "translated")
"""The ways where the bytes of the upstream are read here."""


def on_each_way(check: Callable[[Way], None], names: Iterable[str] = WAYS) -> None:
    """Check every way, all at once: silences take their time."""
    with ThreadPoolExecutor(len(WAYS)) as pool:
        checks = {name: pool.submit(check, WAYS[name]) for name in names}
    for name, done in checks.items():
        if error := done.exception():
            error.add_note(f"on the way that is {name}")
            raise error


def check_whole(answer: Answer) -> None:
    """All of the message came, its usage included, and one `message_start`."""
    assert_well_formed(answer.events)
    message = fold(answer.events)
    assert message["content"][0]["text"] == TEXT
    assert message["stop_reason"] == "end_turn"
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"], usage["output_tokens"]) == (11, 7, 5)


# --- pings ---


def test_a_silence_within_the_answer_is_filled_with_pings(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        parts = way.parts()
        answer = impatient.stream(way, stream_reply([*parts[:4], Wait(SILENCE), *parts[4:]]))
        check_whole(answer)
        assert answer.types.index("ping") > answer.types.index("content_block_delta")

    on_each_way(check)


def test_a_ping_never_comes_within_an_event(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        raw, steps, done = b"".join(way.parts()), list[Step](), 0
        for cut in (raw.index(b"Hell") + 2, raw.index(b"o th") + 1, len(raw) - 2):
            steps += [raw[done:cut], Wait(0.7)]
            done = cut
        answer = impatient.stream(way, stream_reply([*steps, raw[done:]]))
        check_whole(answer)
        assert answer.types.count("ping") >= 2

    on_each_way(check)


SILENT_STARTS: dict[str, Callable[[list[bytes]], Reply]] = {
    "no headers": lambda parts: stream_reply(parts).delayed(SILENCE),
    "headers alone": lambda parts: stream_reply([Wait(SILENCE), *parts]),
    "a comment": lambda parts: stream_reply([b": processing\n\n", Wait(SILENCE), *parts]),
    "half an event": lambda parts: stream_reply([parts[0][:9], Wait(SILENCE), parts[0][9:], *parts[1:]]),
}


@pytest.mark.parametrize("start", SILENT_STARTS)
def test_a_silent_upstream_gets_its_message_started_once(impatient: Impatient, start: str) -> None:
    def check(way: Way) -> None:
        answer = impatient.stream(way, SILENT_STARTS[start](way.parts()))
        assert answer.types[:2] == ["message_start", "ping"]
        assert answer.events[0]["message"]["model"] == way.model
        check_whole(answer)

    on_each_way(check)


def test_an_upstream_s_comments_and_pings_before_its_message_are_not_passed_on(impatient: Impatient) -> None:
    """Before `message_start` a client knows no ping."""

    def check(way: Way) -> None:
        signs = [b": wait\n\n", b'event: ping\ndata: {"type": "ping"}\n\n']
        answer = impatient.stream(way, stream_reply([*signs, Wait(0.1), *way.parts()]))
        assert answer.types[0] == "message_start"
        check_whole(answer)

    on_each_way(check, ("relayed", "repaired"))


def test_comments_are_life_and_become_pings(impatient: Impatient) -> None:
    """llama.cpp and OpenRouter keep a stream alive with comments, which no client counts."""

    def check(way: Way) -> None:
        parts, beats = way.parts(), list[Step]([b":\n\n", Wait(0.2)]) * 18
        answer = impatient.stream(way, stream_reply([*parts[:4], *beats, *parts[4:]]))
        check_whole(answer)
        assert answer.types.count("ping") >= 3

    on_each_way(check, READ_HERE)


def test_nothing_follows_the_end_even_if_the_upstream_holds_the_connection(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        answer = impatient.stream(way, stream_reply([*way.parts(), FOREVER]))
        check_whole(answer)
        assert answer.types[-1] == "message_stop"
        eventually(lambda: impatient.last(way).disconnected_at)

    on_each_way(check)


def test_connections_are_used_again_after_streams(impatient: Impatient) -> None:
    for way in (WAYS[name] for name in READ_HERE):
        for _ in range(8):
            check_whole(impatient.stream(way, stream_reply(way.parts())))
        peers = [seen.peer for seen in impatient.requests(way)]
        assert set(peers[4:]) <= set(peers[:4])  # a probe asks three things at once, so there may be three


# --- limits ---


def limited(answer: Answer, words: str) -> None:
    """A limit's own text and type, as a status or, in a stream that has begun, as an event."""
    if answer.status == 200:
        assert_well_formed(answer.events)
        assert answer.last_error == ("timeout_error", words)
    else:
        assert answer.error == (504, "timeout_error", words)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("answer", [hang_reply(), silent_reply()], ids=["no headers", "headers alone"])
def test_an_upstream_that_does_not_begin_meets_the_first_byte_limit(
    impatient: Impatient, stream: bool, answer: Reply
) -> None:
    def check(way: Way) -> None:
        impatient.reply(way, answer)
        told = post(impatient.stack, way.model, stream=stream)
        limited(told, f"The upstream of provider '{way.provider}' did not begin to answer within {FIRST_BYTE:g} s")
        assert not stream or "ping" in told.types
        eventually(lambda: impatient.last(way).disconnected_at)

    on_each_way(check)


def test_an_upstream_that_stops_within_its_stream_meets_the_idle_limit(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        answer = impatient.stream(way, stream_reply([*way.parts()[:4], FOREVER]))
        limited(answer, f"The answer of provider '{way.provider}' stopped for {IDLE:g} s")
        assert "ping" in answer.types

    on_each_way(check)


def test_an_upstream_that_stops_within_a_whole_answer_meets_the_idle_limit(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        impatient.reply(way, half_a_body(way))
        limited(post(impatient.stack, way.model), f"The answer of provider '{way.provider}' stopped for {IDLE:g} s")

    on_each_way(check, READ_HERE)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_upstream_that_takes_no_connection_meets_the_connect_limit(impatient: Impatient, stream: bool) -> None:
    impatient.jammed.listen(0)
    with ExitStack() as opened:  # the queue of connections that nobody accepts is full
        for _ in range(3):
            filler = opened.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(impatient.jammed.getsockname())
        answer = post(impatient.stack, "jammed/m", stream=stream)
    limited(answer, f"The upstream of provider 'jammed' did not accept a connection within {CONNECT:g} s")


# --- errors, early and late ---


def test_an_error_within_the_first_interval_is_a_status(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        answer = impatient.stream(way, json_reply({"error": {"message": "not so"}}, status=400).delayed(0.05))
        assert answer.error == (400, "invalid_request_error", "not so")

    on_each_way(check)


def test_an_error_after_the_first_interval_is_an_event(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        refusal = json_reply({"error": {"message": "not so long"}}, status=400)
        answer = impatient.stream(way, refusal.delayed(SILENCE))
        assert_well_formed(answer.events)
        assert answer.types[:2] == ["message_start", "ping"]
        assert answer.last_error == ("invalid_request_error", "not so long")

    on_each_way(check)


def test_an_upstream_that_dies_in_its_silence_is_pinged_for_no_longer(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        answer = impatient.stream(way, cut_reply([*way.parts()[:4], Wait(SILENCE)]))
        assert_well_formed(answer.events)
        assert "ping" in answer.types
        assert answer.last_error[0] == "api_error"
        assert "message_delta" not in answer.types

    on_each_way(check)


# --- clients that go away ---

CLIENTS = 50
PROBED = 3


def mid_stream(way: Way) -> Reply:
    return stream_reply([*way.parts()[:4], FOREVER])


def half_a_body(way: Way) -> Reply:
    return Reply(200, {"content-type": "application/json"}, [b'{"id":', FOREVER])


SITUATIONS: dict[str, tuple[Callable[[Way], Reply], Json, bytes | None]] = {
    "in mid-stream": (mid_stream, {"stream": True}, b"Hell"),
    "before the headers of a stream": (lambda way: hang_reply(), {"stream": True}, None),
    "before the first token of a stream": (lambda way: silent_reply(), {"stream": True}, None),
    "before a whole answer": (lambda way: hang_reply(), {}, None),
    "within a whole answer": (half_a_body, {}, None),
}

each_situation = pytest.mark.parametrize("situation", SITUATIONS)


def sockets_of(stack: Stack) -> int:
    """How many sockets the server has open."""
    folder = Path(f"/proc/{stack.pid}/fd")
    found = 0
    for entry in folder.iterdir():
        try:
            found += os.readlink(entry).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def check_dropped(stack: Stack, upstream: ScriptedUpstream, way: Way, situation: str, clients: int) -> float:
    """Every client's departure reaches the upstream; returns the seconds that the last one took."""
    answer, more, seen = SITUATIONS[situation]
    upstream.reply(way.path, answer(way))
    before = sockets_of(stack)
    open_clients = [RawClient(stack, way.model, **more) for _ in range(clients)]
    eventually(lambda: len(upstream.requests_to(way.path)) == clients, within=30)
    for client in open_clients if seen else ():
        client.read_until(seen or b"")
    requests = upstream.requests_to(way.path)
    assert not any(request.over for request in requests)
    left_at = time.monotonic()
    for client in open_clients:
        client.hang_up()
    eventually(lambda: all(request.disconnected_at for request in requests), what="the upstream's knowledge of it")
    # A probe may have asked in between, and keeps its connections for the next one.
    eventually(lambda: sockets_of(stack) <= before + PROBED, what="the end of every connection")
    return max(request.disconnected_at or 0.0 for request in requests) - left_at


@each_situation
@pytest.mark.parametrize("way", FLEET_WAYS.values(), ids=FLEET_WAYS)
def test_clients_that_leave_are_known_to_the_upstream(fleet: Fleet, way: Way, situation: str) -> None:
    """Within a second where the machine is free; the bound here is for one that is not."""
    assert post(fleet.stack, way.model).status == 200  # a probe would get the scripted answer
    fleet.upstreams[way.upstream].forget()
    written = len(fleet.stack.log())
    assert check_dropped(fleet.stack, fleet.upstreams[way.upstream], way, situation, CLIENTS) < 5
    assert complaints(fleet.stack.log()[written:]) == []


@each_situation
def test_clients_that_leave_a_provider_s_own_client_are_known_to_the_upstream(
    impatient: Impatient, situation: str
) -> None:
    way = WAYS["by the provider"]
    assert check_dropped(impatient.stack, impatient.upstreams[way.upstream], way, situation, CLIENTS) < 5


def test_clients_that_leave_after_a_ping_are_known_to_the_upstream(impatient: Impatient) -> None:
    def check(way: Way) -> None:
        impatient.reply(way, hang_reply())
        clients = [RawClient(impatient.stack, way.model, stream=True) for _ in range(10)]
        for client in clients:
            client.read_until(b"event: ping")
        assert not any(seen.over for seen in impatient.requests(way))
        for client in clients:
            client.hang_up()
        eventually(lambda: all(seen.disconnected_at for seen in impatient.requests(way)), within=1.5)

    on_each_way(check)


# --- over the host's router and its inference store ---


def stored_models(stack: Stack) -> list[str]:
    """The models of the completions in the host's inference store."""
    try:
        with urllib.request.urlopen(f"{stack.base_url}/v1/chat/completions") as answer:
            return [row["model"] for row in orjson.loads(answer.read())["data"]]
    except urllib.error.HTTPError as error:  # the table is being made
        error.close()
        return []


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, ScriptedUpstream]]:
    """A stack that sends translated requests over the host's router."""
    folder = tmp_path_factory.mktemp("stored")
    settings = {"store_completions": True, "ping": {"after_seconds": PING_AFTER}}
    with ScriptedUpstream(personalities.openai_style(["m"])) as upstream:
        config = run_config(folder, inference=[openai_provider(upstream.url)], messages=settings)
        with Stack(config, folder) as stack:
            # The host makes its table with the first write, and twice if two come together.
            assert post(stack, ROUTED.model).status == 200
            eventually(lambda: ROUTED.model in stored_models(stack))
            written = len(stack.log())
            yield stack, upstream
            assert complaints(stack.log()[written:]) == []


ROUTED = Way("openai/m", "openai", "/v1/chat/completions", _chat_parts)


def test_the_host_s_router_is_waited_for_with_pings(stored: tuple[Stack, ScriptedUpstream]) -> None:
    stack, upstream = stored
    parts = ROUTED.parts()
    upstream.reply(ROUTED.path, stream_reply([*parts[:4], Wait(SILENCE), *parts[4:]]).delayed(SILENCE))
    answer = post(stack, ROUTED.model, stream=True)
    assert answer.types[:2] == ["message_start", "ping"]
    check_whole(answer)


@each_situation
def test_clients_that_leave_the_host_s_router_are_known_to_the_upstream(
    stored: tuple[Stack, ScriptedUpstream], situation: str
) -> None:
    stack, upstream = stored
    upstream.forget()
    assert check_dropped(stack, upstream, ROUTED, situation, CLIENTS) < 5


# --- what a stream keeps ---


@pytest.mark.parametrize("way", FLEET_WAYS.values(), ids=FLEET_WAYS)
def test_a_stream_keeps_nothing_of_its_prompt(fleet: Fleet, way: Way) -> None:
    """Hundreds of agents stream for minutes, each with a prompt of hundreds of kilobytes; kept once, it would be 48 MB
    here, and it was kept four times.
    """
    streams, prompt = 24, [{"role": "user", "content": "word " * 400_000}]
    assert post(fleet.stack, way.model, messages=prompt).status == 200
    fleet.upstreams[way.upstream].reply(way.path, stream_reply([*way.parts()[:4], FOREVER]))

    def open_streams(count: int) -> Iterator[RawClient]:
        for _ in range(count):
            client = RawClient(fleet.stack, way.model, stream=True, messages=prompt)
            client.read_until(b"message_start")
            yield client

    first = list(open_streams(4))  # takes what any number of them takes
    before = fleet.stack.resident_megabytes
    try:
        opened = list(open_streams(streams))
        assert fleet.stack.resident_megabytes - before < 24
    finally:
        for client in (*first, *opened):
            client.hang_up()
