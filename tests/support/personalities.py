"""How engines behave where a test says nothing."""

from collections.abc import Mapping, Sequence

from tests.support.replies import Reply, json_reply
from tests.support.upstream import Personality, RecordedRequest, chat_reply
from tests.support.wire import CREATED, Json

__all__ = ["identities", "openai_style"]

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


def identities(users: Mapping[str, tuple[str, Mapping[str, list[str]]]]) -> Personality:
    """An endpoint for `stack.custom_auth`: token to (principal, attributes); an unknown one gets a 401."""

    def answer(request: RecordedRequest) -> Reply:
        known = users.get(request.json["api_key"])
        if known is None:
            return json_reply({"message": "unknown token"}, status=401)
        return json_reply({"principal": known[0], "attributes": dict(known[1])})

    return Personality("identities", {"POST /auth": answer})
