"""What an upstream's failure is to a client: status, Anthropic's type, whether to try again; and what heals itself."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest

from tests.live.raw import Answer, complaints, post
from tests.support import personalities
from tests.support.laws import assert_well_formed, fold
from tests.support.replies import CUT, Reply, cut_reply, json_reply, raw_reply, stream_reply
from tests.support.stack import Stack, embedded_provider, free_port, openai_provider, run_config, vllm_provider
from tests.support.upstream import Personality, ScriptedUpstream, chat_reply
from tests.support.waiting import eventually
from tests.support.wire import (
    DONE,
    Json,
    anthropic_message,
    anthropic_stream,
    call_delta,
    chat_chunks,
    chat_completion,
    delta,
    encode_chunks,
    encode_events,
)

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
TEXT = "Hello there"

ENGINES: dict[str, Callable[..., Personality]] = {
    "vllm": personalities.vllm,
    "sglang": personalities.sglang,
    "llamacpp": personalities.llama_cpp,
    "ollama": personalities.ollama,
    "anthropic": personalities.anthropic,
}
# Each has a model of its own, since what was learned of one is remembered.
HEALED = ("parameter", "sampling", "template", "room", "no room", "system", "strict", "rename", "stubborn")


@dataclass(frozen=True)
class Route:
    """One route to an engine that speaks both dialects."""

    model: str
    path: str
    engine: str = "vllm"

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]

    @property
    def native(self) -> bool:
        return self.path == MESSAGES

    @property
    def parts(self) -> list[bytes]:
        """A whole stream in the route's dialect, an element an event."""
        if self.native:
            return encode_events(anthropic_stream(anthropic_message(TEXT), ping=False))
        return encode_chunks(chat_chunks(TEXT))


def route(engine: str, *, native: bool) -> Route:
    """A route to an engine."""
    name = engine if native else f"{engine}-translated"
    return Route(f"{name}/{engine}-model", MESSAGES if native else CHAT, engine)


# The first is relayed as bytes, the second mended event by event.
ROUTES = {
    "native": route("vllm", native=True),
    "mended": route("llamacpp", native=True),
    "translated": route("vllm", native=False),
}


@dataclass(frozen=True)
class Failing:
    """A stack whose upstreams fail by script."""

    stack: Stack
    upstreams: dict[str, ScriptedUpstream]

    def ask(self, way: Route, answer: Reply, *, stream: bool = False, **more: Any) -> Answer:
        """What a client gets where the upstream answers so."""
        self.upstreams[way.engine].reply(way.path, answer)
        return post(self.stack, way.model, stream=stream, **more)

    def asked(self, name: str, path: str = CHAT) -> list[Json]:
        """The bodies that an upstream got."""
        return [seen.json for seen in self.upstreams[name].requests_to(path)]


@pytest.fixture(scope="module")
def _failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Failing]:
    folder = tmp_path_factory.mktemp("failing")
    with ExitStack() as opened:
        kinds: dict[str, Personality] = {name: make([f"{name}-model"]) for name, make in ENGINES.items()}
        kinds |= {name: personalities.openai_style([f"{name}-model"]) for name in HEALED}
        upstreams = {name: opened.enter_context(ScriptedUpstream(kind)) for name, kind in kinds.items()}
        providers = [
            openai_provider(up.url, name.replace(" ", "-")) for name, up in upstreams.items() if name != "vllm"
        ]
        providers += [openai_provider(upstreams[name].url, f"{name}-translated") for name in ENGINES if name != "vllm"]
        providers += [vllm_provider(upstreams["vllm"].url, name) for name in ("vllm", "vllm-translated")]
        nobody = f"http://127.0.0.1:{free_port()}"
        providers += [openai_provider(nobody, "nobody"), openai_provider(nobody, "nobody-native")]
        routes = {f"{name}-translated": "translation" for name in ENGINES} | {"nobody-native": "native"}
        settings = {"routes": routes, "ping": {"after_seconds": 30.0}}
        stack = opened.enter_context(Stack(run_config(folder, inference=providers, messages=settings), folder))
        for name in ENGINES:  # a probe would get the scripted answer
            for native in (True, False):
                assert post(stack, route(name, native=native).model).status == 200
        yield Failing(stack, upstreams)
        assert complaints(stack.log()) == []


