"""How a request goes: which model, by which route, and why. It is decided once, before anything is sent."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from llama_stack_messages_provider.adaptation.memory import Scope
from llama_stack_messages_provider.config import MessagesConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES, ChatWording, Engine, NativeProfile
from llama_stack_messages_provider.engines.features import features_of
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError, UpstreamError
from llama_stack_messages_provider.rewriting import SUPPLIED
from llama_stack_messages_provider.rewriting.server_threads import reject_server_thread
from llama_stack_messages_provider.routing.models import ModelResolver
from llama_stack_messages_provider.routing.probe import Capability, Prober
from llama_stack_messages_provider.routing.replicas import Unreached, pin_of, ranked
from llama_stack_messages_provider.routing.window import window_of
from llama_stack_messages_provider.server_tools.plain import OpenTools, plain_request
from llama_stack_messages_provider.server_tools.registry import ServerTools
from llama_stack_messages_provider.upstream.endpoint import Endpoint, Endpoints
from llama_stack_messages_provider.upstream.failures import ConnectionFailedError, ConnectTimeoutError
from llama_stack_messages_provider.upstream.messages import NativeMissingError
from llama_stack_messages_provider.upstream.target import Target

__all__ = ["NativePlan", "Plan", "Planner", "TranslationPlan", "is_first_party"]

# What may be tools that are run here; a request without these is not looked through again.
_SERVER_TOOLS = frozenset({"web_search", "server_tool", "tool_change"})
# Plans remembered, each of one model and what a request needs.
_MAX_KEPT = 1024
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
        server_tools: The tools of the request that are run here, in a loop above the route, by the paths of their
            definitions; None is one to be left out.
        session_names: The headers that are configured to name a session; None are those of the engine.
    """

    route: ClassVar[Literal["native", "translation"]]
    target: Target
    reason: str
    capability: Capability
    endpoint: Endpoint | None
    files: bool = False
    server_tools: OpenTools = field(default_factory=dict)
    session_names: Sequence[str] | None = None

    @property
    def engine(self) -> Engine:
        """The upstream's engine: the one that answered, or the one of its address."""
        base = self.endpoint.api_base if self.endpoint else None
        return ENGINES.chosen(self.capability.engine, self.target.provider_type, base)

    @property
    def session_headers(self) -> Sequence[str]:
        """The headers that name a session, for routers in front of the engine's replicas."""
        known = self.engine.session_headers
        return known if self.session_names is None or not known else self.session_names

    @property
    def window(self) -> int | None:
        """The context window of the model in tokens, where its registration or its upstream tells it."""
        return window_of(self.target, self.capability)

    @property
    def refuses_output(self) -> bool:
        """Whether more output than the window has room for is refused, for all that is known."""
        engine = self.engine
        return not (engine.ends_at_window or engine.native.first_party)

    @property
    def scope(self) -> Scope:
        """What is learned of a model is learned of it behind this upstream."""
        upstream = self.endpoint.root if self.endpoint else self.target.provider_id
        return upstream, self.target.upstream_model

    @property
    def dialect(self) -> ChatWording:
        """How chat completions are worded for this upstream."""
        wording = self.engine.chat
        if self.files or not self.target.sees:
            return replace(wording, files=self.files or wording.files, images=wording.images and self.target.sees)
        return wording


@dataclass(frozen=True, slots=True)
class NativePlan(_Plan):
    """The request goes to the upstream's own Messages endpoint.

    Args:
        profile: What the endpoint is like: that of the engine that answered.
        rewrites: Features of the request that the endpoint lacks, and passes supply.
        may_translate: Whether the configuration leaves the other route open.
    """

    route = "native"
    endpoint: Endpoint
    profile: NativeProfile = field(default_factory=NativeProfile)
    rewrites: frozenset[str] = frozenset()
    may_translate: bool = True


@dataclass(frozen=True, slots=True)
class TranslationPlan(_Plan):
    """The request goes to the inference API, as a chat completion."""

    route = "translation"


type Plan = NativePlan | TranslationPlan


def is_first_party(plan: Plan) -> bool:
    """Whether a request goes to Anthropic's own endpoint."""
    return isinstance(plan, NativePlan) and plan.profile.first_party


