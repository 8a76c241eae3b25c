"""Limits of models, in their services' words, on both routes."""

import json
from typing import Any

import pytest

from tests.cases.bench import CHAT, FINE, MESSAGES, Bench, refusing
from tests.fidelity.claude_code import SHAPES
from tests.support.upstream import Json

BY = pytest.mark.parametrize("by", ["chat", "messages"], ids=["translated", "native"])


def limit_of(body: Json) -> int:
    return int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)


def over(most: int) -> Any:
    return lambda body: limit_of(body) > most


def refuse(bench: Bench, by: str, said: Any, most: int, status: int = 400) -> list[Json]:
    """An upstream that refuses an output limit; the bodies it will get."""
    if by == "chat":
        bench.says(refusing(said, over(most), status=status))
    else:
        bench.says(refusing(said, over(most), status=status, then=FINE), by=by, path=MESSAGES)
    return []


def limits(bench: Bench, by: str) -> list[int]:
    return [limit_of(body) for body in bench.sent(by=by, path="/v1/chat/completions" if by == "chat" else MESSAGES)]


# musistudio/claude-code-router#1327 and #184; yiliqi78/TOKENICODE#3; deepseek-ai/awesome-deepseek-integration#432;
# BerriAI/litellm#5656; continuedev/continue#4225
OUTPUT: dict[str, Any] = {
    "DashScope": "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]",
    "Volcengine": {
        "error": {
            "code": "InvalidParameter",
            "message": "The parameter max_tokens specified in the request is not valid: integer above maximum value, "
            "expected a value <= 8192, but got 64000 instead. Request id: 1",
            "param": "max_tokens",
            "type": "BadRequest",
        }
    },
    "DeepSeek": "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    "Bedrock behind LiteLLM": 'litellm.BadRequestError: BedrockException - {"message":"The maximum tokens you '
    'requested exceeds the model limit of 8192. Try again with a maximum tokens value that is lower than 8192."}',
    "Anthropic": "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for some-model",
    "OpenAI": "max_tokens is too large: 64000. This model supports at most 8192 completion tokens, whereas you "
    "provided 64000.",
    "Groq": "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
    "`context_window` for this model",
    "Gemini": "Unable to submit request because it has a maxOutputTokens value of 64000 but the supported range is "
    "from 1 (inclusive) to 8193 (exclusive). Update the value and try again.",
}


@BY
@pytest.mark.parametrize("said", OUTPUT.values(), ids=OUTPUT)
def test_max_tokens_words(said: Any, by: str, bench: Bench) -> None:
    """`max_tokens` over the model's own output limit: asked again with the limit that was named."""
    refuse(bench, by, said, 8192)
    answer = bench.ask(by=by, max_tokens=64000)
    assert answer.error is None
    assert limits(bench, by) == [64000, 8192]