@pytest.fixture
def failing(_failing: Failing) -> Failing:
    for upstream in _failing.upstreams.values():
        upstream.forget()
    return _failing


each_route = pytest.mark.parametrize("way", ROUTES.values(), ids=ROUTES)
both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


# --- statuses ---

STATUSES: dict[int, tuple[int, str]] = {
    400: (400, "invalid_request_error"),
    401: (401, "authentication_error"),
    402: (402, "billing_error"),
    403: (403, "permission_error"),
    404: (404, "not_found_error"),
    408: (504, "timeout_error"),
    413: (413, "request_too_large"),
    422: (400, "invalid_request_error"),
    429: (429, "rate_limit_error"),
    500: (500, "api_error"),
    502: (502, "api_error"),
    503: (529, "overloaded_error"),
    504: (504, "timeout_error"),
    529: (529, "overloaded_error"),
}
REFUSED_KEY = "The upstream of provider '{}' refused the stack's credentials"


@each_route
@both
def test_statuses_become_anthropic_s(failing: Failing, way: Route, stream: bool) -> None:
    for status, (told, kind) in STATUSES.items():
        # In Anthropic's envelope a 404 is about the model; without it, it would be the endpoint that is missing.
        envelope = {"type": "error"} if way.native else {}
        body = {**envelope, "error": {"type": "an engine's own", "message": f"it said {status}", "code": None}}
        answer = failing.ask(way, json_reply(body, status=status), stream=stream)
        assert answer.error == (told, kind, REFUSED_KEY.format(way.provider) if status == 401 else f"it said {status}")
        assert answer.headers["content-type"] == "application/json"


@each_route
@both
def test_when_to_try_again_is_handed_on(failing: Failing, way: Route, stream: bool) -> None:
    for status in (429, 503, 529):
        told = {"retry-after": "7", "retry-after-ms": "6500", "x-should-retry": "true", "x-secret": "1"}
        answer = failing.ask(
            way, json_reply({"error": {"message": "later"}}, status=status, headers=told), stream=stream
        )
        assert {name: answer.headers.get(name) for name in told} == {**told, "x-secret": None}


TYPED: dict[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    413: anthropic.RequestTooLargeError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    503: anthropic.OverloadedError,
    504: anthropic.DeadlineExceededError,
}


@each_route
@both
def test_the_sdk_raises_its_own_exceptions(failing: Failing, way: Route, stream: bool) -> None:
    upstream = failing.upstreams[way.engine]
    request: Json = {"model": way.model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with anthropic.Anthropic(base_url=failing.stack.base_url, api_key="any", max_retries=0) as client:
        for status, kind in TYPED.items():
            body = {"type": "error", "error": {"type": "x", "message": "so it is"}}
            upstream.reply(way.path, json_reply(body, status=status))
            with pytest.raises(kind) as caught:
                client.messages.create(**request, stream=stream)
            assert caught.value.request_id
            assert caught.value.type == STATUSES[status][1]


@each_route
def test_the_sdk_tries_again_what_may_succeed_and_nothing_else(failing: Failing, way: Route) -> None:
    upstream = failing.upstreams[way.engine]
    request: Json = {"model": way.model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    with anthropic.Anthropic(base_url=failing.stack.base_url, api_key="any", max_retries=1) as client:
        upstream.queue(
            way.path, json_reply({"error": {"message": "busy"}}, status=503, headers={"retry-after-ms": "9"})
        )
        assert client.messages.create(**request).content
        assert len(upstream.requests_to(way.path)) == 2
        upstream.forget()
        upstream.reply(way.path, json_reply({"error": {"message": "Jinja template error: roles"}}, status=500))
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**request)
        assert len(upstream.requests_to(way.path)) == 1


DETERMINISTIC = (
    "'messages' is required",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "Value is not callable: null at row 1, column 1: (Jinja)",
    "model 'small' does not support tools",
)


@each_route
@both
@pytest.mark.parametrize("said", DETERMINISTIC)
def test_a_failure_that_comes_again_is_not_to_be_retried(failing: Failing, way: Route, stream: bool, said: str) -> None:
    answer = failing.ask(way, json_reply({"error": {"code": 500, "message": said}}, status=500), stream=stream)
    assert answer.error == (400, "invalid_request_error", said)
    assert answer.headers["x-should-retry"] == "false"


# --- what an engine says where the prompt is too long ---

_VLLM = (
    "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. "
    "Please reduce the length of the input messages."
)
_LLAMA_CPP = "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"
_OPENAI = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. "
    "Please reduce the length of the messages."
)
OVERFLOWS: dict[str, tuple[int, Json]] = {
    "vllm": (400, {"error": {"message": _VLLM, "type": "BadRequestError", "param": "input_tokens", "code": 400}}),
    "sglang": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens).",
            },
        },
    ),
    "llamacpp": (
        400,
        {
            "error": {
                "code": 400,
                "message": _LLAMA_CPP,
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 8192,
            }
        },
    ),
    "ollama": (400, {"error": {"message": _OPENAI, "type": "api_error", "code": None}}),
    "anthropic": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 9000 tokens > 8192 maximum",
            },
        },
    ),
}


