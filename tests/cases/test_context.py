"""Context editing over the real host: on both routes, streamed and not, and for counts."""

from typing import Any

import pytest
from anthropic import Anthropic

from llama_stack_messages_provider.rewriting.passes.context_edits import CLEARED
from tests.cases.bench import CHAT, MESSAGES, TOOLS, Bench
from tests.cases.windows import no_room, tokens_of
from tests.support.upstream import Json, RecordedRequest, Reply, chat_reply, json_reply, stream_reply
from tests.support.wire import (
    anthropic_message,
    anthropic_stream,
    call,
    completion_usage,
    encode_events,
    text_block,
    tool_use_block,
)

BY = pytest.mark.parametrize("by", ["windows", "windows-translated"], ids=["native", "translated"])
USES = "clear_tool_uses_20250919"
LONG = "word " * 400


def session(turns: int) -> list[Json]:
    """A question, and calls with their results."""
    messages: list[Json] = [{"role": "user", "content": "Look."}]
    for n in range(turns):
        used = {"type": "tool_use", "id": f"toolu_{n}", "name": "Read", "input": {"path": f"{n}.txt"}}
        messages.append({"role": "assistant", "content": [used]})
        result = {"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": LONG}
        messages.append({"role": "user", "content": [result]})
    return messages


def edits(**fields: Any) -> Json:
    return {"context_management": {"edits": [{"type": USES, **fields}]}}


def over(kind: str, value: int) -> Json:
    return {"type": kind, "value": value}


def sent(bench: Bench, by: str) -> list[Json]:
    return bench.sent(by="windows", path=MESSAGES if by == "windows" else CHAT)


@BY
def test_what_was_cleared_is_told(by: str, bench: Bench) -> None:
    edit = edits(trigger=over("tool_uses", 4), keep=over("tool_uses", 1))
    answer = bench.ask(*session(5), by=by, model=f"{by}/w32768", **edit)
    assert answer.message is not None, answer.error
    (applied,) = answer.message["context_management"]["applied_edits"]
    assert (applied["type"], applied["cleared_tool_uses"]) == (USES, 4)
    assert 2000 < applied["cleared_input_tokens"] < 2400
    (body,) = sent(bench, by)
    assert "context_management" not in body
    assert str(body["messages"]).count(CLEARED) == 4
    assert str(body["messages"]).count(LONG) == 1


@BY
def test_nothing_to_clear_is_told_as_well(by: str, bench: Bench) -> None:
    answer = bench.ask(*session(2), by=by, model=f"{by}/w32768", **edits())
    assert answer.message is not None
    assert answer.message["context_management"] == {"applied_edits": []}


def test_to_keep_all_thinking_changes_no_byte(bench: Bench) -> None:
    asked = {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}
    answer = bench.ask(by="windows", model="windows/w32768", **asked)
    assert answer.message is not None
    assert "context_management" not in answer.message
    assert sent(bench, "windows")[0]["context_management"] == asked["context_management"]


@BY
def test_a_bad_edit_is_refused_by_its_path(by: str, bench: Bench) -> None:
    answer = bench.ask(by=by, model=f"{by}/w32768", **edits(trigger=over("input_tokens", -1)))
    assert (answer.status, answer.error and answer.error["type"]) == (400, "invalid_request_error")
    assert str(answer.error and answer.error["message"]).startswith("context_management.edits.0.")
    assert sent(bench, by) == []


@BY
def test_counts_are_of_what_would_be_sent(by: str, bench: Bench) -> None:
    edit = edits(trigger=over("tool_uses", 4), keep=over("tool_uses", 1))
    plain = bench.count(*session(5), by=by, model=f"{by}/w32768").json()
    counted = bench.count(*session(5), by=by, model=f"{by}/w32768", **edit).json()
    assert plain.keys() == {"input_tokens"}
    assert counted["input_tokens"] < plain["input_tokens"] - 1500
    assert abs(counted["context_management"]["original_input_tokens"] - plain["input_tokens"]) < 300


@BY
def test_the_sdk_reads_what_was_applied(by: str, bench: Bench) -> None:
    request = {
        "model": f"{by}/w32768",
        "max_tokens": 1000,
        "messages": session(5),
        "betas": ["context-management-2025-06-27"],
        **edits(trigger=over("tool_uses", 4), clear_tool_inputs=True),
    }
    with Anthropic(base_url=str(bench.http.base_url), api_key="none") as client:
        messages: Any = client.beta.messages
        if bench.stream:
            with messages.stream(**request) as stream:
                message = stream.get_final_message()
        else:
            message = messages.create(**request)
    (applied,) = message.context_management.applied_edits
    assert (applied.type, applied.cleared_tool_uses) == (USES, 2)


SESSION = 200
EDIT = edits(trigger=over("input_tokens", 9000), clear_at_least=over("input_tokens", 2000), clear_tool_inputs=True)


def reads_on(request: RecordedRequest) -> Reply:
    """A model that reads a file in each turn, and says so; what does not fit its window it refuses."""
    if (refusal := no_room(request)) is not None:
        return refusal
    said = [text_block("Next."), tool_use_block("Read", {"path": "a.txt"}, id=f"call_{len(request.json['messages'])}")]
    if request.path == CHAT:
        made = call("Read", {"path": "a.txt"}, id=said[1]["id"])
        reply = chat_reply("Next.", tool_calls=[made], usage=completion_usage(tokens_of(request.json), 20))
        assert callable(reply)
        return reply(request)
    usage = {"input_tokens": tokens_of(request.json), "output_tokens": 20}
    message = anthropic_message(said, usage=usage, model=request.json["model"])
    if request.json.get("stream"):
        return stream_reply(encode_events(anthropic_stream(message, piece=50)))
    return json_reply(message)


def common(first: list[Json], second: list[Json]) -> int:
    """How many messages two prompts begin with."""
    return next((n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), len(first))


@BY
def test_two_hundred_turns_with_tools_at_a_window_of_16k(by: str, bench: Bench) -> None:
    """A whole session: what the model says is sent back to it, each turn is one request, and each is taken.

    The last three results are always there, prompts grow at their end, and their beginning changes in few steps.
    """
    bench.says(reads_on, by="windows")
    bench.says(reads_on, by="windows", path=MESSAGES)
    messages: list[Json] = [{"role": "user", "content": "Look."}]
    before: list[Json] = []
    steps = 0
    for turn in range(1, SESSION + 1):
        answer = bench.ask(*messages, by=by, model=f"{by}/w16384", max_tokens=32_000, tools=TOOLS, **EDIT)
        assert answer.error is None, (turn, answer.error)
        assert answer.stop_reason == "tool_use"
        asked = sent(bench, by)
        assert len(asked) == 1, turn
        prompt = asked[0]["messages"]
        assert tokens_of(asked[0]) < 16_384
        assert str(prompt).count(LONG) >= min(turn - 1, 3)
        steps += common(before, prompt) < len(before)
        before = prompt
        bench.upstreams["windows"].requests.clear()
        used = [block["id"] for block in answer.content if block["type"] == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": each, "content": LONG} for each in used]
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    # A step clears 2,000 tokens, the results of some four turns.
    assert 5 < steps <= SESSION / 4, steps