# earendil-works/pi#8991, mangowhoiscloud/geode#668; anomalyco/opencode#27629, NousResearch/hermes-agent#61728;
# foreveryh/claude-code-switch#12; jundot/omlx#26; QwenLM/qwen-code#98; fuergaosi233/claude-code-proxy#60;
# Alishahryar1/free-claude-code#391; janhq/jan#8108
TOO_LONG: dict[str, Any] = {
    "GLM 1261": {"error": {"code": "1261", "message": "Prompt exceeds max length"}},
    "GLM 1210": {"error": {"code": "1210", "message": "tokens in request more than max tokens allowed"}},
    "GLM 1210 with numbers": {
        "error": {
            "message": "Request 182387 input tokens exceeds the model's maximum context length 202750",
            "code": "1210",
        }
    },
    "oMLX": {"detail": "Prompt too long: 32799 tokens exceeds max context window of 32768 tokens"},
    "Qwen": {
        "error": {
            "message": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 204800]",
            "code": "invalid_parameter_error",
        }
    },
    "SGLang": {
        "object": "error",
        "message": "The input (233781 tokens) is longer than the model's context length (202752 tokens).",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "NIM": {
        "error": {
            "message": "This model's maximum context length is 196608 tokens. However, your messages resulted in "
            "199906 tokens. Please reduce the length of the messages.",
            "type": "Bad Request",
            "code": 400,
        }
    },
    "Jan": {
        "error": {
            "code": 400,
            "message": "request (24071 tokens) exceeds the available context size (8192 tokens), try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 24071,
            "n_ctx": 8192,
        }
    },
    "OpenAI": {
        "error": {
            "message": "This model's maximum context length is 128000 tokens. However, your messages resulted in "
            "130000 tokens. Please reduce the length of the messages.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    },
    "Gemini": {
        "error": {
            "code": 400,
            "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "status": "INVALID_ARGUMENT",
        }
    },
    "xAI": {
        "code": "invalid-argument",
        "error": "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
    },
}


@BY
@pytest.mark.parametrize("said", TOO_LONG.values(), ids=TOO_LONG)
def test_overflow_words(said: Any, by: str, bench: Bench) -> None:
    """The prompt is too long: in the words by which agents know that they have to compact."""
    refuse(bench, by, said, 0)
    answer = bench.ask(by=by)
    assert answer.status == 400
    assert answer.error is not None
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["message"].startswith("prompt is too long")
    assert len(limits(bench, by)) == 1


@BY
def test_overflow_of_the_output_alone(by: str, bench: Bench) -> None:
    """OpenRouter counts prompt and output together: asked again with the room that is left (openclaw#85921)."""
    said = (
        "This endpoint's maximum context length is 262144 tokens. However, you requested about 284283 tokens (8963 of "
        "text input, 13176 of tool input, 262144 in the output). Please reduce the length of either one"
    )
    refuse(bench, by, {"error": {"message": said, "code": 400}}, 240005)
    assert bench.ask(by=by, max_tokens=262144).error is None
    assert limits(bench, by)[-1] <= 240005


ROOM = {
    "0.11": "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is "
    "32768 tokens and your request has 17459 input tokens (32000 > 32768 - 17459). (parameter=max_tokens, value=32000)",
    "older": "This model's maximum context length is 32768 tokens. However, you requested 49459 tokens (17459 in the "
    "messages, 32000 in the completion). Please reduce the length of the messages or completion.",
}


@pytest.mark.parametrize("by", ["vllm", "vllm-translated"], ids=["native", "translated"])
@pytest.mark.parametrize("said", ROOM.values(), ids=ROOM)
def test_vllm_room(said: str, by: str, bench: Bench) -> None:
    """vLLM: the prompt fits, prompt and `max_tokens` do not; Claude Code asks for 32000.

    farion1231/cc-switch#1022, claude-code-best/claude-code#272 and #340
    """
    bench.says(refusing(said, over(15309)), by="vllm")
    bench.says(refusing(said, over(15309), then=FINE), by="vllm", path=MESSAGES)
    answer = bench.ask(by=by, max_tokens=32000)
    assert answer.error is None
    assert answer.route == ("native" if by == "vllm" else "translation")
    path = MESSAGES if by == "vllm" else "/v1/chat/completions"
    assert [limit_of(body) for body in bench.sent(by="vllm", path=path)] == [32000, 15309]


@BY
@pytest.mark.parametrize("said", ROOM.values(), ids=ROOM)
def test_room_in_a_window_that_nobody_told(said: str, by: str, bench: Bench) -> None:
    refuse(bench, by, said, 15309)
    assert bench.ask(by=by, max_tokens=32000).error is None
    assert limits(bench, by) == [32000, 15309]


CODING = SHAPES["330 first, unknown name"][1]
WINDOWS = {32_768: 32_000, 40_960: 32_000, 141_000: 128_000}


@pytest.mark.parametrize("by", ["windows", "windows-translated"], ids=["native", "translated"])
@pytest.mark.parametrize("window", WINDOWS)
def test_claude_codes_first_request_is_taken_at_the_first_try(window: int, by: str, bench: Bench) -> None:
    request = {**CODING, "max_tokens": WINDOWS[window], "model": f"{by}/w{window}", "stream": bench.stream}
    answer = bench.ask(by=by, **request)
    assert answer.error is None, answer.error
    assert answer.dropped is None or "max_tokens" not in answer.dropped
    path = CHAT if by == "windows-translated" else MESSAGES
    assert answer.route == ("native" if path == MESSAGES else "translation")
    (sent,) = bench.sent(by="windows", path=path)
    assert window // 3 < sent["max_tokens"] < WINDOWS[window]


def test_what_fits_goes_through_byte_by_byte_although_it_is_looked_through(bench: Bench) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 90_000}}
    said = [{"role": "user", "content": [image, {"type": "text", "text": "What is it?"}]}]
    raw = json.dumps(
        {"model": "windows/w32768", "max_tokens": 20_000, "messages": said, "stream": bench.stream}, indent=1
    )
    answer = bench.http.post("/v1/messages", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    sent = bench.upstreams["windows"].requests_to(MESSAGES)[-1].body.decode()
    assert sent == raw.replace("windows/w32768", "w32768")


@pytest.mark.parametrize("by", ["windows", "windows-translated"], ids=["native", "translated"])
def test_a_window_that_only_a_refusal_tells_is_known_from_then_on(by: str, bench: Bench) -> None:
    how = "streamed" if bench.stream else "whole"
    request = {**CODING, "max_tokens": 128_000, "model": f"{by}/untold-{by}-{how}-32768", "stream": bench.stream}
    for _ in range(2):
        assert bench.ask(by=by, **request).error is None
    path = CHAT if by == "windows-translated" else MESSAGES
    first, second, third = (body["max_tokens"] for body in bench.sent(by="windows", path=path))
    assert (first, second) == (128_000, third)
    assert 10_000 < third < 32_768


@pytest.mark.parametrize("by", ["windows", "windows-translated"], ids=["native", "translated"])
def test_a_prompt_that_no_window_has_room_for_is_told_in_the_words_that_agents_know(by: str, bench: Bench) -> None:
    answer = bench.ask({"role": "user", "content": "word " * 50_000}, by=by, model=f"{by}/w32768", max_tokens=32_000)
    assert (answer.status, answer.error and answer.error["type"]) == (400, "invalid_request_error")
    assert answer.error is not None
    assert answer.error["message"].startswith("prompt is too long: ")
    assert answer.error["message"].endswith(" tokens > 32768 maximum")


def test_vllm_that_names_its_window_only(bench: Bench) -> None:
    """vLLM 0.32 does not say how long the prompt is: it is estimated."""
    said = (
        "max_completion_tokens=32000 cannot be greater than max_model_len=4096. Please request fewer output tokens. "
        "(parameter=max_completion_tokens, value=32000)"
    )
    bench.says(refusing(said, over(4096)), by="vllm")
    bench.says(refusing(said, over(4096), then=FINE), by="vllm", path=MESSAGES)
    answer = bench.ask(by="vllm", max_tokens=32000)
    assert (answer.error, answer.route) == (None, "native")
    assert 3900 < bench.sent(by="vllm", path=MESSAGES)[-1]["max_tokens"] < 4096


@BY
def test_a_limit_is_remembered(by: str, bench: Bench) -> None:
    """The next request is sent with the limit, and one below it as it is."""
    refuse(bench, by, OUTPUT["DeepSeek"], 8192)
    for tokens in (64000, 64000, 100):
        assert bench.ask(by=by, max_tokens=tokens).error is None
    assert limits(bench, by) == [64000, 8192, 8192, 100]


@BY
def test_a_limit_holds_the_budget_of_thinking(by: str, bench: Bench) -> None:
    """`budget_tokens` must be below `max_tokens`."""
    refuse(bench, by, OUTPUT["Anthropic"], 8192)
    thinking = {"type": "enabled", "budget_tokens": 31999}
    assert bench.ask(by=by, max_tokens=64000, thinking=thinking).error is None
    if by == "messages":
        assert bench.sent(by=by, path=MESSAGES)[-1]["thinking"]["budget_tokens"] < 8192


@pytest.mark.parametrize("said", TOO_LONG.values(), ids=TOO_LONG)
def test_overflow_of_a_count(said: Any, bench: Bench) -> None:
    """A count of too long a prompt is a number, or says the same."""
    refuse(bench, "chat", said, -1)
    counted = bench.count()
    assert counted.status_code == 200 or counted.json()["error"]["message"].startswith("prompt is too long")