@both
@pytest.mark.parametrize("native", [True, False], ids=["native", "translated"])
@pytest.mark.parametrize("engine", OVERFLOWS)
def test_a_full_context_is_told_in_words_that_agents_know(
    failing: Failing, engine: str, native: bool, stream: bool
) -> None:
    status, body = OVERFLOWS[engine]
    answer = failing.ask(route(engine, native=native), json_reply(body, status=status), stream=stream)
    assert answer.error == (400, "invalid_request_error", "prompt is too long: 9000 tokens > 8192 maximum")


@pytest.mark.parametrize("native", [True, False], ids=["native", "translated"])
@pytest.mark.parametrize("engine", OVERFLOWS)
def test_a_context_that_fills_up_in_mid_stream_is_told_alike(failing: Failing, engine: str, native: bool) -> None:
    way = route(engine, native=native)
    body = OVERFLOWS[engine][1]
    told = b"event: error\n" * native + b"data: " + orjson.dumps(body) + b"\n\n"
    answer = failing.ask(way, stream_reply([*way.parts[:3], told]), stream=True)
    assert_well_formed(answer.events)
    assert answer.last_error == ("invalid_request_error", "prompt is too long: 9000 tokens > 8192 maximum")


# --- answers that are none ---

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"


@each_route
@both
def test_a_proxy_s_page_is_told_by_its_title(failing: Failing, way: Route, stream: bool) -> None:
    for status, told in ((502, (502, "api_error")), (503, (529, "overloaded_error")), (504, (504, "timeout_error"))):
        answer = failing.ask(way, raw_reply(PAGE, content_type="text/html", status=status), stream=stream)
        assert answer.error == (*told, "502 Bad Gateway")


NOT_UNDERSTOOD: dict[str, tuple[Reply, bool]] = {
    "a page": (raw_reply(PAGE, content_type="text/html"), False),
    "a list": (json_reply([1, 2]), False),
    "another object": (json_reply({"hello": "there"}), False),
    "half of one": (raw_reply(b'{"type": "mess', content_type="application/json"), False),
    "nothing": (raw_reply(b"", content_type="application/json"), True),
}


@each_route
@both
@pytest.mark.parametrize("name", NOT_UNDERSTOOD)
def test_a_200_that_is_no_answer_is_an_error(failing: Failing, way: Route, stream: bool, name: str) -> None:
    reply, again = NOT_UNDERSTOOD[name]
    status, kind, message = failing.ask(way, reply, stream=stream).error
    assert (status, kind) == (502, "api_error")
    wanted = "a stream of events" if stream else "a message" if way.native else "a chat completion"
    assert message == f"The answer of provider '{way.provider}' is not {wanted}"
    headers = failing.ask(way, reply, stream=stream).headers
    assert headers.get("x-should-retry") == (None if again else "false")


ODD: tuple[Any, ...] = (None, True, 7, "odd", [], [None], ["odd"], {}, {"odd": 1}, [[]])


def misshapen(value: Any) -> Iterator[Any]:
    """A JSON value, each time with another odd one at one place in it."""
    yield from ODD
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, inner in places:
        for odd in misshapen(inner):
            changed: Any = value.copy()
            changed[place] = odd
            yield changed


CALLS = [{"id": "call_a", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}]
OUR_FAULT = b"Internal server error"
USE = {"type": "tool_use", "id": "toolu_a", "name": "look", "input": {"at": 1}}


