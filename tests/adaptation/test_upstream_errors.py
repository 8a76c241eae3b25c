"""Upstreams' errors in Anthropic's words: overflow, statuses, bodies of every shape."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.adaptation.refusals import read_refusal
from llama_stack_messages_provider.adaptation.upstream_errors import from_event, from_status, message_of
from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.errors import MessagesError
from tests.strategies import json_values

type Json = dict[str, Any]


def openai(message: str, type: str = "invalid_request_error", **fields: Any) -> Json:
    return {"error": {"message": message, "type": type, "param": None, "code": None, **fields}}


# --- context overflow ---


@dataclass
class Overflow:
    id: str
    said: str
    told: tuple[int, int] | None
    """Prompt tokens and limit; None where the upstream gives no numbers."""
    status: int = 400


OVERFLOWS = [
    Overflow(
        "vLLM and OpenAI",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9100 tokens. "
        "Please reduce the length of the messages.",
        (9100, 8192),
    ),
    Overflow(
        "OpenAI, with functions",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9100 tokens "
        "(8000 in the messages, 1100 in the functions). Please reduce the length of the messages or functions.",
        (9100, 8192),
    ),
    Overflow(
        "OpenAI, a configured limit",
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens. "
        "Please reduce the length of the messages.",
        (300000, 272000),
    ),
    Overflow(
        "vLLM of 2024",
        "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the "
        "messages, 10000 in the completion). Please reduce the length of the messages or completion.",
        (112946, 16384),
    ),
    Overflow(
        "vLLM of 2025",
        "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. "
        "Please reduce the length of the input messages.",
        (9000, 8192),
    ),
    Overflow(
        "vLLM of 2026",
        "This model's maximum context length is 8192 tokens. However, you requested 0 output tokens and your prompt "
        "contains at least 8193 input tokens, for a total of at least 8193 tokens. Please reduce the length of the "
        "input prompt or the number of requested output tokens.",
        (8193, 8192),
    ),
    Overflow(
        "vLLM's engine",
        "The decoder prompt (length 88049) is longer than the maximum model length of 32768. Make sure that "
        "`max_model_len` is no smaller than the number of text tokens.",
        (88049, 32768),
        500,
    ),
    Overflow(
        "vLLM with pictures",
        "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
        (25938, 4096),
    ),
    Overflow(
        "llama.cpp",
        "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
        (9000, 8192),
    ),
    Overflow("llama.cpp of 2024", "the request exceeds the available context size, try increasing it", None),
    Overflow(
        "SGLang",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        (9000, 8192),
    ),
    Overflow(
        "SGLang, its tokenizer",
        "Input length (131393 tokens) exceeds the maximum allowed length (131040 tokens). Use a shorter input.",
        (131393, 131040),
    ),
    Overflow(
        "SGLang, prompt and output",
        "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of "
        "9100 tokens: 9000 tokens from the input messages and 100 tokens for the completion.",
        (9000, 8192),
    ),
    Overflow("Ollama", "prompt too long; exceeded max context length by 1200 tokens", None),
    Overflow("Ollama's embeddings", "the input length exceeds the context length", None),
    Overflow(
        "Mistral",
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        (40000, 32768),
    ),
    Overflow(
        "xAI",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        (537812, 131072),
    ),
    Overflow(
        "Gemini",
        "The input token count (1500000) exceeds the maximum number of tokens allowed (1048576).",
        (1500000, 1048576),
    ),
    Overflow("Groq", "Please reduce the length of the messages or completion.", None),
    Overflow(
        "Cerebras",
        "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
        (9000, 8192),
    ),
    Overflow(
        "TGI",
        "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000",
        (5000, 4096),
        422,
    ),
    Overflow("Fireworks", "The prompt is too long: 140000, model maximum context length: 131071", (140000, 131071)),
    Overflow("Copilot", "prompt token count of 200,000 exceeds the limit of 128,000", (200000, 128000)),
    Overflow(
        "Moonshot",
        "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
        (140000, 131072),
    ),
    Overflow(
        "OpenRouter",
        "This endpoint's maximum context length is 8192 tokens. However, you requested about 9500 tokens (9000 of "
        "text input, 500 in the output). Please reduce the length of either one.",
        (9000, 8192),
    ),
    Overflow("GLM", "Prompt exceeds max length", None),
    Overflow("GLM, another", "tokens in request more than max tokens allowed", None),
    Overflow(
        "GLM, which says that 182387 is more than 202750",
        "Request 182387 input tokens exceeds the model's maximum context length 202750",
        None,
    ),
    Overflow("oMLX", "Prompt too long: 32799 tokens exceeds max context window of 32768 tokens", (32799, 32768)),
    Overflow("Qwen", "InternalError.Algo.InvalidParameter: Range of input length should be [1, 204800]", None),
    Overflow("OpenAI, by its newest API", "Your input exceeds the context window of this model.", None),
    Overflow("Bedrock", "Input is too long for requested model.", None),
    Overflow("Anthropic", "prompt is too long: 9000 tokens > 8192 maximum", (9000, 8192)),
]


@pytest.mark.parametrize("case", OVERFLOWS, ids=lambda case: case.id)
def test_overflow_is_told_in_words_that_agents_know(case: Overflow) -> None:
    error = from_status(case.status, {}, openai(case.said))

    expected = f"{case.told[0]} tokens > {case.told[1]} maximum" if case.told else case.said
    assert error.message == f"prompt is too long: {expected}"
    assert (error.status, error.error_type) == (400, "invalid_request_error")


def test_numbers_beside_the_text_count_too() -> None:
    body = {
        "error": {
            "code": 400,
            "message": "the request exceeds the available context size",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 9000,
            "n_ctx": 8192,
        }
    }

    assert from_status(400, {}, body).message == "prompt is too long: 9000 tokens > 8192 maximum"
    read = read_refusal(400, body)
    assert (read.used, read.limit) == (9000, 8192)


def test_a_code_says_it_where_the_text_does_not() -> None:
    error = from_status(400, {}, openai("Too many words.", code="context_length_exceeded"))

    assert error.message == "prompt is too long: Too many words."


def test_a_prompt_that_fills_the_window_leaves_no_room_for_an_answer() -> None:
    said = "This model's maximum context length is 8192 tokens. However, your request has 8192 input tokens."

    assert from_status(400, {}, openai(said)).message == "prompt is too long: 8192 tokens > 8191 maximum"


ROOM = [
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 8192 "
        "tokens and your request has 300 input tokens (32000 > 8192 - 300).",
        "300 + 32000 > 8192",
    ),
    (
        "This model's maximum context length is 6048 tokens. However, you requested 6616 tokens (568 in the messages, "
        "6048 in the completion). Please reduce the length of the messages or completion.",
        "568 + 6048 > 6048",
    ),
    (
        "This endpoint's maximum context length is 262144 tokens. However, you requested about 284283 tokens (8963 of "
        "text input, 13176 of tool input, 262144 in the output). Please reduce the length of either one",
        "22139 + 262144 > 262144",
    ),
    ("input length and `max_tokens` exceed context limit: 198000 + 32000 > 200000, x", "198000 + 32000 > 200000"),
]


@pytest.mark.parametrize(("said", "numbers"), ROOM, ids=[said[:40] for said, _ in ROOM])
def test_too_large_an_output_is_told_in_the_words_that_agents_know(said: str, numbers: str) -> None:
    assert from_status(400, {}, openai(said)).message == (
        f"input length and `max_tokens` exceed context limit: {numbers}, decrease input length or `max_tokens` and try "
        "again"
    )


MODELS_LIMIT = (
    "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
    "`context_window` for this model"
)


@pytest.mark.parametrize(
    "said",
    [
        MODELS_LIMIT,
        "max_completion_tokens=32000 cannot be greater than max_model_len=4096. Please request fewer output tokens.",
    ],
)
def test_too_large_an_output_is_not_too_long_a_prompt(said: str) -> None:
    assert from_status(400, {}, openai(said)).message == said


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429])
def test_some_statuses_say_more_than_the_text(status: int) -> None:
    error = from_status(status, {}, openai("Rate limit: reduce the length of the messages, context length 9"))

    assert not error.message.startswith("prompt is too long")


UNRELATED = [
    "Invalid value for 'content': expected a string, got null.",
    "invalid base64 in image 9000 > 8192 bytes",
    "The maximum number of images is 10, got 12",
    "temperature must be between 0 and 1, got 9000",
    "tools.0.function.name: string should have at most 64 characters",
]


@pytest.mark.parametrize("said", UNRELATED)
def test_other_refusals_keep_their_words(said: str) -> None:
    error = from_status(400, {}, openai(said))

    assert (error.message, error.status) == (said, 400)
    assert read_refusal(400, said).kind not in (Kind.PROMPT_TOO_LONG, Kind.ROOM, Kind.OUTPUT_LIMIT)


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (MODELS_LIMIT, 8192),
        (
            "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you provided "
            "32000.",
            16384,
        ),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("max_tokens (32768) exceeds model's maximum output tokens (16384) for model kimi-k3", 16384),
        ("max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens for claude-3-5", 8192),
        ("`max_completion_tokens` must be less than or equal to `16384`, the maximum value", 16384),
        ("max_tokens must be positive", None),
        ("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]", 8192),
        (
            "The parameter max_tokens specified in the request is not valid: integer above maximum value, expected a "
            "value <= 8192, but got 64000 instead. Request id: 1",
            8192,
        ),
        (
            'litellm.BadRequestError: BedrockException - {"message":"The maximum tokens you requested exceeds the '
            'model limit of 8192. Try again with a maximum tokens value that is lower than 8192."}',
            8192,
        ),
        (
            "Unable to submit request because it has a maxOutputTokens value of 64000 but the supported range is from "
            "1 (inclusive) to 8193 (exclusive). Update the value and try again.",
            8192,
        ),
        ("Invalid 'max_tokens': integer above maximum value. Expected a value <= 16384, but got 64000 instead.", 16384),
        (ROOM[0][0], None),
    ],
)
def test_a_models_own_limit_of_output_is_found(said: str, limit: int | None) -> None:
    read = read_refusal(400, openai(said))
    assert (read.limit if read.kind is Kind.OUTPUT_LIMIT else None) == limit


# --- statuses ---

STATUSES = [
    (400, 400, "invalid_request_error"),
    (401, 401, "authentication_error"),
    (402, 402, "billing_error"),
    (403, 403, "permission_error"),
    (404, 404, "not_found_error"),
    (405, 405, "invalid_request_error"),
    (408, 504, "timeout_error"),
    (409, 409, "invalid_request_error"),
    (413, 413, "request_too_large"),
    (422, 400, "invalid_request_error"),
    (429, 429, "rate_limit_error"),
    (500, 500, "api_error"),
    (501, 400, "invalid_request_error"),
    (502, 502, "api_error"),
    (503, 529, "overloaded_error"),
    (504, 504, "timeout_error"),
    (520, 520, "api_error"),
    (529, 529, "overloaded_error"),
]


@pytest.mark.parametrize(("status", "told", "error_type"), STATUSES)
def test_statuses_become_anthropics(status: int, told: int, error_type: str) -> None:
    error = from_status(status, {}, openai("Sorry."))

    assert (error.status, error.error_type) == (told, error_type)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_when_to_try_again_is_handed_on(status: int) -> None:
    headers = {"retry-after": "3", "retry-after-ms": "2900", "x-should-retry": "true", "server": "x"}

    assert from_status(status, headers, openai("Busy.")).headers == {
        "retry-after": "3",
        "retry-after-ms": "2900",
        "x-should-retry": "true",
    }


def test_a_refused_key_is_not_repeated() -> None:
    error = from_status(401, {}, openai("Incorrect API key provided: sk-secret"))

    assert error.message == "The upstream refused the stack's credentials"
    assert error.headers == {"x-should-retry": "false"}


# --- failures that the same request meets again ---

DETERMINISTIC = [
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "System message must be at the beginning.",
    "tools param requires --jinja flag",
    "Error rendering chat template: 'None' has no attribute",
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    "Failed to parse grammar",
    "failed to parse messages: unsupported content[].type",
    "Unexpected message role.",
    "invalid image: unknown format",
    "Unsupported param: tool_choice",
    "Model does not support tools",
    "'messages' is required",
]

TRANSIENT = [
    "internal error",
    "Internal Server Error",
    "CUDA error: invalid device function",
    "CUDA error: operation not supported",
    "CUDA out of memory: image is not supported",
    "NCCL error: invalid usage",
    "connection reset by peer",
    "EngineCore encountered an issue. See stack trace (above) for the root cause.",
    "slot unavailable",
    "",
]


@pytest.mark.parametrize("said", DETERMINISTIC)
def test_a_failure_that_comes_again_is_not_to_be_retried(said: str) -> None:
    error = from_status(500, {"x-should-retry": "true"}, openai(said, "server_error"))

    assert (error.status, error.error_type) == (400, "invalid_request_error")
    assert error.headers == {"x-should-retry": "false"}
    assert error.message == said


@pytest.mark.parametrize("said", TRANSIENT)
def test_a_failure_of_the_machine_may_be_retried(said: str) -> None:
    error = from_status(500, {}, openai(said, "server_error"))

    assert (error.status, error.error_type) == (500, "api_error")
    assert "x-should-retry" not in error.headers


# --- bodies ---

BODIES = [
    ("OpenAI", openai("No."), "No."),
    ("llama.cpp", {"error": {"code": 400, "message": "No.", "type": "invalid_request_error"}}, "No."),
    ("vLLM of 2024", {"object": "error", "message": "No.", "type": "BadRequestError", "code": 400}, "No."),
    ("Ollama", {"error": "No."}, "No."),
    ("xAI", {"code": "Client specified an invalid argument", "error": "No."}, "No."),
    ("TGI", {"error": "No.", "error_type": "validation"}, "No."),
    ("Anthropic", {"type": "error", "error": {"type": "invalid_request_error", "message": "No."}}, "No."),
    ("Gemini", [{"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}], "No."),
    ("FastAPI, a text", {"detail": "No."}, "No."),
    (
        "FastAPI, a list",
        {
            "detail": [
                {"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "Field required"},
                {"type": "x", "loc": ["body"], "msg": "No."},
            ]
        },
        "messages.0.content: Field required; No.",
    ),
    (
        "Mistral",
        {
            "object": "error",
            "message": {
                "detail": [
                    {"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}
                ]
            },
        },
        "top_k: Extra inputs are not permitted",
    ),
    (
        "OpenRouter",
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": "No.", "provider_name": "x"},
            }
        },
        "Provider returned error: No.",
    ),
    ("text", "No.\n", "No."),
    ("bytes", b"No. \xff", "No. �"),
    ("a page", "<html>\n<head><title>502 Bad\nGateway</title></head><body><h1>x</h1></body>", "502 Bad Gateway"),
    ("a page as bytes", b"<!DOCTYPE html><p>Down for <b>now</b></p>", "Down for now"),
]


@pytest.mark.parametrize(("body", "message"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_the_text_is_found_in_bodies_of_any_shape(body: Any, message: str) -> None:
    assert from_status(400, {}, body).message == message


@pytest.mark.parametrize("body", [None, "", b"", {}, [], {"error": {}}, {"error": None}, {"error": {"message": ""}}, 3])
def test_a_body_without_a_text_leaves_the_status(body: Any) -> None:
    assert message_of(body) == ""
    assert from_status(502, {}, body).message == "The upstream answered with status 502"


def test_a_text_without_end_is_cut() -> None:
    assert len(message_of("x" * 10_000)) == 2000


@given(st.integers(400, 599), json_values() | st.dictionaries(st.sampled_from(["error", "message"]), json_values()))
def test_no_body_is_too_odd_to_tell(status: int, body: Any) -> None:
    for error in (from_status(status, {}, body), from_event(body)):
        assert isinstance(error, MessagesError)
        assert 400 <= error.status < 600
        assert error.message


# --- errors within streams ---

EVENTS = [
    (openai("No.", "BadRequestError", code=400), 400),
    ({"error": {"code": 503, "message": "No.", "type": "unavailable_error"}}, 529),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "No."}}, 529),
    ({"type": "error", "error": {"type": "invalid_request_error", "message": "No."}}, 400),
    (openai("No.", "rate_limit_error"), 429),
    (openai("No.", "requests", code="rate_limit_exceeded"), 429),
    (openai("No.", "server_error"), 500),
    ({"error": {"message": "No.", "code": "429"}}, 429),
    ({"error": {"message": "No.", "code": "1" * 5000}}, 500),
    ({"error": {"message": "No.", "status": "RESOURCE_EXHAUSTED"}}, 429),
    ({"object": "error", "message": "No.", "type": "BadRequestError", "code": 400}, 400),
    ({"error": "No."}, 500),
    ({"error": {"message": "No.", "code": 7}}, 500),
]


@pytest.mark.parametrize(("event", "status"), EVENTS)
def test_an_error_in_a_stream_has_the_status_that_it_speaks_of(event: Json, status: int) -> None:
    error = from_event(event)

    assert (error.status, error.message) == (status, "No.")


def test_overflow_in_a_stream_is_told_like_any_other() -> None:
    said = "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"

    assert from_event(openai(said)).message == "prompt is too long: 9000 tokens > 8192 maximum"
