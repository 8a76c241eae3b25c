"""How engines behave where a test says nothing."""

from collections.abc import Sequence

from tests.support.replies import Reply, json_reply
from tests.support.upstream import Personality, RecordedRequest, chat_reply
from tests.support.wire import CREATED, Json

__all__ = ["openai_style"]

DEFAULT_MODELS = ("test-model",)


def model_list(models: Sequence[str], owned_by: str, **fields: object) -> Reply:
    """`GET /v1/models`."""
    head: Json = {"object": "model", "created": CREATED, "owned_by": owned_by, **fields}
    return json_reply({"object": "list", "data": [{"id": model, **head} for model in models]})


def _openai_404(request: RecordedRequest) -> Reply:
    text = f"Invalid URL ({request.method} {request.path})"
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
    return json_reply({"error": error}, status=404)


def openai_style(models: Sequence[str] = DEFAULT_MODELS) -> Personality:
    """OpenAI's own API: no `/v1/messages`."""
    routes = {"GET /v1/models": model_list(models, "system"), "POST /v1/chat/completions": chat_reply()}
    return Personality("openai", routes, not_found=_openai_404)