@pytest.mark.parametrize("way", [ROUTES["translated"], ROUTES["mended"]], ids=["translated", "mended"])
def test_an_answer_of_any_shape_is_an_answer_or_the_upstream_s_fault(failing: Failing, way: Route) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    whole = (
        anthropic_message([thinking, {"type": "text", "text": TEXT}, USE])
        if way.native
        else chat_completion(TEXT, tool_calls=CALLS, reasoning_content="Hm.", usage=usage)
    )
    for shape in misshapen(whole):
        assert OUR_FAULT not in failing.ask(way, json_reply(shape)).body, shape
    pieces = anthropic_stream(whole) if way.native else chat_chunks(TEXT, tool_calls=CALLS, usage=usage)
    for at, piece in enumerate(pieces):
        for shape in misshapen(piece):
            told = [*pieces[:at], shape, *pieces[at + 1 :]]
            encoded = [b"event: %s\ndata: %s\n\n" % (_name(each), orjson.dumps(each)) for each in told]
            reply = stream_reply(encoded if way.native else encode_chunks(told))
            assert OUR_FAULT not in failing.ask(way, reply, stream=True).body, shape


def _name(event: Any) -> bytes:
    kind = event.get("type") if isinstance(event, dict) else None
    return kind.encode() if isinstance(kind, str) else b"odd"


@each_route
@both
def test_an_error_with_status_200_is_an_error(failing: Failing, way: Route, stream: bool) -> None:
    body = {"error": {"type": "rate_limit_exceeded", "message": "slow down", "code": "rate_limit_exceeded"}}
    answer = failing.ask(way, json_reply(body), stream=stream)
    assert answer.error == (429, "rate_limit_error", "slow down")


@each_route
def test_an_empty_stream_is_an_error(failing: Failing, way: Route) -> None:
    for steps in ([], [b": nothing\n\n"], [b"\n"], [] if way.native else [DONE]):
        answer = failing.ask(way, stream_reply(steps), stream=True)
        assert answer.error == (
            502,
            "api_error",
            f"The stream of provider '{way.provider}' ended before its message did",
        )


@each_route
def test_an_error_that_comes_first_in_a_stream_is_a_status(failing: Failing, way: Route) -> None:
    body = {"error": {"type": "overloaded_error", "message": "too many"}}
    told = encode_events([{"type": "error", **body}]) if way.native else encode_chunks([body])
    answer = failing.ask(way, stream_reply(told), stream=True)
    assert answer.error == (529, "overloaded_error", "too many")


# --- death in mid-stream ---

DEATHS: dict[str, Callable[[list[bytes]], Reply]] = {
    "the connection is reset": cut_reply,
    "the connection is reset within an event": lambda parts: stream_reply([*parts, b"event: content_bl", CUT]),
    "the body just ends": stream_reply,
    "the body just ends within an event": lambda parts: stream_reply([*parts, b'data: {"type": "content_bl']),
}


@each_route
@pytest.mark.parametrize("death", DEATHS)
def test_an_upstream_that_dies_in_mid_stream_is_an_error_event(failing: Failing, way: Route, death: str) -> None:
    for sent in range(1, 5):
        answer = failing.ask(way, DEATHS[death](way.parts[:sent]), stream=True)
        assert_well_formed(answer.events)
        assert answer.last_error[0] == "api_error"
        assert not {"message_delta", "message_stop"} & set(answer.types)
        assert answer.events[-1]["request_id"] == answer.headers["request-id"]


@each_route
def test_an_upstream_that_dies_before_its_first_event_is_a_status(failing: Failing, way: Route) -> None:
    answer = failing.ask(way, stream_reply([CUT]), stream=True)
    assert answer.error == (502, "api_error", f"The answer of provider '{way.provider}' broke off")


@each_route
def test_an_upstream_that_dies_within_a_whole_answer_is_a_status(failing: Failing, way: Route) -> None:
    half = Reply(200, {"content-type": "application/json", "content-length": "999"}, [b'{"type":', CUT])
    assert failing.ask(way, half).error == (502, "api_error", f"The answer of provider '{way.provider}' broke off")


@each_route
def test_an_upstream_that_is_cut_off_after_the_end_did_end(failing: Failing, way: Route) -> None:
    answer = failing.ask(way, stream_reply([*way.parts, CUT]), stream=True)
    assert_well_formed(answer.events)
    assert answer.types[-1] == "message_stop"


