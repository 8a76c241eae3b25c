"""What the personalities are made of: checks that refuse a request in an engine's words, and dialects."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tests.support.replies import Reply, json_reply, stream_reply
from tests.support.upstream import RecordedRequest, Responder, chat_reply
from tests.support.wire import CREATED, Json, anthropic_message, anthropic_stream, encode_events, text_block

__all__ = [
    "CHAT",
    "COUNT",
    "DEFAULT_MODELS",
    "DETAIL_404",
    "DETAIL_405",
    "MAX_MODEL_LEN",
    "MESSAGES",
    "Check",
    "Dialect",
    "answer_count",
    "checked",
    "fake_count",
    "fastapi_errors",
    "first_refusal",
    "greet",
    "missing_fields",
    "model_list",
    "openai_model",
    "required_fields",
    "without_nulls",
]

DEFAULT_MODELS = ("test-model",)
MESSAGES = "POST /v1/messages"
COUNT = "POST /v1/messages/count_tokens"
CHAT = "POST /v1/chat/completions"
MAX_MODEL_LEN = 262_144

type Check = Callable[[RecordedRequest], Reply | None]
"""What is wrong with a request, as the engine would put it; None if nothing is."""


def fake_count(body: Json) -> int:
    """A token count that depends on everything a prompt is made of, and on nothing else."""
    prompt = {name: body[name] for name in ("system", "messages", "tools", "tool_choice", "thinking") if name in body}
    return len(orjson.dumps(prompt, option=orjson.OPT_SORT_KEYS)) // 4


def model_list(models: Sequence[str], owned_by: str, **fields: Any) -> Reply:
    """`GET /v1/models` in OpenAI's shape."""
    head: Json = {"object": "model", "created": CREATED, "owned_by": owned_by, **fields}
    return json_reply({"object": "list", "data": [{"id": model, **head} for model in models]})


def checked(check: Check, answer: Responder) -> Responder:
    """The answer, if the check finds nothing wrong."""

    def respond(request: RecordedRequest) -> Reply:
        refusal = check(request)
        if refusal is not None:
            return refusal
        return answer(request) if callable(answer) else answer

    return respond


def first_refusal(*checks: Check) -> Check:
    """The checks in this order."""
    return lambda request: next((refusal for check in checks if (refusal := check(request))), None)


def greeting(request: RecordedRequest) -> str:
    """What every engine here says."""
    return f"Hello from {request.json.get('model')}"


def greet(request: RecordedRequest) -> Reply:
    """The greeting as a chat completion, streamed or not."""
    answer = chat_reply(greeting(request))
    assert callable(answer)
    return answer(request)


@dataclass(frozen=True)
class Dialect:
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
        message = anthropic_message([text_block(greeting(request))], usage=usage, model=model)
        if not request.json.get("stream"):
            return json_reply(self.adapt(message), headers=self.headers)
        events = (self.adapt(event) for event in anthropic_stream(message))
        return stream_reply(encode_events(event for event in events if event), headers=self.headers)


def answer_count(request: RecordedRequest) -> Reply:
    """Anthropic's answer to `count_tokens`."""
    return json_reply({"input_tokens": fake_count(request.json)})


def missing_fields(request: RecordedRequest, *required: str) -> list[str]:
    """Which of these the body lacks; all of them, if it is no object."""
    body = request.json if isinstance(request.json, dict) else {}
    return [name for name in required if name not in body]


def required_fields(request: RecordedRequest) -> list[str]:
    """What a Messages request lacks."""
    counting = request.path.endswith("/count_tokens")
    return missing_fields(request, "model", "messages", *([] if counting else ["max_tokens"]))


def wrong_types(request: RecordedRequest) -> list[tuple[str, str]]:
    """The fields whose type is wrong and pydantic's words for it."""
    kinds: dict[str, tuple[type, str]] = {
        "model": (str, "Input should be a valid string"),
        "messages": (list, "Input should be a valid list"),
        "max_tokens": (int, "Input should be a valid integer"),
    }
    body = request.json
    return [(name, text) for name, (kind, text) in kinds.items() if not isinstance(body.get(name), kind | None)]


def fastapi_errors(request: RecordedRequest) -> list[Json]:
    """Pydantic's complaints about a Messages request."""
    missing = [
        {"type": "missing", "loc": ["body", name], "msg": "Field required", "input": request.json}
        for name in required_fields(request)
    ]
    wrong = [
        {"type": text.split()[-1], "loc": ["body", name], "msg": text, "input": request.json[name]}
        for name, text in (wrong_types(request) if isinstance(request.json, dict) else [])
        if name in request.json
    ]
    return missing + wrong


def without_nulls(part: Json) -> Json:
    """The same object, its null fields left out."""
    return {name: value for name, value in part.items() if value is not None}


DETAIL_404 = json_reply({"detail": "Not Found"}, status=404)
DETAIL_405 = json_reply({"detail": "Method Not Allowed"}, status=405)


def openai_model(models: Sequence[str]) -> Check:
    """OpenAI's refusal of a model that is not listed."""

    def check(request: RecordedRequest) -> Reply | None:
        model = (request.json or {}).get("model")
        if model in models:
            return None
        text = f"The model `{model}` does not exist or you do not have access to it."
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": "model_not_found"}
        return json_reply({"error": error}, status=404)

    return check
