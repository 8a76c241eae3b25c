"""The streams of `tests/fixtures/sse`, sent by an upstream of their engine, as clients of the real server get them."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import anthropic
import pytest

from tests.live.raw import Answer, complaints, post
from tests.support import personalities
from tests.support.dialects import model_list
from tests.support.fixtures import sse_bytes, sse_is_sound, sse_names
from tests.support.laws import assert_well_formed, fold
from tests.support.replies import CUT, Step, Wait, stream_reply
from tests.support.sse import parse
from tests.support.stack import Stack, openai_provider, run_config
from tests.support.upstream import Personality, ScriptedUpstream

MESSAGES = "/v1/messages"


def gateway(models: list[str]) -> Personality:
    """A gateway that speaks Messages and does not say what it is."""
    return personalities.anthropic(models).with_routes({"GET /v1/models": model_list(models, "a-gateway")})


ENGINES: dict[str, Callable[[list[str]], Personality]] = {
    "llama_cpp": personalities.llama_cpp,
    "vllm": personalities.vllm,
    "sglang": personalities.sglang,
    "ollama": personalities.ollama,
    "anthropic": personalities.anthropic,
    "broken": gateway,
}
"""By the first words of the fixtures' names."""

FAILED = frozenset(
    {
        "anthropic_overloaded_mid_stream",
        "broken_cut_mid_frame",
        "broken_not_json",
        "llama_cpp_error_event_wrong_shape",
        "ollama_cut_without_an_error",
        "sglang_error_then_message_stop",
        "vllm_error_internal_error_type",
    }
)
"""Those that end in an error, or just end."""

UNKNOWN = "anthropic_unknown_event_and_fields"
"""What nobody knows yet, which the laws do not either."""

CHANGED = frozenset({"llama_cpp_stop_sequence_as_end_turn", "vllm_error_internal_error_type"})
"""Sound by the laws, and mended nevertheless."""


@dataclass(frozen=True)
class Recorded:
    """A stack in front of one upstream of each engine."""

    stack: Stack
    upstreams: dict[str, ScriptedUpstream]

    def play(self, name: str, steps: list[Step] | None = None) -> Answer:
        """A recorded stream, as a client gets it."""
        engine = engine_of(name)
        self.upstreams[engine].reply(MESSAGES, stream_reply(steps or [sse_bytes(name)]))
        return post(self.stack, model_of(name), stream=True)


def engine_of(name: str) -> str:
    """Whose stream it is."""
    return next(engine for engine in ENGINES if name.startswith(engine))


def model_of(name: str) -> str:
    """What a client asks for."""
    return f"{engine_of(name)}/m"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("recorded")
    with ExitStack() as opened:
        upstreams = {name: opened.enter_context(ScriptedUpstream(make(["m"]))) for name, make in ENGINES.items()}
        providers = [openai_provider(upstream.url, name) for name, upstream in upstreams.items()]
        stack = opened.enter_context(Stack(run_config(folder, inference=providers, messages={}), folder))
        for name in ENGINES:  # a probe would get the scripted answer
            assert post(stack, f"{name}/m").headers["x-messages-route"] == "native"
        yield Recorded(stack, upstreams)
        assert complaints(stack.log()) == []


ENDING = [name for name in sse_names() if name not in {*FAILED, UNKNOWN, "vllm_error_first"}]


@pytest.mark.parametrize("name", ENDING)
def test_a_recorded_stream_obeys_the_laws(recorded: Recorded, name: str) -> None:
    answer = recorded.play(name)
    assert_well_formed(answer.events)
    assert answer.types[-1] == "message_stop"
    assert answer.events[0]["message"]["model"] == model_of(name)


@pytest.mark.parametrize("name", sorted(FAILED))
def test_a_recorded_stream_that_failed_ends_in_an_error(recorded: Recorded, name: str) -> None:
    answer = recorded.play(name)
    assert_well_formed(answer.events)
    kind, message = answer.last_error
    assert kind in {"api_error", "overloaded_error", "invalid_request_error"}
    assert message
    assert "message_stop" not in answer.types