FOREIGN_ERRORS: dict[str, tuple[Json, tuple[str, str]]] = {
    "vllm": (
        {"type": "error", "error": {"type": "internal_error", "message": "EngineCore died"}},
        ("api_error", "EngineCore died"),
    ),
    "llamacpp": (
        {"code": 500, "message": "it is broken", "type": "server_error"},
        ("api_error", "it is broken"),
    ),
    "ollama": ({"error": "llama runner terminated"}, ("api_error", "llama runner terminated")),
    "anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_x"},
        ("overloaded_error", "Overloaded"),
    ),
}


@pytest.mark.parametrize("engine", FOREIGN_ERRORS)
def test_an_engine_s_own_error_in_mid_stream_becomes_one_that_clients_know(failing: Failing, engine: str) -> None:
    way = route(engine, native=True)
    body, told = FOREIGN_ERRORS[engine]
    event = b"event: error\ndata: " + orjson.dumps(body) + b"\n\n"
    answer = failing.ask(way, stream_reply([*way.parts[:3], event]), stream=True)
    assert_well_formed(answer.events)
    assert answer.last_error == told


def test_a_call_that_broke_off_is_never_whole(failing: Failing) -> None:
    """A client would run it."""
    way = ROUTES["translated"]
    call = call_delta(0, id="call_1", name="rm", arguments='{"path": "/tm')
    answer = failing.ask(way, stream_reply(encode_chunks([delta(tool_calls=[call])], done=False)), stream=True)
    assert answer.last_error[0] == "api_error"
    assert "content_block_stop" not in answer.types


@both
@pytest.mark.parametrize("provider", ["nobody", "nobody-native"])
def test_an_upstream_that_is_down_is_said_to_be(failing: Failing, provider: str, stream: bool) -> None:
    status, kind, message = post(failing.stack, f"{provider}/m", stream=stream).error
    assert (status, kind) == (502, "api_error")
    assert message == f"The upstream of provider '{provider}' could not be reached: Connection refused"


