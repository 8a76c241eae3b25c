"""The engines that speak Messages natively, each with its own words; import them from `personalities`."""

from collections.abc import Callable, Sequence

from tests.support.dialects import (
    CHAT,
    COUNT,
    DEFAULT_MODELS,
    DETAIL_404,
    DETAIL_405,
    MAX_MODEL_LEN,
    MESSAGES,
    Check,
    Dialect,
    answer_count,
    checked,
    fake_count,
    fastapi_errors,
    first_refusal,
    greet,
    missing_fields,
    model_list,
    openai_model,
    without_nulls,
)
from tests.support.replies import Reply, json_reply, raw_reply
from tests.support.upstream import Personality, RecordedRequest, Responder
from tests.support.wire import CREATED, Json

__all__ = ["llama_cpp", "ollama", "sglang", "vllm"]


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
    errors = fastapi_errors(request)
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
    native = first_refusal(_vllm_validation, _vllm_model(models, anthropic_shape=True))
    chat = first_refusal(_vllm_chat_validation, _vllm_model(models, anthropic_shape=False))
    listed = model_list(models, "vllm", root="/models/weights", parent=None, max_model_len=MAX_MODEL_LEN)
    routes: dict[str, Responder] = {
        "GET /v1/models": listed,
        "GET /health": raw_reply(b"", content_type="text/plain"),
        "GET /version": json_reply({"version": "0.32.0"}),
        CHAT: checked(chat, greet),
        MESSAGES: checked(native, Dialect(_vllm_adapt).answer),
        COUNT: checked(native, _vllm_count),
        "POST /tokenize": _vllm_tokenize,
        "POST /detokenize": json_reply({"prompt": "text"}),
    }
    return Personality("vllm", routes, not_found=DETAIL_404, method_not_allowed=DETAIL_405)


def _vllm_chat_validation(request: RecordedRequest) -> Reply | None:
    if not missing_fields(request, "messages"):
        return None
    error = {"type": "missing", "loc": "body.messages", "msg": "Field required"}
    return _vllm_error(f"1 validation error:\n  {error}", "Bad Request", 400, "body.messages")


# --- SGLang ---


def _sglang_validation(request: RecordedRequest) -> Reply | None:
    """Anthropic's envelope; the fields named in the message."""
    broken = [{"loc": ["0"], "msg": "JSON decode error"}]
    errors = broken if request.json is None else fastapi_errors(request)
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
            return {**part, "message": without_nulls(part["message"])}
        case "message_delta":
            return {**part, "delta": without_nulls(part["delta"]), "usage": {"output_tokens": 5}}
        case _:
            return without_nulls(part)


def _sglang_tokenize(request: RecordedRequest) -> Reply:
    count = fake_count(request.json) if request.json.get("messages") else len(request.json["prompt"].split())
    return json_reply({"tokens": list(range(count)), "count": count, "max_model_len": MAX_MODEL_LEN})


def _sglang_chat_validation(request: RecordedRequest) -> Reply | None:
    if not missing_fields(request, "messages"):
        return None
    error = {"object": "error", "message": "messages: Field required", "type": "BadRequestError"}
    return json_reply({**error, "param": None, "code": 400}, status=400)


def sglang(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """SGLang: native messages and counts, refusals in Anthropic's envelope; any model name will do."""
    routes: dict[str, Responder] = {
        "GET /v1/models": model_list(models, "sglang", root=models[0], parent=None, max_model_len=MAX_MODEL_LEN),
        "GET /health": raw_reply(b"", content_type="text/plain"),
        "GET /model_info": json_reply({"model_path": "/models/weights", "is_generation": True}),
        CHAT: checked(_sglang_chat_validation, greet),
        MESSAGES: checked(_sglang_validation, Dialect(_sglang_adapt).answer),
        COUNT: checked(_sglang_validation, answer_count),
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
    if missing_fields(request, "messages"):
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
    turns = [(turn["role"], turn.get("content") or "") for turn in request.json["messages"]]
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    return json_reply({"prompt": f"{text}<|im_start|>assistant\n"})


def llama_cpp(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """llama.cpp's server: native messages and counts; `{}` is a 500 `'messages' is required`.

    It answers for any model name, with its own name in `model`, and refuses almost no body.
    """
    own = models[0]
    native = Dialect(_llama_cpp_names_model(own), {"server": "llama.cpp"})
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
        CHAT: checked(_llama_cpp_validation, greet),
        MESSAGES: checked(_llama_cpp_validation, _with_model(own, native.answer)),
        COUNT: checked(_llama_cpp_validation, answer_count),
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
            return without_nulls(part)
        case "message_start":
            return {**part, "message": without_nulls(part["message"])}
        case "message_delta":
            return {**part, "delta": without_nulls(part["delta"])}
        case _:
            return part


def ollama(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """Ollama: native messages without `count_tokens`; unknown paths are Go's plain-text 404."""
    native = first_refusal(_ollama_validation, _ollama_model(models))
    routes: dict[str, Responder] = {
        "GET /v1/models": model_list(models, "library"),
        "GET /api/version": json_reply({"version": "0.14.2"}),
        "GET /": raw_reply(b"Ollama is running", content_type="text/plain"),
        CHAT: checked(openai_model(models), greet),
        MESSAGES: checked(native, Dialect(_ollama_adapt).answer),
    }
    return Personality("ollama", routes, not_found=PLAIN_404)
