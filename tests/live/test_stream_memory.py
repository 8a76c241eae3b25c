"""What streams keep of their prompts where all is configured at once: telemetry, budgets, shields, fallbacks, replicas.

Sizes are of the server's process; nothing is said about time.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.live.raw import RawClient, post
from tests.support.otlp import Collector
from tests.support.personalities import llama_cpp, vllm
from tests.support.replies import FOREVER, stream_reply
from tests.support.stack import Stack, injection_provider, llama_cpp_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import Json, anthropic_message, anthropic_stream, chat_chunks, encode_chunks, encode_events

STREAMS, WORDS = 12, 400_000
LIMIT = 12
"""Megabytes that the streams may take; of prompts kept once it would be 24, and of their JSON and bytes 48."""

VLLM, LLAMA, CHAT = "vllm/m", "llamacpp/m", "chat/m"
CLEARS = {"edits": [{"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 10**6}}]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "native": (VLLM, {}),
    "repaired": (LLAMA, {}),
    "translated": (CHAT, {}),
    "rewritten": (VLLM, {"context_management": CLEARS}),
    "rewritten and repaired": (LLAMA, {"context_management": CLEARS}),
    "replicas": ("replicas", {}),
    "fallbacks, native": ("vllm-b/m", {}),
    "fallbacks, translated": ("chat-b/m", {}),
    "diagnosed": (VLLM, {"diagnostics": {"previous_message_id": None}}),
    "judged calls": (VLLM, {"safeguards": [{"type": "dangerous_tool_use", "classifier_context": {"rules": {}}}]}),
}


@dataclass(frozen=True)
class Busy:
    """A stack with all of it, and its upstreams."""

    stack: Stack
    upstreams: list[ScriptedUpstream]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    folder = tmp_path_factory.mktemp("busy")
    with ExitStack() as opened:
        engine, llama = (opened.enter_context(ScriptedUpstream(make(["m"]))) for make in (vllm, llama_cpp))
        collector = opened.enter_context(Collector())
        names = ("vllm", "vllm-b", "chat", "chat-b")
        messages: Json = {
            "model_aliases": {"replicas": ["vllm/m", "vllm-b/m"]},
            "routes": {"chat": "translation", "chat-b": "translation"},
            "fallbacks": {"*-b/m": ["vllm/m"]},
            "probe": {"yes_seconds": 86_400},
            "budgets": {"rules": [{"requests_per_minute": 100_000}]},
            # What a shield holds back was not said: then another model may still be asked.
            "shields": {
                "rules": [{"models": "*-b/m"}, {"models": "*", "input": ["injection"], "output": ["injection"]}]
            },
        }
        config = run_config(
            folder,
            inference=[*(vllm_provider(engine.url, name) for name in names), llama_cpp_provider(llama.url, "llamacpp")],
            safety=[injection_provider()],
            shields=[{"shield_id": "injection", "provider_id": "injection"}],
            messages=messages,
        )
        stack = opened.enter_context(Stack(config, folder, env={"PYTHONPATH": str(ROOT), **collector.env}))
        yield Busy(stack, [engine, llama])


@pytest.mark.parametrize("case", CASES)
def test_a_stream_keeps_nothing_of_its_prompt(busy: Busy, case: str) -> None:
    model, more = CASES[case]
    prompt = [{"role": "user", "content": "word " * WORDS}]
    assert post(busy.stack, model, messages=prompt, **more).status == 200
    events = encode_events(anthropic_stream(anthropic_message("Hello there"), ping=False))
    for upstream in busy.upstreams:
        upstream.reply("/v1/messages", stream_reply([*events[:4], FOREVER]))
        upstream.reply("/v1/chat/completions", stream_reply([*encode_chunks(chat_chunks("Hello there"))[:3], FOREVER]))
    clients: list[RawClient] = []

    def open_streams(count: int) -> None:
        for _ in range(count):
            clients.append(RawClient(busy.stack, model, stream=True, messages=prompt, **more))
            clients[-1].read_until(b"message_start")

    try:
        open_streams(4)  # takes what any number of them takes
        before = busy.stack.resident_megabytes
        open_streams(STREAMS)
        assert busy.stack.resident_megabytes - before < LIMIT
    finally:
        for client in clients:
            client.hang_up()
        for upstream in busy.upstreams:
            upstream.forget()