def test_an_embedded_model_whose_process_is_gone_is_said_to_be(scripted_stack: Callable[..., Stack]) -> None:
    stack = scripted_stack(inference=[embedded_provider()], messages={})
    assert post(stack, "llama-cpp/smollm2", max_tokens=1).status == 200
    for child in Path(f"/proc/{stack.pid}/task/{stack.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    told = "The provider has no upstream now: inline::llama-cpp is not running"
    for stream in (False, True):  # its connections may be known to be gone a moment before it is
        eventually(lambda: post(stack, "llama-cpp/smollm2", stream=stream).error == (502, "api_error", told))  # noqa: B023


# --- what heals itself ---


def refuses(name: str, message: str) -> Callable[[Any], Reply]:
    """A server that refuses one parameter and answers without it."""

    def answer(request: Any) -> Reply:
        if name in request.json:
            return json_reply({"error": {"message": message, "type": "invalid_request_error"}}, status=400)
        good = chat_reply(TEXT)
        assert callable(good)
        return good(request)

    return answer


def said(answer: Answer) -> str:
    """The text of an answer."""
    message = fold(answer.events) if answer.body.startswith(b"event:") else answer.json
    text = message["content"][0]["text"]
    assert isinstance(text, str)
    return text


def test_a_refused_parameter_is_left_out_and_named_and_remembered(failing: Failing) -> None:
    failing.upstreams["parameter"].reply(CHAT, refuses("top_k", "Unrecognized request argument supplied: top_k"))
    for stream, requests in ((True, 2), (False, 1), (True, 1)):
        failing.upstreams["parameter"].requests.clear()
        answer = post(failing.stack, "parameter/parameter-model", top_k=5, temperature=0.5, stream=stream)
        assert said(answer) == TEXT
        assert answer.headers["x-messages-dropped"] == "top_k"
        asked = failing.asked("parameter")
        assert [("top_k" in body, body["temperature"]) for body in asked] == [(True, 0.5), (False, 0.5)][-requests:]
    assert "x-messages-dropped" not in post(failing.stack, "parameter/parameter-model").headers


def test_several_refused_parameters_are_left_out_one_by_one(failing: Failing) -> None:
    def answer(request: Any) -> Reply:
        for name in ("temperature", "top_p", "top_k"):
            if name in request.json:
                text = f"Unsupported parameter: '{name}' is not supported with this model."
                return json_reply({"error": {"message": text, "param": name}}, status=400)
        good = chat_reply(TEXT)
        assert callable(good)
        return good(request)

    failing.upstreams["sampling"].reply(CHAT, answer)
    told = post(failing.stack, "sampling/sampling-model", temperature=0.5, top_p=0.9, top_k=3)
    assert said(told) == TEXT
    assert set(told.headers["x-messages-dropped"].split(", ")) == {"temperature", "top_p", "top_k"}


def test_a_strict_client_is_refused_instead(failing: Failing) -> None:
    said_no = "Unrecognized request argument supplied: top_k"
    failing.upstreams["strict"].reply(CHAT, refuses("top_k", said_no))
    for _ in range(2):
        answer = post(failing.stack, "strict/strict-model", top_k=5, headers={"x-messages-strict": "true"})
        assert answer.error[:2] == (400, "invalid_request_error")
        assert "top_k" in answer.error[2]


def test_a_limit_that_leaves_no_room_for_the_prompt_is_lowered_for_this_request(failing: Failing) -> None:
    def answer(request: Any) -> Reply:
        asked = request.json["max_tokens"]
        if asked > 192:
            text = (
                f"This model's maximum context length is 8192 tokens. However, you requested {8000 + asked} tokens "
                f"(8000 in the messages, {asked} in the completion). Please reduce the length of the messages."
            )
            return json_reply({"error": {"message": text}}, status=400)
        good = chat_reply(TEXT)
        assert callable(good)
        return good(request)

    failing.upstreams["room"].reply(CHAT, answer)
    for asked, sent in ((32000, [32000, 192]), (500, [500, 192]), (100, [100])):
        failing.upstreams["room"].requests.clear()
        told = post(failing.stack, "room/room-model", max_tokens=asked, stream=True)
        assert said(told) == TEXT
        assert [body["max_tokens"] for body in failing.asked("room")] == sent


def test_a_prompt_that_fills_the_window_is_not_healed(failing: Failing) -> None:
    text = (
        "This model's maximum context length is 8192 tokens. However, you requested 9064 tokens "
        "(9000 in the messages, 64 in the completion). Please reduce the length of the messages."
    )
    failing.upstreams["no room"].reply(CHAT, json_reply({"error": {"message": text}}, status=400))
    answer = post(failing.stack, "no-room/no room-model")
    assert answer.error == (400, "invalid_request_error", "prompt is too long: 9000 tokens > 8192 maximum")
    assert len(failing.asked("no room")) == 1


def test_system_messages_move_to_the_head_where_the_template_wants_it(failing: Failing) -> None:
    def answer(request: Any) -> Reply:
        if any(message["role"] == "system" for message in request.json["messages"][1:]):
            return json_reply({"error": {"message": "System message must be at the beginning."}}, status=400)
        good = chat_reply(TEXT)
        assert callable(good)
        return good(request)

    failing.upstreams["system"].reply(CHAT, answer)
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "Well?"},
    ]
    for requests in (2, 1):
        failing.upstreams["system"].requests.clear()
        told = post(failing.stack, "system/system-model", system="Be kind.", messages=turns)
        assert said(told) == TEXT
        assert len(failing.asked("system")) == requests
        head = failing.asked("system")[-1]["messages"][0]
        assert head["role"] == "system"
        assert "Be kind." in str(head["content"])
        assert "Be terse." in str(head["content"])


def test_a_limit_by_another_name_is_found(failing: Failing) -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    failing.upstreams["rename"].reply(CHAT, refuses("max_tokens", words))
    told = post(failing.stack, "rename/rename-model")
    assert said(told) == TEXT
    assert failing.asked("rename")[-1]["max_completion_tokens"] == 64
    assert "x-messages-dropped" not in told.headers


def test_an_upstream_that_refuses_everything_is_asked_a_few_times_at_most(failing: Failing) -> None:
    def answer(request: Any) -> Reply:
        names: Mapping[str, Any] = request.json
        name = next((n for n in ("temperature", "top_p", "top_k", "user", "stream_options") if n in names), "messages")
        return json_reply({"error": {"message": f"Unsupported parameter: '{name}'"}}, status=400)

    failing.upstreams["stubborn"].reply(CHAT, answer)
    more: Json = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "metadata": {"user_id": "u"}, "stream": True}
    told = post(failing.stack, "stubborn/stubborn-model", **more)
    assert told.error[:2] == (400, "invalid_request_error")
    assert len(failing.asked("stubborn")) <= 6
