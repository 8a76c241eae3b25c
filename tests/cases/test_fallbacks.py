"""Another model answers where the first refuses, is down, or has no room: on both routes and across them."""

from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic
from anthropic.types.beta import BetaFallbackBlock, BetaFallbackMessageIterationUsage

from tests.cases.bench import CHAT, FINE, HELLO, MESSAGES, Answer, Bench
from tests.support.upstream import (
    Json,
    RecordedRequest,
    Reply,
    Responder,
    chat_reply,
    cut_reply,
    json_reply,
    stream_reply,
)
from tests.support.waiting import eventually
from tests.support.wire import anthropic_message, anthropic_stream, encode_events

FIRST = pytest.mark.parametrize("by", ["vllm", "vllm-translated"], ids=["native", "translated"])
SECOND = pytest.mark.parametrize("spare", ["messages/spare", "chat/spare"], ids=["to_native", "to_translated"])
DETAILS = {"type": "refusal", "category": "cyber", "explanation": "No."}


def refuses(said: str = "") -> Callable[[RecordedRequest], Reply]:
    """A model that declines, after some words or none."""

    def answer(request: RecordedRequest) -> Reply:
        if request.path == CHAT:
            reply = chat_reply(said, finish_reason="content_filter")
            assert callable(reply)
            return reply(request)
        content: Any = [{"type": "text", "text": said}] if said else []
        details = {"stop_reason": "refusal", "stop_details": DETAILS, "model": request.json["model"]}
        message = anthropic_message(content, **details)
        if request.json.get("stream"):
            return stream_reply(encode_events(anthropic_stream(message)))
        return json_reply(message)

    return answer


def fails(status: int, said: str = "busy", kind: str = "overloaded_error") -> Reply:
    return json_reply({"type": "error", "error": {"type": kind, "message": said}}, status=status)


def first_says(bench: Bench, answer: Responder) -> None:
    bench.says(answer, by="vllm")
    bench.says(answer, by="vllm", path=MESSAGES)


def second_says(bench: Bench, answer: Responder) -> None:
    bench.says(answer, by="chat")
    bench.says(answer, by="messages", path=MESSAGES)


def kinds(answer: Answer) -> list[str]:
    return [block["type"] for block in answer.content]


def costs(answer: Answer) -> list[tuple[str, str]]:
    assert answer.message is not None, answer.error
    return [(each["type"], each["model"]) for each in answer.message["usage"]["iterations"]]


@SECOND
@FIRST
def test_a_refusal_before_any_word_is_answered_by_the_next(by: str, spare: str, bench: Bench) -> None:
    first_says(bench, refuses())
    answer = bench.ask(by=by, fallbacks=[{"model": spare}])
    assert answer.message is not None, answer.error
    block, said = answer.content
    marked = BetaFallbackBlock.model_validate(block)
    assert (marked.from_.model, marked.to.model) == (f"{by}/{bench.model}", spare)
    assert marked.trigger.category == ("cyber" if by == "vllm" else None)
    assert said["text"].startswith(("fine", "Hello"))
    assert (answer.message["model"], answer.stop_reason) == (spare, "end_turn")
    assert costs(answer) == [("message", f"{by}/{bench.model}"), ("fallback_message", spare)]
    BetaFallbackMessageIterationUsage.model_validate(answer.message["usage"]["iterations"][-1])
    own = answer.message["usage"]["iterations"][-1]
    assert all(answer.message["usage"][name] == own[name] for name in ("input_tokens", "output_tokens"))
    if not bench.stream:
        assert answer.headers["x-messages-model"] == spare
    name, path = ("messages", MESSAGES) if spare.startswith("messages") else ("chat", CHAT)
    (sent,) = bench.sent(by=name, path=path)
    assert "fallbacks" not in sent
    assert sent["model"] == "spare"


@SECOND
@FIRST
def test_what_was_said_before_a_refusal_stays_before_the_mark(by: str, spare: str, bench: Bench) -> None:
    first_says(bench, refuses("Well, to be"))
    answer = bench.ask(by=by, fallbacks=[{"model": spare}])
    assert kinds(answer) == ["text", "fallback", "text"]
    assert answer.content[0]["text"] == "Well, to be"
    assert answer.stop_reason == "end_turn"
    said = {"role": "assistant", "content": answer.content}
    again = bench.ask(HELLO, said, {"role": "user", "content": "And?"}, by=spare.partition("/")[0])
    assert again.status == 200
    assert "fallback" not in str(bench.sent(by="chat"))


@FIRST
@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_model_that_is_down_leaves_no_mark(status: int, by: str, bench: Bench) -> None:
    first_says(bench, fails(status))
    answer = bench.ask(by=by, fallbacks=[{"model": "chat/spare"}])
    assert answer.message is not None, answer.error
    assert (kinds(answer), answer.text) == (["text"], "fine")
    assert answer.message["model"] == f"{by}/{bench.model}"
    assert costs(answer) == [("fallback_message", "chat/spare")]
    assert answer.headers["x-messages-model"] == "chat/spare"
    assert answer.headers["x-messages-route"] == "translation"


