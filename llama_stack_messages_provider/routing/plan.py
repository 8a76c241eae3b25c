"""How a request goes: which model, by which route, and why. It is decided once, before anything is sent."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from llama_stack_messages_provider.adaptation.memory import Scope
from llama_stack_messages_provider.config import MessagesConfig
from llama_stack_messages_provider.engines import ENGINES, ChatWording, Engine
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.routing.models import ModelResolver
from llama_stack_messages_provider.routing.probe import Capability, Prober
from llama_stack_messages_provider.server_tools.search_runtime import WebSearch
from llama_stack_messages_provider.server_tools.web_search import wants_search
from llama_stack_messages_provider.upstream.endpoint import Endpoint, Endpoints
from llama_stack_messages_provider.upstream.target import Target

__all__ = ["NativePlan", "Plan", "Planner", "TranslationPlan"]

_SEARCHED = {"web_search": "run by the stack's tool runtime"}
_UNREACHABLE = Capability("no", False, "unknown", "the provider has no upstream that can be reached directly")


@dataclass(frozen=True, slots=True)
class _Plan:
    """The decisions of both routes.

    Args:
        target: The model.
        reason: Why this route, for people.
        capability: What its upstream can do.
        endpoint: The upstream, where it can be reached directly.
        files: Whether its upstream is configured to take `file` parts.
        searches: Whether its web searches are run here, if it is translated.
    """

    route: ClassVar[Literal["native", "translation"]]
    target: Target
    reason: str
    capability: Capability
    endpoint: Endpoint | None
    files: bool = False
    searches: bool = False

    @property
    def engine(self) -> Engine:
        """The upstream's engine: the one that answered, or the one of its address."""
        base = self.endpoint.api_base if self.endpoint else None
        return ENGINES.chosen(self.capability.engine, self.target.provider_type, base)

    @property
    def scope(self) -> Scope:
        """What is learned of a model is learned of it behind this upstream."""
        upstream = self.endpoint.root if self.endpoint else self.target.provider_id
        return upstream, self.target.upstream_model

    @property
    def dialect(self) -> ChatWording:
        """How chat completions are worded for this upstream."""
        wording = self.engine.chat
        return replace(wording, files=True) if self.files else wording


@dataclass(frozen=True, slots=True)
class NativePlan(_Plan):
    """The request goes to the upstream's own Messages endpoint."""

    route = "native"
    endpoint: Endpoint

    def translated(self, reason: str) -> "TranslationPlan":
        """The other way for the same request."""
        return TranslationPlan(self.target, reason, self.capability, self.endpoint, self.files, self.searches)


@dataclass(frozen=True, slots=True)
class TranslationPlan(_Plan):
    """The request goes to the inference API, as a chat completion."""

    route = "translation"


type Plan = NativePlan | TranslationPlan


class Planner:
    """Makes plans.

    Args:
        config: Modes and aliases.
        resolver: Finds models.
        prober: Knows upstreams.
        search: Knows whether the stack can search the web.
    """

    def __init__(self, config: MessagesConfig, resolver: ModelResolver, prober: Prober, search: WebSearch) -> None:
        self._config = config
        self._resolver = resolver
        self._prober = prober
        self._search = search
        self._endpoints = Endpoints()

    async def plan(self, request: Mapping[str, Any]) -> Plan:
        """The plan for a request.

        Raises:
            NotFoundError: There is no such model.
            InvalidRequestError: The configuration wants the native route, and there is none.
        """
        return await self.plan_for(await self._resolver.resolve(request["model"]), request)

    async def plan_for(self, target: Target, request: Mapping[str, Any]) -> Plan:
        """The plan for a request to a target."""
        endpoint = self._endpoints.of(target.provider)
        capability = await self._capability(target, endpoint)
        mode = self._mode(target)
        searches = self._search.exists and wants_search(request) and await self._search.available()
        gaps: dict[str, str] = {}
        if capability.native and mode == "auto":
            profile = ENGINES[capability.engine].native
            gaps = {name: profile.gaps[name] for name in sorted(features_of(request)) if name in profile.gaps}
            if searches and not profile.first_party:
                gaps |= _SEARCHED
        files = target.provider_id in self._config.translation.file_parts
        native, reason = _decide(mode, capability, gaps)
        if native and endpoint is not None:
            return NativePlan(target, reason, capability, endpoint, files, searches)
        return TranslationPlan(target, reason, capability, endpoint, files, searches)

    def may_translate(self, target: Target) -> bool:
        """Whether the configuration leaves the translated route open."""
        return self._mode(target) != "native"

    def forget(self, plan: NativePlan, reason: str) -> None:
        """The native endpoint turned out to be missing."""
        self._prober.forget(plan.target.provider_id, plan.endpoint, plan.target.upstream_model, reason)

    def _mode(self, target: Target) -> str:
        return self._config.routes.get(target.provider_id, self._config.route)

    async def _capability(self, target: Target, endpoint: Endpoint | None) -> Capability:
        if endpoint is None:
            return _UNREACHABLE
        return await self._prober.capability(target.provider_id, endpoint, target.upstream_model)


def _decide(mode: str, capability: Capability, gaps: Mapping[str, str]) -> tuple[bool, str]:
    """Whether a request goes natively, and why."""
    if mode == "translation":
        return False, "configured"
    if mode == "native":
        if capability.messages == "no":
            raise InvalidRequestError(
                f"model: its provider is configured for the native route, but {capability.reason}"
            )
        return True, "configured"
    if not capability.native:
        return False, capability.reason
    if gaps:
        return False, "; ".join(f"{name} is {what}" for name, what in gaps.items())
    return True, capability.reason
