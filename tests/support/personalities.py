"""How engines behave where a test says nothing: what a probe, a count or a wrong model name meets.

```
ScriptedUpstream(vllm(models=["m"]))      openai_style  vllm  sglang  llama_cpp  ollama  anthropic
                                          fastapi_404  answers_200_to_anything  dead  identities
fake_count(body)                          what every `count_tokens` here answers
```
A personality is data: script keys to answers (`upstream.Personality`). Spoil one with `.with_routes({...})`.
All of them answer `POST /v1/chat/completions` and, if they have it, `POST /v1/messages` with
"Hello from <model>", streamed or not as asked. A model that is not listed gets the engine's own refusal,
where it has one.

Read in vLLM 0.32.0 (`entrypoints/anthropic`, `serve/exception_handling`), SGLang 0.5.23 (`srt/entrypoints`),
Ollama fb30760 (`anthropic`, `middleware`); recorded from llama.cpp as built into xllamacpp 2026.11.
"""

from collections.abc import Mapping, Sequence

from tests.support.dialects import (
    CHAT,
    COUNT,
    DEFAULT_MODELS,
    DETAIL_404,
    DETAIL_405,
    MESSAGES,
    Check,
    Dialect,
    answer_count,
    checked,
    fake_count,
    first_refusal,
    greet,
    model_list,
    openai_model,
    required_fields,
)
from tests.support.engines import llama_cpp, ollama, sglang, vllm
from tests.support.replies import Reply, json_reply
from tests.support.upstream import Personality, RecordedRequest, Responder

__all__ = [
    "answers_200_to_anything",
    "anthropic",
    "dead",
    "fake_count",
    "fastapi_404",
    "identities",
    "llama_cpp",
    "ollama",
    "openai_style",
    "sglang",
    "vllm",
]


# --- OpenAI ---


def _openai_404(request: RecordedRequest) -> Reply:
    text = f"Invalid URL ({request.method} {request.path})"
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
    return json_reply({"error": error}, status=404)


def openai_style(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """OpenAI's own API: no `/v1/messages`; unknown paths are a 404 with OpenAI's error object."""
    routes = {"GET /v1/models": model_list(models, "system"), CHAT: checked(openai_model(models), greet)}
    return Personality("openai", routes, not_found=_openai_404)


def fastapi_404(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """An OpenAI-style server on FastAPI, as many are: unknown paths are `{"detail": "Not Found"}`."""
    routes: dict[str, Responder] = {"GET /v1/models": model_list(models, "someone"), CHAT: greet}
    return Personality("fastapi", routes, not_found=DETAIL_404, method_not_allowed=DETAIL_405)


# --- Anthropic ---

ANTHROPIC_HEADERS = {"request-id": "req_upstream0123456789", "anthropic-organization-id": "org-test"}


def _anthropic_error(message: str, kind: str, status: int) -> Reply:
    body = {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_upstream0123456789",
    }
    return json_reply(body, status=status, headers=ANTHROPIC_HEADERS)


def _anthropic_key(request: RecordedRequest) -> Reply | None:
    if request.headers.get("x-api-key") or request.headers.get("authorization"):
        return None
    return _anthropic_error("x-api-key header is required", "authentication_error", 401)


def _anthropic_validation(request: RecordedRequest) -> Reply | None:
    if "anthropic-version" not in request.headers:
        return _anthropic_error("anthropic-version: header is required", "invalid_request_error", 400)
    missing = required_fields(request)
    return _anthropic_error(f"{missing[0]}: Field required", "invalid_request_error", 400) if missing else None


def _anthropic_model(models: Sequence[str]) -> Check:
    def check(request: RecordedRequest) -> Reply | None:
        model = request.json["model"]
        return None if model in models else _anthropic_error(f"model: {model}", "not_found_error", 404)

    return check


def _anthropic_models(models: Sequence[str]) -> Reply:
    created = "2026-01-01T00:00:00Z"
    data = [{"type": "model", "id": model, "display_name": model, "created_at": created} for model in models]
    page = {"data": data, "has_more": False, "first_id": models[0], "last_id": models[-1]}
    return json_reply(page, headers=ANTHROPIC_HEADERS)


def anthropic(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """Anthropic's API with its OpenAI-compatible chat endpoint; wants a key and `anthropic-version`."""
    native = first_refusal(_anthropic_key, _anthropic_validation, _anthropic_model(models))
    routes: dict[str, Responder] = {
        "GET /v1/models": checked(_anthropic_key, _anthropic_models(models)),
        CHAT: checked(_anthropic_key, greet),
        MESSAGES: checked(native, Dialect(headers=ANTHROPIC_HEADERS).answer),
        COUNT: checked(native, answer_count),
    }
    not_found = _anthropic_error("Not Found", "not_found_error", 404)
    return Personality("anthropic", routes, not_found=not_found)


# --- the odd ones ---


def answers_200_to_anything(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """As LM Studio does: an unknown endpoint is a 200 whose body says that it is none.

    https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2055
    """

    def odd(request: RecordedRequest) -> Reply:
        text = f"Unexpected endpoint or method. ({request.method} {request.path}). Returning 200 anyway"
        return json_reply({"error": text})

    routes: dict[str, Responder] = {"GET /v1/models": model_list(models, "organization_owner"), CHAT: greet}
    return Personality("odd", routes, not_found=odd)


def dead(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """An upstream that is down: its port refuses connections."""
    del models
    return Personality("dead", listening=False)


def identities(users: Mapping[str, tuple[str, Mapping[str, list[str]]]]) -> Personality:
    """An endpoint for `stack.custom_auth`: token to (principal, attributes); an unknown one gets a 401."""

    def answer(request: RecordedRequest) -> Reply:
        known = users.get(request.json["api_key"])
        if known is None:
            return json_reply({"message": "unknown token"}, status=401)
        return json_reply({"principal": known[0], "attributes": dict(known[1])})

    return Personality("identities", {"POST /auth": answer})