@FIRST
def test_no_room_is_answered_by_a_model_with_more(by: str, bench: Bench) -> None:
    long = {"role": "user", "content": "word " * 40_000}
    by = by.replace("vllm", "windows")
    answer = bench.ask(long, by=by, model=f"{by}/w16384", fallbacks=[{"model": "messages/spare"}])
    assert costs(answer) == [("fallback_message", "messages/spare")]
    alone = bench.ask(long, by=by, model=f"{by}/w16384")
    assert alone.error is not None
    assert alone.error["message"].startswith("prompt is too long")


@FIRST
def test_other_failures_are_the_client_s_to_know(by: str, bench: Bench) -> None:
    first_says(bench, fails(400, "tools: no good", "invalid_request_error"))
    answer = bench.ask(by=by, fallbacks=[{"model": "chat/spare"}])
    assert answer.error is not None
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert bench.sent(by="chat") == []


@FIRST
def test_models_are_asked_in_their_order_each_with_its_own_parameters(by: str, bench: Bench) -> None:
    first_says(bench, refuses("Hm"))
    bench.says(fails(529), by="chat")
    bench.says(refuses(), by="messages", path=MESSAGES)
    bench.says(chat_reply("At last."), by="llamacpp")
    chain = [
        {"model": "chat/spare", "max_tokens": 7},
        {"model": "messages/spare", "max_tokens": None, "thinking": None},
        {"model": "llamacpp-translated/spare", "max_tokens": 9},
    ]
    answer = bench.ask(by=by, fallbacks=chain, max_tokens=50, thinking={"type": "adaptive"})
    assert kinds(answer) == ["text", "fallback", "fallback", "text"]
    hops = [(each["from"]["model"], each["to"]["model"]) for each in answer.content[1:3]]
    first = f"{by}/{bench.model}"
    assert hops == [(first, "messages/spare"), ("messages/spare", "llamacpp-translated/spare")]
    assert [kind for kind, _ in costs(answer)] == ["message", "message", "fallback_message"]
    assert answer.text == "HmAt last."
    assert {bench.sent(by="chat")[0].get(name) for name in ("max_tokens", "max_completion_tokens")} == {7, None}
    (second,) = bench.sent(by="messages", path=MESSAGES)
    assert (second["max_tokens"], "thinking" in second) == (50, False)
    assert bench.sent(by="llamacpp")[0]["max_tokens"] == 9


@FIRST
def test_where_nobody_answers_the_first_one_s_words_count(by: str, bench: Bench) -> None:
    second_says(bench, fails(500, "broken", "api_error"))
    chain = [{"model": "chat/spare"}, {"model": "messages/spare"}]
    first_says(bench, refuses("No, I"))
    refused = bench.ask(by=by, fallbacks=chain)
    assert refused.message is not None, refused.error
    assert (refused.text, refused.stop_reason, kinds(refused)) == ("No, I", "refusal", ["text"])
    assert refused.message["stop_details"]["type"] == "refusal"
    assert costs(refused) == [("message", f"{by}/{bench.model}")]
    first_says(bench, fails(529, "come back later"))
    down = bench.ask(by=by, fallbacks=chain)
    assert down.error is not None
    assert (down.status, down.error["type"]) == (529, "overloaded_error")


def test_a_stream_that_breaks_before_any_word_goes_on_with_the_next(bench: Bench) -> None:
    """An overloaded Anthropic endpoint says so after its `message_start`."""
    start = anthropic_stream(anthropic_message())[0]
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    bench.says(stream_reply(encode_events([start, error])), by="vllm", path=MESSAGES)
    answer = bench.ask(by="vllm", stream=True, fallbacks=[{"model": "chat/spare"}])
    assert (kinds(answer), answer.text) == (["text"], "fine")
    assert [event["type"] for event in answer.events].count("message_start") == 1
    assert costs(answer) == [("fallback_message", "chat/spare")]


def test_a_stream_that_breaks_after_some_words_ends_so(bench: Bench) -> None:
    events = encode_events(anthropic_stream(anthropic_message("Half of it")))
    bench.says(cut_reply(events[:5]), by="vllm", path=MESSAGES)
    answer = bench.ask(by="vllm", stream=True, fallbacks=[{"model": "chat/spare"}])
    assert answer.error is not None
    assert bench.sent(by="chat") == []


