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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tests.support.replies import Reply, json_reply, raw_reply, stream_reply
from tests.support.upstream import Personality, RecordedRequest, Responder, chat_reply
from tests.support.wire import (
    CREATED,
    Json,
    anthropic_message,
    anthropic_stream,
    encode_events,
    text_block,
)

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

DEFAULT_MODELS = ("test-model",)
MESSAGES = "POST /v1/messages"
COUNT = "POST /v1/messages/count_tokens"
CHAT = "POST /v1/chat/completions"
MAX_MODEL_LEN = 8192

type Check = Callable[[RecordedRequest], Reply | None]
"""What is wrong with a request, as the engine would put it; None if nothing is."""


def fake_count(body: Json) -> int:
    """A token count that depends on everything a prompt is made of, and on nothing else."""
    prompt = {name: body[name] for name in ("system", "messages", "tools", "tool_choice", "thinking") if name in body}
    return len(orjson.dumps(prompt, option=orjson.OPT_SORT_KEYS)) // 4


# --- parts ---


def model_list(models: Sequence[str], owned_by: str, **fields: Any) -> Reply:
    """`GET /v1/models` in OpenAI's shape."""
    head: Json = {"object": "model", "created": CREATED, "owned_by": owned_by, **fields}
    return json_reply({"object": "list", "data": [{"id": model, **head} for model in models]})


def _checked(check: Check, answer: Responder) -> Responder:
    def respond(request: RecordedRequest) -> Reply:
        refusal = check(request)
        if refusal is not None:
            return refusal
        return answer(request) if callable(answer) else answer

    return respond


def _first(*checks: Check) -> Check:
    return lambda request: next((refusal for check in checks if (refusal := check(request))), None)


def _greeting(request: RecordedRequest) -> str:
    return f"Hello from {request.json.get('model')}"


def _chat(request: RecordedRequest) -> Reply:
    answer = chat_reply(_greeting(request))
    assert callable(answer)
    return answer(request)


@dataclass(frozen=True)
class _Dialect:
    """How an engine writes Anthropic's answers down.

    Args:
        adapt: Changes the message or event to the engine's habits; None drops an event.
        headers: Headers of every answer.
    """

    adapt: Callable[[Json], Json | None] = lambda part: part
    headers: Mapping[str, str] | None = None

    def answer(self, request: RecordedRequest) -> Reply:
        """A greeting, streamed or not."""
        usage = {"input_tokens": fake_count(request.json), "output_tokens": 5}
        model = request.json["model"]
        message = anthropic_message([text_block(_greeting(request))], usage=usage, model=model)
        if not request.json.get("stream"):
            return json_reply(self.adapt(message), headers=self.headers)
        events = (self.adapt(event) for event in anthropic_stream(message))
        return stream_reply(encode_events(event for event in events if event), headers=self.headers)


def _count(request: RecordedRequest) -> Reply:
    return json_reply({"input_tokens": fake_count(request.json)})


def _missing(request: RecordedRequest, *required: str) -> list[str]:
    body = request.json if isinstance(request.json, dict) else {}
    return [name for name in required if name not in body]


def _required(request: RecordedRequest) -> list[str]:
    counting = request.path.endswith("/count_tokens")
    return _missing(request, "model", "messages", *([] if counting else ["max_tokens"]))


def _wrong_types(request: RecordedRequest) -> list[tuple[str, str]]:
    """The fields whose type is wrong and pydantic's words for it."""
    kinds: dict[str, tuple[type, str]] = {
        "model": (str, "Input should be a valid string"),
        "messages": (list, "Input should be a valid list"),
        "max_tokens": (int, "Input should be a valid integer"),
    }
    body = request.json
    return [(name, text) for name, (kind, text) in kinds.items() if not isinstance(body.get(name), kind | None)]


