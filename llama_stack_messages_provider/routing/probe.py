"""What an upstream can do, found out by asking it.

The probe is a request that a Messages endpoint must refuse, so that it costs no generation: a body with a model and
nothing else. The shape of the refusal decides, since some servers answer 200 to anything and others refuse
everything with 400. A failed connection decides nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import is_envelope
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.sessions import Answer, Limits, Sessions

__all__ = ["Capability", "Prober", "speaks_messages"]

Verdict = Literal["yes", "no", "unknown"]

_SAID: dict[Verdict, str] = {
    "yes": "the upstream speaks Messages",
    "no": "the upstream does not speak Messages",
    "unknown": "the upstream does not say whether it speaks Messages",
}
# How long a verdict that decides nothing is kept, in seconds: a dead upstream is not asked again by each request.
_UNKNOWN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Capability:
    """What one model of one upstream can do.

    Args:
        messages: Whether it serves `/v1/messages`; `unknown` if it could not be asked.
        count_tokens: Whether it serves `/v1/messages/count_tokens`.
        engine: The name of the software behind it.
        reason: How the verdict came about, for people.
        status: The status that the probe got; 0 if it got none.
        window: The context window in tokens, where the upstream tells it.
    """

    messages: Verdict
    count_tokens: bool
    engine: str
    reason: str
    status: int = 0
    window: int | None = None

    @property
    def native(self) -> bool:
        """Whether a request may be passed through."""
        return self.messages == "yes"


def speaks_messages(status: int, body: Any) -> Verdict:
    """Whether an answer to the invalid request is that of a Messages endpoint.

    Recognised are Anthropic's error envelope (Anthropic, Ollama, SGLang, gateways) and a refusal that names the
    missing `messages` field (vLLM's validation, llama.cpp's).
    """
    if 200 <= status < 300:
        return "no"
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and is_envelope(body, error):
        return "no" if status in {404, 405, 501} and not _names_model(error) else "yes"
    if status in {404, 405, 501}:
        return "no"
    if _names_messages(body):
        return "yes"
    # Who is asking, or that it is not well just now, says nothing about what is there.
    return "unknown" if status in {401, 403, 429} or status >= 500 else "no"


def _names_model(error: Mapping[str, Any]) -> bool:
    return "model" in str(error["message"]).lower()


def _names_messages(body: Any) -> bool:
    text = orjson.dumps(body).decode() if body is not None else ""
    return "messages" in text and ("required" in text.lower() or "missing" in text.lower())


class Prober:
    """Capabilities, asked for once and kept for a time.

    Args:
        sessions: Where requests go out.
        timeout: Seconds that a probe may take.
        yes_seconds: How long a "yes" is kept.
        no_seconds: How long a "no" is kept; shorter, since servers are upgraded.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        timeout: float,
        yes_seconds: float,
        no_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._limits = Limits(timeout, timeout, timeout)
        self._keep = {"yes": yes_seconds, "no": no_seconds, "unknown": min(_UNKNOWN_SECONDS, no_seconds)}
        self._clock = clock
        self._known: dict[tuple[str, str, str], tuple[float, Capability]] = {}
        self._asking: dict[tuple[asyncio.AbstractEventLoop, str, str, str], asyncio.Task[Capability]] = {}

    async def capability(self, provider_id: str, endpoint: Endpoint, model: str) -> Capability:
        """The capability of a model, from memory or by asking; concurrent callers share one probe."""
        key = (provider_id, endpoint.root, model)
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        asking = (asyncio.get_running_loop(), *key)
        task = self._asking.get(asking)
        if task is None:
            task = self._asking[asking] = asyncio.create_task(self._ask(key, endpoint, model))
            task.add_done_callback(lambda _: self._asking.pop(asking, None))
        # A caller that goes away must not end the probe of the others.
        return await asyncio.shield(task)

    def forget(self, provider_id: str, endpoint: Endpoint, model: str, reason: str) -> None:
        """The endpoint turned out to be missing: remember that as a "no"."""
        key = (provider_id, endpoint.root, model)
        engine = self._known[key][1].engine if key in self._known else "unknown"
        self._remember(key, Capability("no", False, engine, reason))

    async def _ask(self, key: tuple[str, str, str], endpoint: Endpoint, model: str) -> Capability:
        capability = await self._probe(endpoint, model)
        self._remember(key, capability)
        return capability

    def _remember(self, key: tuple[str, str, str], capability: Capability) -> None:
        self._known[key] = (self._clock() + self._keep[capability.messages], capability)

    async def _probe(self, endpoint: Endpoint, model: str) -> Capability:
        try:
            refused, counted, models = await asyncio.gather(
                self._post(endpoint, "/v1/messages", {"model": model}),
                self._post(endpoint, "/v1/messages/count_tokens", _one_word(model)),
                self._sessions.fetch("GET", f"{endpoint.root}/v1/models", endpoint, self._limits),
            )
        except MessagesError as exc:
            return Capability("unknown", False, "unknown", exc.message)
        listed = models.json()
        engine = ENGINES.answering(models.headers.get("server", ""), listed)
        verdict = speaks_messages(refused.status, refused.json())
        counts = counted.status == 200 and _is_count(counted.json())
        reason = f"{_SAID[verdict]} (an invalid request was answered with {refused.status})"
        window = ENGINES.window(engine, listed, model)
        return Capability(verdict, counts and verdict == "yes", engine.name, reason, refused.status, window)

    async def _post(self, endpoint: Endpoint, path: str, body: dict[str, Any]) -> Answer:
        url, headers = f"{endpoint.root}{path}", {"anthropic-version": "2023-06-01"}
        return await self._sessions.fetch("POST", url, endpoint, self._limits, headers=headers, data=orjson.dumps(body))


def _one_word(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "a"}]}


def _is_count(body: Any) -> bool:
    return isinstance(body, dict) and type(body.get("input_tokens")) is int