def test_models_that_nobody_has_are_named_and_the_others_asked(bench: Bench) -> None:
    first_says(bench, fails(503))
    own = f"vllm/{bench.model}"
    chain = [{"model": "nobody"}, {"model": own}, {"model": "chat/spare", "colour": "red"}, {"model": "chat/spare"}]
    answer = bench.ask(by="vllm", fallbacks=chain)
    assert answer.text == "fine"
    assert answer.dropped == "fallbacks.0, fallbacks.1, fallbacks.2.colour, fallbacks.3"
    refused = bench.ask(by="vllm", fallbacks=chain, strict=True)
    assert refused.error is not None
    assert refused.error["message"].startswith("fallbacks.0: cannot be honoured")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("sometimes", "fallbacks: "),
        ([{}], "fallbacks.0.model: "),
        (["m"], "fallbacks.0"),
        ([{"model": "chat/spare", "max_tokens": "many"}], "fallbacks.0.max_tokens: "),
        ([{"model": "chat/spare"}] * 17, "fallbacks: at most 16"),
    ],
)
@FIRST
def test_what_is_no_chain_is_refused_with_its_path(given: Any, path: str, by: str, bench: Bench) -> None:
    answer = bench.ask(by=by, fallbacks=given)
    assert answer.error is not None
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert answer.error["message"].startswith(path), answer.error


@FIRST
def test_configured_models_serve_where_one_is_down(by: str, bench: Bench) -> None:
    first_says(bench, fails(503))
    bench.says(fails(503), by="chat")
    answer = bench.ask(by=by)
    assert costs(answer) == [("fallback_message", "messages/spare")]
    assert answer.dropped is None
    assert kinds(answer) == ["text"]


@FIRST
def test_configured_models_serve_where_one_refuses(by: str, bench: Bench) -> None:
    """A client that asked for none is not sent a block that it may not know."""
    bench.says(fails(503), by="chat")
    first_says(bench, refuses())
    unasked = bench.ask(by=by)
    assert (kinds(unasked), unasked.stop_reason) == (["text"], "end_turn")
    assert unasked.message is not None
    assert unasked.message["model"] == f"{by}/{bench.model}"
    assert costs(unasked) == [("message", f"{by}/{bench.model}"), ("fallback_message", "messages/spare")]
    first_says(bench, refuses("Well"))
    unmarked = bench.ask(by=by)
    assert (unmarked.text, unmarked.stop_reason) == ("Well", "refusal")
    asked = bench.ask(by=by, fallbacks="default")
    assert (kinds(asked), asked.stop_reason) == (["text", "fallback", "text"], "end_turn")
    assert bench.ask(by=by, fallbacks=[]).stop_reason == "refusal"


@FIRST
def test_without_a_configured_chain_default_is_the_model_alone(by: str, bench: Bench) -> None:
    first_says(bench, refuses())
    answer = bench.ask(by=by, fallbacks="default", strict=True)
    assert (answer.stop_reason, answer.dropped) == ("refusal", None)
    assert "fallbacks" not in bench.sent(by="vllm", path=MESSAGES if by == "vllm" else CHAT)[0]


@FIRST
def test_the_first_model_s_answer_is_its_own(by: str, bench: Bench) -> None:
    first_says(bench, chat_reply("fine") if by != "vllm" else FINE)
    alone = bench.ask(by=by)
    answer = bench.ask(by=by, fallbacks=[{"model": "chat/spare"}])
    assert answer.message is not None
    assert alone.message is not None
    assert answer.content == alone.content
    assert "iterations" not in answer.message["usage"]
    assert bench.sent(by="chat") == []


def test_counts_have_nothing_to_do_with_it(bench: Bench) -> None:
    bench.says(fails(503), by="vllm", path="/v1/messages/count_tokens")
    assert bench.count(by="vllm", fallbacks=[{"model": "chat/spare"}]).status_code == 529
    assert bench.sent(by="chat") == []


def test_the_sdk_reads_a_stream_of_two_models(bench: Bench) -> None:
    first_says(bench, refuses("Hm"))
    client = Anthropic(base_url=str(bench.http.base_url), api_key="any", max_retries=0)
    with client.beta.messages.stream(
        model=f"vllm/{bench.model}",
        max_tokens=50,
        messages=[{"role": "user", "content": "Hi"}],
        fallbacks=[{"model": "chat/spare"}],
        betas=["server-side-fallback-2026-07-01"],
    ) as stream:
        message = stream.get_final_message()
    assert message.model == "chat/spare"
    assert [block.type for block in message.content] == ["text", "fallback", "text"]
    assert message.usage.iterations is not None
    assert [each.type for each in message.usage.iterations] == ["message", "fallback_message"]
    client.close()


def test_a_batch_s_requests_have_fallbacks_too(bench: Bench) -> None:
    first_says(bench, fails(503))
    client = Anthropic(base_url=str(bench.http.base_url), api_key="any", max_retries=0)
    params: Json = {
        "model": f"vllm/{bench.model}",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "fallbacks": [{"model": "chat/spare"}],
    }
    batch = client.beta.messages.batches.create(requests=[{"custom_id": "a", "params": params}])  # type: ignore[typeddict-item]
    eventually(lambda: client.beta.messages.batches.retrieve(batch.id).processing_status == "ended")
    (result,) = client.beta.messages.batches.results(batch.id)
    assert result.result.type == "succeeded"
    assert result.result.message.content[0].text == "fine"  # type: ignore[union-attr]
    client.close()
