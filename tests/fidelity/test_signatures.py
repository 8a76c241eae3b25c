"""Thinking is signed: never with nothing, verifiably, once a block, and never in a way that Anthropic would refuse."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import pytest

from llama_stack_messages_provider.rewriting.signatures import Signer
from tests.conftest import Fleet
from tests.fidelity.cases import HELLO, Json, answer
from tests.support import personalities
from tests.support.stack import Stack, openai_provider
from tests.support.upstream import (
    RecordedRequest,
    Reply,
    ScriptedUpstream,
    anthropic_message,
    anthropic_stream,
    encode_events,
    json_reply,
    stream_reply,
    text_block,
    thinking_block,
    tool_use_block,
)

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
KEY = "a key that all replicas share"
THOUGHT = "The user greets. Ünïcödé counts too."


def signed(identifier: str, thinking: str) -> str:
    """What the documentation promises: HMAC-SHA256 over the model and the text."""
    digest = hmac.new(KEY.encode(), f"{identifier}\0{thinking}".encode(), hashlib.sha256).digest()
    return "lsm1." + base64.b64encode(digest).decode()


def unsigned(request: RecordedRequest) -> Reply:
    """An engine that signs nothing."""
    message = anthropic_message([thinking_block(THOUGHT, ""), text_block("Hello.")])
    return stream_reply(encode_events(anthropic_stream(message))) if request.json.get("stream") else json_reply(message)


@pytest.fixture
def served(scripted_stack: Callable[..., Stack]) -> Iterator[anthropic.Anthropic]:
    """A server with a key, before an upstream that is translated to and one that is not."""
    with ScriptedUpstream() as plain, ScriptedUpstream(personalities.sglang()) as native:
        stack = scripted_stack(
            inference=[openai_provider(plain.url, "plain"), openai_provider(native.url, "native")],
            messages={"signing_key": KEY},
        )
        with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
            client.messages.create(**ask("native/test-model"))  # the probe is over before the script begins
            plain.reply(CHAT, answer("Hello.", reasoning_content=THOUGHT))
            native.reply(MESSAGES, unsigned)
            yield client


def ask(model: str, **more: Any) -> Any:
    return {"model": model, "max_tokens": 99, "messages": [HELLO], **more}


def test_thinking_is_signed_with_the_key_over_the_model_and_the_text(served: anthropic.Anthropic) -> None:
    for model in ("plain/test-model", "native/test-model"):
        for display in ("summarized", "omitted") if model.startswith("plain") else ("summarized",):
            request = ask(model, thinking={"type": "adaptive", "display": display})
            events = [event.to_dict() for event in served.messages.create(**request, stream=True)]
            shown: Any = served.messages.create(**request).content[0]
            assert shown.thinking == (THOUGHT if display == "summarized" else "")
            if display == "summarized":
                assert shown.signature == signed(model, THOUGHT)
            else:  # it carries the text
                assert Signer(KEY.encode(), model).carried("", shown.signature) == {"text": THOUGHT}
            check_signed_once(events, shown.signature)


def check_signed_once(events: list[dict[str, Any]], signature: str) -> None:
    """The signature comes alone, and the block's stop right after it."""
    deltas = [event.get("delta", {}).get("type") for event in events]
    assert deltas.count("signature_delta") == 1
    at = deltas.index("signature_delta")
    assert events[at]["delta"]["signature"] == signature
    assert events[at + 1] == {"type": "content_block_stop", "index": events[at]["index"]}
    assert "thinking_delta" not in deltas[at:]
    start = next(event for event in events if event["type"] == "content_block_start")
    assert start["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}


def history(signature: str) -> list[Json]:
    thought = thinking_block("Look first.", signature)
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Blue."}
    return [
        HELLO,
        {"role": "assistant", "content": [thought, text_block("I look."), tool_use_block("look", {}, id="toolu_1")]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [thinking_block("Only this.", signature)]},
        HELLO,
    ]


TOOLS: Any = [{"name": "look", "input_schema": {"type": "object"}}]


def test_our_signatures_do_not_go_to_anthropic(client: anthropic.Anthropic, fleet: Fleet) -> None:
    """It would refuse them; what it signed itself it wants back."""
    fleet.upstreams["openai"].reply(CHAT, answer("Hello.", reasoning_content="Hm."))
    ours: Any = client.messages.create(**ask("openai/openai-model", thinking={"type": "adaptive"})).content[0]
    for signature, kept in ((ours.signature, False), ("ErUBCkYIBxgCIkDZ", True)):
        messages = history(signature)
        client.messages.create(**ask("anthropic/anthropic-model", messages=messages, tools=TOOLS))
        sent = fleet.upstreams["anthropic"].last.json["messages"]
        if kept:
            assert sent == messages
        else:
            calls = {**messages[1], "content": messages[1]["content"][1:]}
            assert sent == [HELLO, calls, messages[2], HELLO]


@pytest.mark.parametrize("name", ["vllm", "sglang", "llamacpp", "ollama"])
def test_engines_that_check_no_signature_get_all_thinking_back(
    client: anthropic.Anthropic, fleet: Fleet, name: str
) -> None:
    for signature in ("lsm1.AAAA", "ErUBCkYIBxgCIkDZ", ""):
        messages = history(signature)
        client.messages.create(**ask(f"{name}-native/{name}-model", messages=messages, tools=TOOLS))
        assert fleet.upstreams[name].last.json["messages"] == messages


def test_any_signature_is_taken_and_the_thinking_replayed_when_it_is_translated(
    client: anthropic.Anthropic, fleet: Fleet
) -> None:
    for signature in ("lsm1.AAAA", "ErUBCkYIBxgCIkDZ", ""):
        client.messages.create(**ask("vllm-translated/vllm-model", messages=history(signature), tools=TOOLS))
        sent = fleet.upstreams["vllm"].last.json["messages"]
        assert [message.get("reasoning") for message in sent if message["role"] == "assistant"] == [
            "Look first.",
            "Only this.",
        ]


@pytest.mark.parametrize(("signature", "kept"), [(Signer(b"key", "m").of_summary("Otters."), False), ("ErUB", True)])
def test_summaries_go_to_anthropic_without_our_signature(
    client: anthropic.Anthropic, fleet: Fleet, signature: str, kept: bool
) -> None:
    summary: Json = {"type": "compaction", "content": "Otters.", "signature": signature}
    messages: list[Json] = [{"role": "assistant", "content": [summary]}, {"role": "user", "content": "And now?"}]
    client.messages.create(**ask("anthropic/anthropic-model", messages=messages))
    (block,) = fleet.upstreams["anthropic"].last.json["messages"][0]["content"]
    assert block == (summary if kept else {"type": "compaction", "content": "Otters."})