def test_a_recorded_error_that_came_first_is_a_status(recorded: Recorded) -> None:
    assert recorded.play("vllm_error_first").error == (500, "api_error", "EngineCore encountered an issue.")


@pytest.mark.parametrize("name", [name for name in sse_names() if name != "vllm_error_first"])
def test_a_recorded_stream_is_the_same_however_it_is_cut(recorded: Recorded, name: str) -> None:
    raw = sse_bytes(name)
    whole = recorded.play(name)
    # Pauses make pieces of their own of what the kernel would put together.
    steps: list[Step] = [step for at in range(0, len(raw), 211) for step in (raw[at : at + 211], Wait(0.002))]
    cut = recorded.play(name, steps)
    ours = re.compile(rb'"request_id":"[^"]*"|msg_[0-9a-f]{24}|toolu_[0-9a-f]{24}')
    assert ours.sub(b"", cut.body) == ours.sub(b"", whole.body)


def without_comments(raw: bytes) -> bytes:
    """A stream whose comments are left out, which a mended stream does not keep."""
    return re.sub(rb"(?m)^:.*\n\n", b"", raw)


SOUND = [name for name in sse_names() if sse_is_sound(name) and name not in {*CHANGED, "vllm_error_first"}]


@pytest.mark.parametrize("name", [*SOUND, UNKNOWN])
def test_what_needs_no_repair_comes_byte_by_byte_but_for_the_model(recorded: Recorded, name: str) -> None:
    raw = sse_bytes(name)
    if engine_of(name) not in ("vllm", "anthropic"):
        raw = without_comments(raw).removesuffix(b"data: [DONE]\n\n")
    named = re.sub(rb'("model": ?)"[^"]*"', rb'\1"%b"' % model_of(name).encode(), raw, count=1)
    assert recorded.play(name).body == named


@pytest.mark.parametrize("name", ENDING)
def test_the_sdk_accumulates_what_the_events_say(recorded: Recorded, name: str) -> None:
    folded = fold(recorded.play(name).events)
    with (
        anthropic.Anthropic(base_url=recorded.stack.base_url, api_key="any", max_retries=0) as client,
        client.messages.stream(
            model=model_of(name), max_tokens=99, messages=[{"role": "user", "content": "Hi"}]
        ) as stream,
    ):
        message = stream.get_final_message()
    assert [block.type for block in message.content] == [block["type"] for block in folded["content"]]
    for block, expected in zip(message.content, folded["content"], strict=True):
        for field in ("text", "thinking", "signature", "input", "name", "data"):
            assert getattr(block, field, None) == expected.get(field), field
    assert (message.stop_reason, message.stop_sequence) == (folded["stop_reason"], folded["stop_sequence"])
    assert message.usage.output_tokens == folded["usage"]["output_tokens"]
    assert message.usage.input_tokens == folded["usage"]["input_tokens"]


@pytest.mark.parametrize("name", ENDING)
def test_text_thinking_and_arguments_survive_the_repair(recorded: Recorded, name: str) -> None:
    def said(raw: bytes) -> dict[str, str]:
        found: dict[str, str] = {}
        for _, event in parse(raw):
            delta = event.get("delta") or {} if event.get("type") == "content_block_delta" else {}
            for field in ("text", "thinking", "partial_json"):
                found[field] = found.get(field, "") + (delta.get(field) or "")
        return found

    assert said(recorded.play(name).body) == said(sse_bytes(name))


def test_a_stream_that_is_cut_after_any_event_never_looks_whole(recorded: Recorded) -> None:
    for name in ("anthropic_thinking_text_calls", "llama_cpp_thinking_text_calls_overlapping", "sglang_two_calls"):
        frames = [frame + b"\n\n" for frame in sse_bytes(name).split(b"\n\n")[:-1]]
        for sent in range(1, len(frames) - 1, 2):
            answer = recorded.play(name, [*frames[:sent], CUT])
            assert_well_formed(answer.events)
            kind, words = answer.last_error
            assert kind == "api_error"
            assert re.fullmatch(r"The answer of provider '[\w-]+' broke off", words)
            assert "message_stop" not in answer.types