def _fastapi_errors(request: RecordedRequest) -> list[Json]:
    missing = [
        {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": request.json}
        for name in _required(request)
    ]
    wrong = [
        {"type": text.split()[-1], "loc": ["body", name], "msg": text, "input": request.json[name]}
        for name, text in (_wrong_types(request) if isinstance(request.json, dict) else [])
        if name in request.json
    ]
    return missing + wrong


DETAIL_404 = json_reply({"detail": "Not Found"}, status=404)
DETAIL_405 = json_reply({"detail": "Method Not Allowed"}, status=405)


# --- OpenAI ---


def _openai_404(request: RecordedRequest) -> Reply:
    text = f"Invalid URL ({request.method} {request.path})"
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
    return json_reply({"error": error}, status=404)


def _openai_model(models: Sequence[str]) -> Check:
    def check(request: RecordedRequest) -> Reply | None:
        model = (request.json or {}).get("model")
        if model in models:
            return None
        text = f"The model `{model}` does not exist or you do not have access to it."
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": "model_not_found"}
        return json_reply({"error": error}, status=404)

    return check


def openai_style(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """OpenAI's own API: no `/v1/messages`; unknown paths are a 404 with OpenAI's error object."""
    routes = {"GET /v1/models": model_list(models, "system"), CHAT: _checked(_openai_model(models), _chat)}
    return Personality("openai", routes, not_found=_openai_404)


def fastapi_404(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """An OpenAI-style server on FastAPI, as many are: unknown paths are `{"detail": "Not Found"}`."""
    routes: dict[str, Responder] = {"GET /v1/models": model_list(models, "someone"), CHAT: _chat}
    return Personality("fastapi", routes, not_found=DETAIL_404, method_not_allowed=DETAIL_405)


# --- vLLM ---


def _vllm_error(message: str, kind: str, status: int, param: str | None = None) -> Reply:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return json_reply({"error": error}, status=status)


def _vllm_validation(request: RecordedRequest) -> Reply | None:
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        text = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        return _vllm_error(text, "Bad Request", 400)
    if request.json is None:
        text = "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.0', 'msg': 'JSON decode error'}"
        return _vllm_error(text, "Bad Request", 400, "body.0")
    errors = _fastapi_errors(request)
    if not errors:
        return None
    lines = [{**error, "loc": ".".join(error["loc"]), "input": "<dict of 0 items>"} for error in errors]
    label = "error" if len(errors) == 1 else "errors"
    text = f"{len(errors)} validation {label}:\n" + "\n".join(f"  {line}" for line in lines)
    return _vllm_error(text, "Bad Request", 400, lines[0]["loc"])


def _vllm_model(models: Sequence[str], *, anthropic_shape: bool) -> Check:
    def check(request: RecordedRequest) -> Reply | None:
        model = request.json["model"]
        if model in models:
            return None
        text = f"The model `{model}` does not exist."
        if anthropic_shape:
            return json_reply({"type": "error", "error": {"type": "NotFoundError", "message": text}}, status=404)
        return _vllm_error(text, "NotFoundError", 404)

    return check


def _vllm_adapt(part: Json) -> Json | None:
    """No pings; nothing is said about the signature when a thinking block starts."""
    if part["type"] == "ping":
        return None
    if part["type"] == "content_block_start" and part["content_block"]["type"] == "thinking":
        return {**part, "content_block": {"type": "thinking", "thinking": ""}}
    if part["type"] == "message":
        return {name: value for name, value in part.items() if value is not None}
    return part


def _vllm_count(request: RecordedRequest) -> Reply:
    tokens = fake_count(request.json)
    return json_reply({"input_tokens": tokens, "context_management": {"original_input_tokens": tokens}})


def _vllm_tokenize(request: RecordedRequest) -> Reply:
    count = fake_count(request.json) if "messages" in request.json else len(request.json["prompt"].split())
    tokens = list(range(count))
    return json_reply({"count": count, "max_model_len": MAX_MODEL_LEN, "tokens": tokens, "token_strs": None})


def vllm(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """vLLM: native messages and counts; an invalid body is a 400 in OpenAI's shape, type `Bad Request`.

    Errors behind validation come in Anthropic's envelope with vLLM's own type names (`NotFoundError`, ...).
    """
    native = _first(_vllm_validation, _vllm_model(models, anthropic_shape=True))
    chat = _first(_vllm_chat_validation, _vllm_model(models, anthropic_shape=False))
    listed = model_list(models, "vllm", root="/models/weights", parent=None, max_model_len=MAX_MODEL_LEN)
    routes: dict[str, Responder] = {
        "GET /v1/models": listed,
        "GET /health": raw_reply(b"", content_type="text/plain"),
        "GET /version": json_reply({"version": "0.32.0"}),
        CHAT: _checked(chat, _chat),
        MESSAGES: _checked(native, _Dialect(_vllm_adapt).answer),
        COUNT: _checked(native, _vllm_count),
        "POST /tokenize": _vllm_tokenize,
        "POST /detokenize": json_reply({"prompt": "text"}),
    }
    return Personality("vllm", routes, not_found=DETAIL_404, method_not_allowed=DETAIL_405)


def _vllm_chat_validation(request: RecordedRequest) -> Reply | None:
    if not _missing(request, "messages"):
        return None
    error = {"type": "missing", "loc": "body.messages", "msg": "Field required"}
    return _vllm_error(f"1 validation error:\n  {error}", "Bad Request", 400, "body.messages")


# --- SGLang ---


def _sglang_validation(request: RecordedRequest) -> Reply | None:
    """Anthropic's envelope; the fields named in the message."""
    broken = [{"loc": ["0"], "msg": "JSON decode error"}]
    errors = broken if request.json is None else _fastapi_errors(request)
    if not errors:
        return None
    text = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in errors)
    return json_reply({"type": "error", "error": {"type": "invalid_request_error", "message": text}}, status=400)


def _sglang_adapt(part: Json) -> Json | None:
    """No pings, no nulls, no signatures; only `message_start` counts the input."""
    match part["type"]:
        case "ping":
            return None
        case "message_start":
            return {**part, "message": _without_nulls(part["message"])}
        case "message_delta":
            return {**part, "delta": _without_nulls(part["delta"]), "usage": {"output_tokens": 5}}
        case _:
            return _without_nulls(part)


def _without_nulls(part: Json) -> Json:
    return {name: value for name, value in part.items() if value is not None}


def _sglang_tokenize(request: RecordedRequest) -> Reply:
    count = fake_count(request.json) if request.json.get("messages") else len(request.json["prompt"].split())
    return json_reply({"tokens": list(range(count)), "count": count, "max_model_len": MAX_MODEL_LEN})


def _sglang_chat_validation(request: RecordedRequest) -> Reply | None:
    if not _missing(request, "messages"):
        return None
    error = {"object": "error", "message": "messages: Field required", "type": "BadRequestError"}
    return json_reply({**error, "param": None, "code": 400}, status=400)


def sglang(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """SGLang: native messages and counts, refusals in Anthropic's envelope; any model name will do."""
    routes: dict[str, Responder] = {
        "GET /v1/models": model_list(models, "sglang", root=models[0], parent=None, max_model_len=MAX_MODEL_LEN),
        "GET /health": raw_reply(b"", content_type="text/plain"),
        "GET /model_info": json_reply({"model_path": "/models/weights", "is_generation": True}),
        CHAT: _checked(_sglang_chat_validation, _chat),
        MESSAGES: _checked(_sglang_validation, _Dialect(_sglang_adapt).answer),
        COUNT: _checked(_sglang_validation, _count),
        "POST /tokenize": _sglang_tokenize,
        "POST /v1/tokenize": _sglang_tokenize,
        "POST /detokenize": json_reply({"text": "text"}),
    }
    return Personality("sglang", routes, not_found=DETAIL_404, method_not_allowed=DETAIL_405)


# --- llama.cpp ---

LLAMA_CPP_404 = json_reply(
    {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}},
    status=404,
    headers={"server": "llama.cpp"},
)


def _llama_cpp_error(message: str, kind: str, status: int) -> Reply:
    error = {"code": status, "message": message, "type": kind}
    return json_reply({"error": error}, status=status, headers={"server": "llama.cpp"})


def _llama_cpp_validation(request: RecordedRequest) -> Reply | None:
    """Without `messages` a 500; nothing else is required, and a string for `messages` is answered."""
    if request.json is None:
        text = "[json.exception.parse_error.101] parse error at line 1, column 3: syntax error"
        return _llama_cpp_error(text, "invalid_request_error", 400)
    if _missing(request, "messages"):
        native = request.path.startswith("/v1/messages")
        kind, status = ("server_error", 500) if native else ("invalid_request_error", 400)
        return _llama_cpp_error("'messages' is required", kind, status)
    return None


def _llama_cpp_names_model(model: str) -> Callable[[Json], Json | None]:
    """No pings, input counted in `message_start` only, and its own model's name whatever was asked for."""

    def adapt(part: Json) -> Json | None:
        match part["type"]:
            case "ping":
                return None
            case "message":
                return {**part, "model": model, "usage": {"cache_read_input_tokens": 0, **part["usage"]}}
            case "message_start":
                usage = {"cache_read_input_tokens": 0, **part["message"]["usage"], "output_tokens": 0}
                return {**part, "message": {**part["message"], "model": model, "usage": usage}}
            case "message_delta":
                return {**part, "usage": {"output_tokens": part["usage"]["output_tokens"]}}
            case _:
                return part

    return adapt


def _llama_cpp_models(model: str) -> Reply:
    meta = {"vocab_type": 2, "n_vocab": 49152, "n_ctx": 2048, "n_ctx_train": MAX_MODEL_LEN, "ftype": "Q4_1"}
    listed = {"id": model, "aliases": [model], "tags": [], "object": "model", "created": CREATED}
    tag = {"name": model, "model": model, "type": "model", "capabilities": ["completion"]}
    data = [{**listed, "owned_by": "llamacpp", "meta": meta}]
    return json_reply({"models": [tag], "object": "list", "data": data}, headers={"server": "llama.cpp"})


def _llama_cpp_tokenize(request: RecordedRequest) -> Reply:
    return json_reply({"tokens": list(range(len(request.json.get("content", "").split())))})


def _llama_cpp_template(request: RecordedRequest) -> Reply:
    turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in request.json["messages"]]
    return json_reply({"prompt": "".join(turns) + "<|im_start|>assistant\n"})


def llama_cpp(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """llama.cpp's server: native messages and counts; `{}` is a 500 `'messages' is required`.

    It answers for any model name, with its own name in `model`, and refuses almost no body.
    """
    own = models[0]
    native = _Dialect(_llama_cpp_names_model(own), {"server": "llama.cpp"})
    props = {
        "total_slots": 2,
        "model_alias": own,
        "build_info": "b0-unknown",
        "chat_template": "{{ messages }}",
    }
    routes: dict[str, Responder] = {
        "GET /v1/models": _llama_cpp_models(own),
        "GET /props": json_reply({**props, "default_generation_settings": {"n_ctx": 2048}}),
        "GET /health": json_reply({"status": "ok"}),
        CHAT: _checked(_llama_cpp_validation, _chat),
        MESSAGES: _checked(_llama_cpp_validation, _with_model(own, native.answer)),
        COUNT: _checked(_llama_cpp_validation, _count),
        "POST /tokenize": _llama_cpp_tokenize,
        "POST /detokenize": json_reply({"content": "text"}),
        "POST /apply-template": _llama_cpp_template,
    }
    return Personality("llama.cpp", routes, not_found=LLAMA_CPP_404)


def _with_model(model: str, answer: Callable[[RecordedRequest], Reply]) -> Responder:
    def respond(request: RecordedRequest) -> Reply:
        request.json.setdefault("model", model)
        return answer(request)

    return respond


# --- Ollama ---

PLAIN_404 = raw_reply(b"404 page not found", content_type="text/plain", status=404)


def _ollama_error(message: str, kind: str, status: int) -> Reply:
    error = {"type": kind, "message": message}
    return json_reply({"type": "error", "error": error, "request_id": "req_0123456789"}, status=status)


def _ollama_validation(request: RecordedRequest) -> Reply | None:
    """One complaint at a time, in this order."""
    if request.json is None:
        return _ollama_error("invalid character 'n' looking for beginning of value", "invalid_request_error", 400)
    body = request.json
    if not isinstance(body.get("max_tokens", 0), int):
        text = "json: cannot unmarshal string into Go struct field MessagesRequest.max_tokens of type int"
        return _ollama_error(text, "invalid_request_error", 400)
    complaints = {
        "model is required": not body.get("model"),
        "max_tokens is required and must be positive": body.get("max_tokens", 0) <= 0,
        "messages is required": not body.get("messages"),
    }
    wrong = next((text for text, broken in complaints.items() if broken), None)
    return _ollama_error(wrong, "invalid_request_error", 400) if wrong else None


def _ollama_model(models: Sequence[str]) -> Check:
    def check(request: RecordedRequest) -> Reply | None:
        model = request.json.get("model")
        return None if model in models else _ollama_error(f"model '{model}' not found", "not_found_error", 404)

    return check


def _ollama_adapt(part: Json) -> Json | None:
    """No pings and no nulls: empty fields are left out."""
    match part["type"]:
        case "ping":
            return None
        case "message":
            return _without_nulls(part)
        case "message_start":
            return {**part, "message": _without_nulls(part["message"])}
        case "message_delta":
            return {**part, "delta": _without_nulls(part["delta"])}
        case _:
            return part


def ollama(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """Ollama: native messages without `count_tokens`; unknown paths are Go's plain-text 404."""
    native = _first(_ollama_validation, _ollama_model(models))
    routes: dict[str, Responder] = {
        "GET /v1/models": model_list(models, "library"),
        "GET /api/version": json_reply({"version": "0.14.2"}),
        "GET /": raw_reply(b"Ollama is running", content_type="text/plain"),
        CHAT: _checked(_openai_model(models), _chat),
        MESSAGES: _checked(native, _Dialect(_ollama_adapt).answer),
    }
    return Personality("ollama", routes, not_found=PLAIN_404)


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
    missing = _required(request)
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
    native = _first(_anthropic_key, _anthropic_validation, _anthropic_model(models))
    routes: dict[str, Responder] = {
        "GET /v1/models": _checked(_anthropic_key, _anthropic_models(models)),
        CHAT: _checked(_anthropic_key, _chat),
        MESSAGES: _checked(native, _Dialect(headers=ANTHROPIC_HEADERS).answer),
        COUNT: _checked(native, _count),
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

    routes: dict[str, Responder] = {"GET /v1/models": model_list(models, "organization_owner"), CHAT: _chat}
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
