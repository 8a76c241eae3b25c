"""A vLLM that counts: what does not fit its window it refuses, in its words of 2026."""

import re

import orjson

from tests.cases.bench import FINE, speaks_messages
from tests.support import personalities
from tests.support.dialects import CHAT, COUNT, MESSAGES, checked
from tests.support.upstream import Json, Personality, RecordedRequest, Reply, chat_reply, json_reply

__all__ = ["no_room", "tokens_of", "with_windows"]

_IMAGE = re.compile(rb'"data":"[^"]*"')
SIZES = (16_384, 32_768, 40_960, 141_000)
LISTED: Json = {"object": "model", "created": 1, "owned_by": "vllm"}


def tokens_of(body: Json) -> int:
    """What its tokenizer would count."""
    prompt = {name: body[name] for name in ("system", "messages", "tools") if name in body}
    images = sum(len(text) for text in _IMAGE.findall(orjson.dumps(prompt)))
    return (len(orjson.dumps(prompt)) - images) * 10 // 38


def no_room(request: RecordedRequest) -> Reply | None:
    """The refusal; the window is the last part of the model's name."""
    if not request.json["model"].rpartition("-")[2].lstrip("w").isdigit():
        return None
    window = int(request.json["model"].rpartition("-")[2].lstrip("w"))
    asked, used = request.json.get("max_tokens") or 1, tokens_of(request.json)
    if asked > window:
        said = f"max_completion_tokens={asked} cannot be greater than max_model_len={window}. Please request fewer "
        return _refusal(said + "output tokens.")
    if used > window:
        said = f"This model's maximum context length is {window} tokens. However, your request has {used} input "
        return _refusal(said + "tokens. Please reduce the length of the input messages.")
    if used + asked > window:
        said = f"This model's maximum context length is {window} tokens. However, you requested {asked} output tokens "
        least = window - asked + 1
        more = f"and your prompt contains at least {least} input tokens, for a total of at least {window + 1} tokens."
        return _refusal(said + more)
    return None


def _refusal(said: str) -> Reply:
    return json_reply({"error": {"message": said, "type": "BadRequestError", "param": None, "code": 400}}, status=400)


def with_windows() -> Personality:
    """The upstream: models `w16384` and so on, which its list names, and any whose name ends in a window."""
    models = [{**LISTED, "id": f"w{size}", "max_model_len": size} for size in SIZES]
    return personalities.vllm(["m"]).with_routes(
        {
            "GET /v1/models": json_reply({"object": "list", "data": models}),
            CHAT: checked(no_room, chat_reply("fine")),
            MESSAGES: speaks_messages(checked(no_room, FINE)),
            COUNT: lambda request: json_reply({"input_tokens": tokens_of(request.json)}),
        }
    )
