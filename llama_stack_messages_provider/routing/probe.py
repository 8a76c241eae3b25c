"""What an upstream can do, found out by asking it.

The probe is a request that a Messages endpoint must refuse, so that it costs no generation: a body with a model and
nothing else. The shape of the refusal decides, since some servers answer 200 to anything and others refuse
everything with 400. A failed connection decides nothing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from llama_stack_messages_provider.adaptation.upstream_errors import is_envelope
from llama_stack_messages_provider.engines import ENGINES, Engine
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.upstream.body import Timeouts
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.failures import ConnectionFailedError, ConnectTimeoutError
from llama_stack_messages_provider.upstream.sessions import Sessions, UpstreamResponse
from llama_stack_messages_provider.wire.names import API_VERSION

__all__ = ["Capability", "Prober", "speaks_messages"]

Verdict = Literal["yes", "no", "unknown"]

_SAID: dict[Verdict, str] = {
    "yes": "the upstream speaks Messages",
    "no": "the upstream does not speak Messages",
    "unknown": "the upstream does not say whether it speaks Messages",
}
# How long a verdict that decides nothing is kept, in seconds: a dead upstream is not asked again by each request.
_UNKNOWN_SECONDS = 5.0
# How much is remembered: models whose capability is their own, upstreams whose models are alike, a list of models.
_MAX_MODELS, _MAX_ENDPOINTS, _MAX_LIST_BYTES = 1024, 256, 1024 * 1024
_MISSING = frozenset({404, 405, 501})
_OF_THE_KEY = frozenset({401, 403, 429})


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
        reached: Whether there was a connection, or it was not looked for.
    """

    messages: Verdict
    count_tokens: bool
    engine: str
    reason: str
    status: int = 0
    window: int | None = None
    reached: bool = True

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
        return "no" if status in _MISSING and not _names_model(error) else "yes"
    if status in _MISSING:
        return "no"
    if _names_messages(body):
        return "yes"
    # Who is asking, or that it is not well just now, says nothing about what is there.
    return "unknown" if status in _OF_THE_KEY or status >= 500 else "no"


def _names_model(error: Mapping[str, Any]) -> bool:
    return "model" in str(error["message"]).lower()


def _names_messages(body: Any) -> bool:
    text = orjson.dumps(body).decode() if body is not None else ""
    return "messages" in text and ("required" in text.lower() or "missing" in text.lower())


type _Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a probe found out.

    Args:
        capability: Of the model that was asked for.
        personal: Whether it holds for the key only that it was asked with.
        general: Whether it holds for every model of the upstream.
        listed: The upstream's list of models.
        loaded: The windows of models that are loaded, where the upstream tells them; None where it has no place for it.
    """

    capability: Capability
    personal: bool = False
    general: bool = False
    listed: Any = None
    loaded: Mapping[str, int] | None = None
    _of_models: dict[str, Capability] = field(default_factory=dict)

    def of_model(self, model: str) -> Capability:
        """What holds for every model, with this one's window, which is looked for in the list once."""
        found = self._of_models.get(model)
        if found is None:
            if len(self._of_models) >= _MAX_MODELS:
                self._of_models.clear()
            window = _window(ENGINES[self.capability.engine], self.listed, self.loaded, model)
            found = self._of_models[model] = replace(self.capability, window=window)
        return found


class _Kept:
    """Answers for a time, and not too many; every request looks here, so that a look is not much more than a dict's.

    Args:
        most: How many.
        seconds: How long those with a verdict are kept.
        clock: Seconds.
    """

    def __init__(self, most: int, seconds: Mapping[str, float], clock: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._known: dict[_Key, tuple[float, _Answers]] = {}

    def get(self, key: _Key) -> _Answers | None:
        found = self._known.get(key)
        return found[1] if found is not None and self._clock() < found[0] else None

    def __len__(self) -> int:
        return len(self._known)

    def __setitem__(self, key: _Key, answers: _Answers) -> None:
        self._known.pop(key, None)
        # A model that is loaded with its first request has a window soon.
        waits = answers.loaded is not None and not answers.loaded
        self._known[key] = self._clock() + self._seconds["no" if waits else answers.capability.messages], answers
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]


