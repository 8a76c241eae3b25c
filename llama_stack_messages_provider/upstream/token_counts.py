"""Counts of input tokens: exact and without generation where the upstream can, and honest about how."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.engines import Engine, Kind
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.translation.reasons import usage_of
from llama_stack_messages_provider.upstream.body import Timeouts
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.sessions import Sessions

__all__ = ["Count", "TokenCounter", "count_of_refusal"]

Source = Literal["native", "tokenizer", "inference", "estimate"]


@dataclass(frozen=True, slots=True)
class Count:
    """A number of input tokens, and how it was found.

    Args:
        tokens: Of what would be sent.
        source: How they were counted.
        original: The same before the context was edited; None where no edit was asked for.
    """

    tokens: int
    source: Source
    original: int | None = None


class TokenCounter:
    """Counts the tokens of a translated request: exactly what would be sent.

    Args:
        sessions: Pooled sessions.
        timeouts: How long an upstream may take.
        infers: Whether a token may be generated where nothing else counts.
    """

    def __init__(self, sessions: Sessions, timeouts: Timeouts, *, infers: bool = False) -> None:
        self._sessions = sessions
        self._infers = infers
        self._timeouts = timeouts

    async def count(
        self,
        params: dict[str, Any],
        endpoint: Endpoint | None,
        engine: Engine,
        infer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
    ) -> Count | None:
        """By the upstream's tokenizer, else by a one-token inference where that may be; None where nothing counts.

        Args:
            params: The chat completion's parameters, with a limit of one token and not streamed.
            endpoint: Where the upstream is, if it can be reached directly.
            engine: What is behind it.
            infer: Runs a chat completion.
        """
        if endpoint is not None:
            tokens = await self.by_tokenizer(params, endpoint, engine)
            if tokens is not None:
                return Count(tokens, "tokenizer")
        if not self._infers:
            return None
        completion = await infer(params)
        usage = usage_of(completion.get("usage"))
        tokens = usage["input_tokens"] + usage["cache_read_input_tokens"]
        return Count(tokens, "inference") if tokens else None

    async def by_tokenizer(self, params: dict[str, Any], endpoint: Endpoint, engine: Engine) -> int | None:
        """What the upstream's tokenizer counts; None if it has none, none that answers, or there are images."""
        if engine.tokenizer is None or _has_images(params):
            return None
        answer: Any = None
        try:
            for step in engine.tokenizer.steps:
                answer = await self._post(endpoint, step.path, step.request(params, answer))
            tokens = engine.tokenizer.count(answer)
        except (KeyError, TypeError):  # no such endpoint, or another one
            return None
        return tokens if type(tokens) is int else None

    async def _post(self, endpoint: Endpoint, path: str, body: dict[str, Any]) -> Any:
        url = f"{endpoint.root}{path}"
        try:
            answer = await self._sessions.fetch("POST", url, endpoint, self._timeouts, data=orjson.dumps(body))
        except MessagesError:
            return None
        return answer.json() if answer.status == 200 else None


def count_of_refusal(exc: MessagesError) -> Count | None:
    """What a failed inference says about the tokens; None where only an estimate is left.

    Raises:
        MessagesError: The failure, where the request is to blame and not the limit that counting put into it.
    """
    refusal = exc.refusal
    if refusal is not None and refusal.kind in (Kind.PROMPT_TOO_LONG, Kind.ROOM):
        exact = refusal.used is not None and not refusal.at_least
        return Count(refusal.used or 0, "inference") if exact else None
    if exc.status >= 500 or (refusal is not None and _is_about_the_limit(refusal)):
        return None
    raise exc


def _is_about_the_limit(refusal: Refusal) -> bool:
    limits = (Kind.OUTPUT_TOO_SHORT, Kind.OUTPUT_LIMIT)
    return refusal.kind in limits or "max_" in (refusal.parameter or "") or "max_tokens" in refusal.words


def _has_images(params: dict[str, Any]) -> bool:
    return b'"image_url"' in orjson.dumps(params["messages"])
