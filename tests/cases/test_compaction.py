"""Conversations that the model summarises: on both routes, streamed and not."""

from typing import Any

import pytest
from anthropic import Anthropic

from llama_stack_messages_provider.rewriting.compaction import PROMPT
from llama_stack_messages_provider.rewriting.signatures import is_ours
from tests.cases.bench import CHAT, MESSAGES, TOOLS, Bench
from tests.support.upstream import Json, RecordedRequest, Reply, chat_reply, json_reply, stream_reply
from tests.support.wire import anthropic_message, anthropic_stream, encode_events, text_block

BY = pytest.mark.parametrize("by", ["vllm", "vllm-translated"], ids=["native", "translated"])
SUMMARY = "They looked at otters."
PLACED = f"<summary>\n{SUMMARY}\n</summary>"
TURNS: list[Json] = [
    {"role": "user", "content": "Look at the otters. " * 100},
    {"role": "assistant", "content": "They swim."},
    {"role": "user", "content": "What else?"},
]
SPENT = {"input_tokens": 900, "output_tokens": 30}


def edit(trigger: int, **fields: Any) -> Json:
    given = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": trigger}, **fields}
    return {"context_management": {"edits": [given]}}


def summarising(request: RecordedRequest, said: str = f"Well. <summary>{SUMMARY}</summary>") -> Reply:
    """A model that summarises where it is asked to, and says "fine" elsewhere."""
    asked = PROMPT[:40] in str(request.json["messages"][-1])
    text, usage = (said, SPENT) if asked else ("fine", {"input_tokens": 12, "output_tokens": 1})
    if request.path == CHAT:
        total = {"prompt_tokens": usage["input_tokens"], "completion_tokens": usage["output_tokens"]}
        reply = chat_reply(text, usage=total)
        assert callable(reply)
        return reply(request)
    message = anthropic_message([text_block(text)], usage=usage, model=request.json["model"])
    if request.json.get("stream"):
        return stream_reply(encode_events(anthropic_stream(message)))
    return json_reply(message)


@pytest.fixture
def model(bench: Bench) -> Bench:
    bench.says(summarising, by="vllm")
    bench.says(summarising, by="vllm", path=MESSAGES)
    return bench


def sent(bench: Bench, by: str) -> list[Json]:
    return bench.sent(by="vllm", path=MESSAGES if by == "vllm" else CHAT)


def text_of(message: Json) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@BY
def test_below_the_trigger_nothing_is_summarised(by: str, model: Bench) -> None:
    answer = model.ask(*TURNS, by=by, **edit(50_000))
    assert [block["type"] for block in answer.content] == ["text"]
    (body,) = sent(model, by)
    assert "context_management" not in body
    assert len(body["messages"]) == 3


@BY
def test_a_long_conversation_is_summarised_and_gone_on_with(by: str, model: Bench) -> None:
    answer = model.ask(*TURNS, by=by, **edit(300))
    assert answer.message is not None, answer.error
    summary, text = answer.content
    assert (summary["type"], summary["content"], text["text"]) == ("compaction", SUMMARY, "fine")
    assert is_ours(summary["signature"])
    assert answer.stop_reason == "end_turn"
    first, second = answer.message["usage"]["iterations"]
    assert (first["type"], first["input_tokens"], first["output_tokens"]) == ("compaction", 900, 30)
    assert (second["type"], second["input_tokens"], second["output_tokens"]) == ("message", 12, 1)
    assert answer.message["usage"]["input_tokens"] == 12
    asked, went_on = sent(model, by)
    assert [text_of(each) for each in asked["messages"][:2]] == [text_of(each) for each in TURNS[:2]]
    assert [(each["role"], text_of(each)) for each in went_on["messages"]] == [("user", PLACED)]


@BY
def test_the_next_turn_begins_with_the_summary(by: str, model: Bench) -> None:
    """Its prompt begins as the one before did, and all before the block is left out."""
    first = model.ask(*TURNS, by=by, **edit(300))
    said = {"role": "assistant", "content": first.content}
    second = model.ask(*TURNS, said, {"role": "user", "content": "And now?"}, by=by, **edit(300))
    assert second.text == "fine"
    *_, before, after = sent(model, by)
    grown = [(each["role"], text_of(each)) for each in after["messages"]]
    assert grown == [("user", PLACED), ("assistant", "fine"), ("user", "And now?")]
    assert [(each["role"], text_of(each)) for each in before["messages"]] == grown[:1]