class Prober:
    """Capabilities, asked for once and kept for a time, in caches that are bounded.

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
        self._timeouts = Timeouts(timeout, timeout, timeout)
        keep = {"yes": yes_seconds, "no": no_seconds, "unknown": min(_UNKNOWN_SECONDS, no_seconds)}

        # By provider, base URL, model and, where it holds for a key only, the key.
        self._models = _Kept(_MAX_MODELS, keep, clock)
        # By provider and base URL: what all models of an upstream have in common.
        self._endpoints = _Kept(_MAX_ENDPOINTS, keep, clock)
        self._asking: dict[tuple[Any, ...], asyncio.Task[Capability]] = {}

    async def capability(self, provider_id: str, endpoint: Endpoint, model: str) -> Capability:
        """The capability of a model, from memory or by asking; concurrent callers with one key share one probe."""
        key = (provider_id, endpoint.root, model)
        if (known := self._known(key, endpoint)) is not None:
            return known
        asking = (asyncio.get_running_loop(), *key, endpoint.api_key)
        task = self._asking.get(asking)
        if task is None:
            task = self._asking[asking] = asyncio.create_task(self._ask(key, endpoint))
            task.add_done_callback(lambda _: self._asking.pop(asking, None))
        # A caller that goes away must not end the probe of the others.
        return await asyncio.shield(task)

    def known(self, provider_id: str, endpoint: Endpoint, model: str) -> Capability | None:
        """The capability of a model from memory."""
        return self._known((provider_id, endpoint.root, model), endpoint)

    def forget(self, provider_id: str, endpoint: Endpoint, model: str, reason: str) -> None:
        """The endpoint turned out to be missing: remember that as a "no", for this model."""
        key = (provider_id, endpoint.root, model)
        known = self._known(key, endpoint)
        engine = known.engine if known else ENGINES.generic.name
        self._models[key] = _Answers(Capability("no", False, engine, reason))

    def _known(self, key: _Key, endpoint: Endpoint) -> Capability | None:
        found = self._models.get(key) or self._models.get(_with_key(key, endpoint))
        if found is not None:
            return found.capability
        shared = self._endpoints.get(key[:2])
        return None if shared is None else shared.of_model(key[2])

    async def _ask(self, key: _Key, endpoint: Endpoint) -> Capability:
        answers = await self._probe(endpoint, key[2])
        if answers.general:
            self._endpoints[key[:2]] = answers
        else:
            self._models[_with_key(key, endpoint) if answers.personal else key] = answers
        return answers.capability

    async def _probe(self, endpoint: Endpoint, model: str) -> _Answers:
        try:
            refused, counted, models = await asyncio.gather(
                self._post(endpoint, "/v1/messages", {"model": model}),
                self._post(endpoint, "/v1/messages/count_tokens", _one_word(model)),
                self._sessions.fetch("GET", f"{endpoint.root}/v1/models", endpoint, self._timeouts),
            )
        except MessagesError as exc:
            reached = not isinstance(exc, (ConnectionFailedError, ConnectTimeoutError))
            return _Answers(Capability("unknown", False, ENGINES.generic.name, exc.message, reached=reached))
        listed = models.json() if len(models.body) <= _MAX_LIST_BYTES else None
        engine = ENGINES.answering(models.headers.get("server", ""), listed)
        verdict = speaks_messages(refused.status, refused.json())
        counts = counted.status == 200 and _is_count(counted.json())
        reason = f"{_SAID[verdict]} (an invalid request was answered with {refused.status})"
        loaded = await self._loaded(endpoint, engine)
        window = _window(engine, listed, loaded, model)
        capability = Capability(verdict, counts and verdict == "yes", engine.name, reason, refused.status, window)
        # A key that is refused, or has no more quota, says nothing about what others get.
        personal = any(answer.status in _OF_THE_KEY for answer in (refused, counted, models))
        known = engine is not ENGINES.generic and verdict == "yes" and (counts or _is_missing(counted))
        return _Answers(capability, personal, not personal and (known or _is_missing(refused)), listed, loaded)

    async def _loaded(self, endpoint: Endpoint, engine: Engine) -> Mapping[str, int] | None:
        """The windows of models that are loaded; None where the engine does not tell them."""
        if engine.loaded is None:
            return None
        try:
            answer = await self._sessions.fetch("GET", f"{endpoint.root}{engine.loaded.path}", endpoint, self._timeouts)
        except MessagesError:
            return None
        if answer.status != 200:
            return None
        return engine.loaded.windows(answer.json() if len(answer.body) <= _MAX_LIST_BYTES else None)

    async def _post(self, endpoint: Endpoint, path: str, body: dict[str, Any]) -> UpstreamResponse:
        url, headers = f"{endpoint.root}{path}", {"anthropic-version": API_VERSION}
        data = orjson.dumps(body)
        return await self._sessions.fetch("POST", url, endpoint, self._timeouts, headers=headers, data=data)


def _window(engine: Engine, listed: Any, loaded: Mapping[str, int] | None, model: str) -> int | None:
    return (loaded or {}).get(model) or ENGINES.window(engine, listed, model)


def _with_key(key: _Key, endpoint: Endpoint) -> _Key:
    return (*key, endpoint.api_key or "")


def _is_missing(answer: UpstreamResponse) -> bool:
    """Whether the path is missing, whatever the model."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    named = "model" in str(error if error is not None else body).lower()
    return answer.status in _MISSING and not named


def _one_word(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "a"}]}


def _is_count(body: Any) -> bool:
    return isinstance(body, dict) and type(body.get("input_tokens")) is int
