"""Counts of input tokens: exact and without generation where the upstream can, and honest about how."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.translation.reasons import usage_of
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.sessions import Limits, Sessions

__all__ = ["Count", "TokenCounter", "tokenizer_of"]

Source = Literal["native", "tokenizer", "inference", "estimate"]

_CHARACTERS_PER_TOKEN = 3.5
# What an image costs where nothing counts it, in tokens: Anthropic's own bound for one of ordinary size.
_IMAGE_TOKENS = 1600


@dataclass(frozen=True, slots=True)
class Count:
    """A number of input tokens, and how it was found."""

    tokens: int
    source: Source


class TokenCounter:
    """Counts the tokens of a translated request: exactly what would be sent.

    Args:
        sessions: Pooled sessions.
        limits: How long an upstream may take.
    """

    def __init__(self, sessions: Sessions, limits: Limits) -> None:
        self._sessions = sessions
        self._limits = limits

    async def count(
        self,
        params: dict[str, Any],
        endpoint: Endpoint | None,
        engine: str,
        infer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
    ) -> Count:
        """The upstream's tokenizer, else a one-token inference, else an estimate that errs high.

        Args:
            params: The chat completion's parameters, without a limit and not streamed.
            endpoint: Where the upstream is, if it can be reached directly.
            engine: The software behind it.
            infer: Runs a chat completion.
        """
        if endpoint is not None and not _has_images(params):
            tokens = await self.by_tokenizer(params, endpoint, engine)
            if tokens is not None:
                return Count(tokens, "tokenizer")
        try:
            completion = await infer({**params, "max_tokens": 1})
        except MessagesError as exc:
            if exc.status < 500:
                raise
            return Count(estimated(params), "estimate")
        usage = usage_of(completion.get("usage"))
        tokens = usage["input_tokens"] + usage["cache_read_input_tokens"]
        return Count(tokens, "inference") if tokens else Count(estimated(params), "estimate")

    async def by_tokenizer(self, params: dict[str, Any], endpoint: Endpoint, engine: str) -> int | None:
        """What the upstream's tokenizer counts; None if it has none, or none that answers."""
        tokenizer = tokenizer_of(engine)
        return await tokenizer(self._post, endpoint, params) if tokenizer is not None else None

    async def _post(self, endpoint: Endpoint, path: str, body: dict[str, Any]) -> Any:
        url = f"{endpoint.root}{path}"
        try:
            answer = await self._sessions.fetch("POST", url, endpoint, self._limits, data=orjson.dumps(body))
        except MessagesError:
            return None
        return answer.json() if answer.status == 200 else None


Post = Callable[[Endpoint, str, dict[str, Any]], Awaitable[Any]]
Tokenizer = Callable[[Post, Endpoint, dict[str, Any]], Awaitable[int | None]]


def tokenizer_of(engine: str) -> Tokenizer | None:
    """How an engine's tokenizer is asked; None if it has none."""
    return _TOKENIZERS.get(engine)


async def _llama_cpp(post: Post, endpoint: Endpoint, params: dict[str, Any]) -> int | None:
    # https://github.com/ggml-org/llama.cpp/tree/master/tools/server (POST /apply-template, POST /tokenize)
    wanted = ("messages", "tools", "tool_choice", "chat_template_kwargs", "response_format")
    templated = await post(endpoint, "/apply-template", {k: params[k] for k in wanted if k in params})
    if not isinstance(templated, dict) or not isinstance(templated.get("prompt"), str):
        return None
    body = {"content": templated["prompt"], "add_special": True, "parse_special": True}
    tokens = await post(endpoint, "/tokenize", body)
    return len(tokens["tokens"]) if isinstance(tokens, dict) and isinstance(tokens.get("tokens"), list) else None


async def _vllm(post: Post, endpoint: Endpoint, params: dict[str, Any]) -> int | None:
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server (Tokenizer API)
    wanted = ("model", "messages", "tools", "chat_template_kwargs", "continue_final_message", "add_generation_prompt")
    answer = await post(endpoint, "/tokenize", {k: params[k] for k in wanted if k in params})
    count = answer.get("count") if isinstance(answer, dict) else None
    return count if type(count) is int else None


_TOKENIZERS: dict[str, Tokenizer] = {"llama.cpp": _llama_cpp, "vllm": _vllm}


def _has_images(params: dict[str, Any]) -> bool:
    return b'"image_url"' in orjson.dumps(params["messages"])


def estimated(params: dict[str, Any]) -> int:
    """An estimate from the length of the text, rounded up."""
    characters = sum(_length(params.get(name)) for name in ("messages", "tools", "response_format"))
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_length, value))
    if not isinstance(value, dict):
        return 1
    if "image_url" in value:
        return int(_IMAGE_TOKENS * _CHARACTERS_PER_TOKEN)
    return sum(len(key) + _length(item) for key, item in value.items())