@BY
def test_tools_that_are_gone_stay_so(by: str, model: Bench) -> None:
    gone = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Bash"}}
    turns = [*TURNS, {"role": "system", "content": [gone]}]
    first = model.ask(*turns, by=by, tools=TOOLS, **edit(300))
    assert first.content[0]["tool_changes"] == [gone]
    said = {"role": "assistant", "content": first.content}
    model.ask(*turns, said, {"role": "user", "content": "And now?"}, by=by, tools=TOOLS, **edit(300))
    *_, before, after = sent(model, by)
    assert after["messages"][: len(before["messages"])] == before["messages"]
    told = str(before["messages"][-1]["content"])
    assert ("tool_removal" if by == "vllm" else "The tool Bash is no longer available.") in told


@BY
def test_a_message_may_pause_after_its_summary(by: str, model: Bench) -> None:
    answer = model.ask(*TURNS, by=by, **edit(300, pause_after_compaction=True))
    assert answer.message is not None, answer.error
    assert answer.stop_reason == "compaction"
    assert [block["type"] for block in answer.content] == ["compaction"]
    assert [each["type"] for each in answer.message["usage"]["iterations"]] == ["compaction"]
    assert len(sent(model, by)) == 1
    model.ask(*TURNS, {"role": "assistant", "content": answer.content}, {"role": "user", "content": "Go on."}, by=by)
    told = [text_of(each) for each in sent(model, by)[-1]["messages"]]
    assert "".join(told).startswith(PLACED)
    assert "otters. Look" not in str(told)


@BY
def test_a_summary_that_failed_is_a_block_without_content_and_no_loss(by: str, model: Bench) -> None:
    def empty(request: RecordedRequest) -> Reply:
        return summarising(request, said="")

    model.says(empty, by="vllm")
    model.says(empty, by="vllm", path=MESSAGES)
    answer = model.ask(*TURNS, by=by, **edit(300))
    assert answer.content[0]["type"] == "compaction"
    assert answer.content[0]["content"] is None
    assert answer.text == "fine"
    assert len(sent(model, by)[-1]["messages"]) == 3
    model.ask(*TURNS, {"role": "assistant", "content": answer.content}, {"role": "user", "content": "Go on."}, by=by)
    assert len(sent(model, by)[-1]["messages"]) == 5


def test_what_only_a_translation_can_word_is_summarised_there(model: Bench) -> None:
    def no_effort(request: RecordedRequest) -> Reply:
        if "output_config" in request.json:
            return json_reply({"error": {"message": "Unsupported parameter: 'output_config'"}}, status=400)
        return summarising(request)

    model.says(no_effort, by="vllm", path=MESSAGES)
    answer = model.ask(*TURNS, by="vllm", output_config={"effort": "low"}, **edit(300))
    assert answer.route == "translation"
    assert [block.get("content") or block["text"] for block in answer.content] == [SUMMARY, "fine"]


@BY
def test_a_summary_on_demand_with_words_of_the_clients(by: str, model: Bench) -> None:
    words = f"{PROMPT[:40]} in one sentence."
    answer = model.ask(*TURNS, by=by, compaction={"type": "summarize", "instructions": words})
    assert answer.stop_reason == "compaction"
    assert [block["content"] for block in answer.content] == [SUMMARY]
    (body,) = sent(model, by)
    assert "compaction" not in body
    assert text_of(body["messages"][-1]).endswith(words)
    assert "Repeat word for word" not in text_of(body["messages"][-1])


BAD: list[tuple[Json, str]] = [
    ({"compaction": {"type": "forget"}}, "compaction.type: "),
    (edit(9, instructions=7), "context_management.edits.0.instructions: "),
    (edit(0), "context_management.edits.0.trigger.value: "),
]


@BY
@pytest.mark.parametrize(("asked", "path"), BAD, ids=[path for _, path in BAD])
def test_what_is_wrong_is_named(asked: Json, path: str, by: str, model: Bench) -> None:
    answer = model.ask(*TURNS, by=by, **asked)
    assert answer.status == 400
    assert str(answer.error and answer.error["message"]).startswith(path.rsplit(".", 1)[0].rstrip(": "))


@BY
def test_the_sdk_reads_the_summary(by: str, model: Bench) -> None:
    request: Json = {
        "model": f"{by}/{model.model}",
        "max_tokens": 100,
        "messages": TURNS,
        "betas": ["compact-2026-01-12"],
        **edit(300),
    }
    with Anthropic(base_url=str(model.http.base_url), api_key="none") as client:
        messages: Any = client.beta.messages
        if model.stream:
            with messages.stream(**request) as stream:
                message = stream.get_final_message()
        else:
            message = messages.create(**request)
    summary, text = message.content
    assert (summary.type, summary.content, text.text) == ("compaction", SUMMARY, "fine")
    assert message.usage.iterations[0].type == "compaction"