class Planner:
    """Makes plans.

    Args:
        config: Modes and aliases.
        resolver: Finds models.
        prober: Knows upstreams.
        server_tools: Knows the tools that the stack runs.
    """

    def __init__(
        self, config: MessagesConfig, resolver: ModelResolver, prober: Prober, server_tools: ServerTools
    ) -> None:
        self._config = config
        self._resolver = resolver
        self._prober = prober
        self._server_tools = server_tools
        self._endpoints = Endpoints()
        self._kept: dict[tuple[str, frozenset[str]], Plan] = {}
        self._unreached = Unreached()

    async def plan(self, request: Mapping[str, Any], dropped: DroppedFields, session: str | None = None) -> Plan:
        """The plan for a request.

        Args:
            request: The request, of which `model` is validated.
            dropped: Takes what cannot be carried by any route.
            session: The session that it belongs to, which one of equal replicas has.

        Raises:
            NotFoundError: There is no such model; or it goes on with a conversation that a server should have kept.
            InvalidRequestError: The configuration wants the native route, and there is none.
        """
        target = await self._resolver.resolve(request["model"])
        if not target.others:
            return await self.plan_for(target, request, dropped)
        replicas = {each.identifier: each for each in (target, *target.others)}
        order = ranked(pin_of(session, request), [*replicas])
        return await self._plan_one_of([replicas[name] for name in order], request, dropped)

    async def plan_replica(
        self, plan: Plan, request: Mapping[str, Any], failure: MessagesError, dropped: DroppedFields
    ) -> Plan | None:
        """The plan for the next of equal replicas, where the one before is down or full; None where there is none."""
        if isinstance(failure, (ConnectionFailedError, ConnectTimeoutError)):
            self._unreached.add(plan.target.identifier)
        if not plan.target.others or not (failure.status == 429 or failure.status >= 500):
            return None
        try:
            return await self._plan_one_of(plan.target.others, request, dropped)
        except MessagesError:  # the client is told what it may try again, and not that another cannot take it
            return None

    def answered(self, plan: Plan) -> None:
        """A replica has answered."""
        self._unreached.discard(plan.target.identifier)

    async def _plan_one_of(
        self, replicas: Sequence[Target], request: Mapping[str, Any], dropped: DroppedFields
    ) -> Plan:
        """The plan for the first replica that is reached; for the first, where none is."""
        later: list[Target] = []
        for n, target in enumerate(replicas):
            if not self._unreached.passes_over(target.identifier):
                if await self._is_reached(target):
                    return await self.plan_for(_before(target, [*replicas[n + 1 :], *later]), request, dropped)
                self._unreached.add(target.identifier)
            later.append(target)
        return await self.plan_for(_before(later[0], later[1:]), request, dropped)

    async def _is_reached(self, target: Target) -> bool:
        try:
            return (await self._capability(target, self._endpoints.of(target.provider))).reached
        except UpstreamError:
            return False

    async def plan_for(
        self, target: Target, request: Mapping[str, Any], dropped: DroppedFields | None = None, *, refused: str = ""
    ) -> Plan:
        """The plan for a request to a target.

        Args:
            target: The model.
            request: The request.
            dropped: Takes what cannot be carried by any route.
            refused: Why its native endpoint did not take it, if it did not.
        """
        endpoint = self._endpoints.of(target.provider)
        capability = await self._capability(target, endpoint)
        features = features_of(request)
        if "image" in features and not target.sees and self._mode(target) == "auto":
            refused = refused or "it is registered as a model without image input"
        if self._config.context.cache_salt and not refused and self.engine_of(target, capability).chat.cache_salt:
            refused = "its Messages endpoint takes no cache_salt"
        mode = "translation" if refused else self._mode(target)
        is_first_party = _is_native(capability, mode) and ENGINES[capability.engine].native.first_party
        if not is_first_party:
            reject_server_thread(request, strict=dropped is not None and dropped.strict)
        tools: OpenTools = {}
        if (features & _SERVER_TOOLS or request.get("mcp_servers")) and not is_first_party:
            tools = await self._server_tools.open(request, dropped or DroppedFields())
            if tools:
                features = features_of(plain_request(request, tools, DroppedFields()))
        if tools or refused:
            return self._decided(target, capability, endpoint, features, tools, mode, refused)
        # Most requests are like one before.
        kept = self._kept.get((target.identifier, features))
        if kept is None or kept.capability is not capability or kept.endpoint is not endpoint or kept.target != target:
            kept = self._decided(target, capability, endpoint, features, tools, mode)
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[target.identifier, features] = kept
        return kept

    def _decided(
        self,
        target: Target,
        capability: Capability,
        endpoint: Endpoint | None,
        features: Set[str],
        tools: OpenTools,
        mode: str,
        refused: str = "",
    ) -> Plan:
        """The plan for a request with these features."""
        profile = ENGINES[capability.engine].native
        lacks = features & profile.gaps.keys()
        gaps = {name: profile.gaps[name] for name in sorted(lacks - SUPPLIED)}
        native, reason = _decide(mode, capability, gaps)
        files, names = target.provider_id in self._config.translation.file_parts, self._config.context.session_headers
        if native and endpoint is not None:
            if supplied := lacks & SUPPLIED:
                reason = f"{reason}; rewritten: {', '.join(sorted(supplied))}"
            rewrites = _rewrites(lacks) | _of_later_rounds(features, tools)
            may_translate = mode != "native"
            return NativePlan(
                target, reason, capability, endpoint, files, tools, names, profile, rewrites, may_translate
            )
        return TranslationPlan(target, refused or reason, capability, endpoint, files, tools, names)

    async def capability_of(self, target: Target) -> Capability:
        """What the upstream of a model can do, from memory or by a probe."""
        try:
            return await self._capability(target, self._endpoints.of(target.provider))
        except UpstreamError as exc:
            return replace(_UNREACHABLE, reason=exc.message)

    def known_capability(self, target: Target) -> Capability | None:
        """The same from memory alone."""
        endpoint = self._endpoint(target)
        return self._prober.known(target.provider_id, endpoint, target.upstream_model) if endpoint else _UNREACHABLE

    def engine_of(self, target: Target, capability: Capability) -> Engine:
        """The engine behind a model: see `_Plan.engine`."""
        return TranslationPlan(target, "", capability, self._endpoint(target)).engine

    def usual_route(self, target: Target, capability: Capability) -> Literal["native", "translation"] | None:
        """The way of a request without special needs; None where nothing is known of it."""
        mode = self._mode(target)
        if mode == "auto" and capability.messages == "unknown":
            return None
        return "native" if _is_native(capability, mode) else "translation"

    def _endpoint(self, target: Target) -> Endpoint | None:
        try:
            return self._endpoints.of(target.provider)
        except UpstreamError:
            return None

    async def plan_instead(
        self, plan: Plan, request: Mapping[str, Any], refused: MessagesError, dropped: DroppedFields
    ) -> Plan:
        """The plan for a request whose native endpoint is missing, or refuses what only a translation can change."""
        target = plan.target
        if isinstance(refused, NativeMissingError) and plan.endpoint is not None:
            self._prober.forget(target.provider_id, plan.endpoint, target.upstream_model, refused.message)
            return await self.plan_for(target, request, dropped)
        return await self.plan_for(target, request, dropped, refused=refused.message)

    def _mode(self, target: Target) -> str:
        return self._config.routes.get(target.provider_id, self._config.route)

    async def _capability(self, target: Target, endpoint: Endpoint | None) -> Capability:
        if endpoint is None:
            return _UNREACHABLE
        return await self._prober.capability(target.provider_id, endpoint, target.upstream_model)


def _before(target: Target, others: Sequence[Target]) -> Target:
    return replace(target, others=tuple(replace(each, others=()) for each in others))


def _rewrites(lacks: Set[str]) -> frozenset[str]:
    """What is rewritten for an endpoint that lacks these."""
    rewrites = frozenset(lacks) & SUPPLIED
    # The calls of a toolset in the history follow its definition.
    return rewrites | {"toolset_call"} if "client_tool" in rewrites else rewrites


def _of_later_rounds(features: Set[str], tools: OpenTools) -> frozenset[str]:
    """What is not in a request yet, and may be in those that go on with it: references to tools that were found."""
    return frozenset({"tool_reference"}) if tools and "deferred_tool" in features else frozenset()


def _is_native(capability: Capability, mode: str) -> bool:
    """Whether a request goes natively, unless its endpoint lacks something."""
    return mode == "native" or (mode == "auto" and capability.native)


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
