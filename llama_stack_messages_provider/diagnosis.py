"""How the models of a stack can be used: their upstreams are asked as requests would. Nothing is generated."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, Literal

from yarl import URL

from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError
from llama_stack_messages_provider.findings import Diagnosis, Finding, Problem, State, ToolFinding
from llama_stack_messages_provider.host.models import known_providers, listed_models
from llama_stack_messages_provider.host.providers import is_openai_style
from llama_stack_messages_provider.host.tool_runtime import keyless_provider, may_use
from llama_stack_messages_provider.rewriting import SUPPLIED
from llama_stack_messages_provider.routing.models import ModelResolver
from llama_stack_messages_provider.routing.plan import Plan, Planner
from llama_stack_messages_provider.server_tools.mcp.connector import McpConnector
from llama_stack_messages_provider.shields.runs import Shields
from llama_stack_messages_provider.upstream.body import Timeouts
from llama_stack_messages_provider.upstream.endpoint import Endpoint, Endpoints
from llama_stack_messages_provider.upstream.sessions import Sessions
from llama_stack_messages_provider.upstream.target import Target
from llama_stack_messages_provider.upstream.token_counts import TokenCounter

__all__ = ["Diagnostics"]

_TIMEOUT_SECONDS = 5.0
# Models that are asked about at once.
_AT_ONCE = 16
_SEARCH = {"tools": [{"type": "web_search_20250305"}]}


class Diagnostics:
    """Examines a stack.

    Args:
        resolver: Finds models.
        planner: Makes plans.
        sessions: Where requests go out.
        routing_table: The models' routing table.
        aliases: Names that clients use, and what they stand for; several are equal replicas.
        tools: The stack's tool runtime; None if it has none.
        search_tool: The name of its web search.
        servers: Its MCP servers.
        shields: Its shields; None where nothing judges.
        runs_code: Who runs programs for the current user, in words; None where nobody does.
        fetches: Who fetches pages of the web, in words; None where nobody does.
        advises: Whether models give advice.
        infers: Whether a token may be generated to count others.
        named: Models that other settings name, by the setting in words.
    """

    def __init__(
        self,
        resolver: ModelResolver,
        planner: Planner,
        sessions: Sessions,
        routing_table: Any,
        aliases: Mapping[str, str | Sequence[str]],
        tools: Any,
        search_tool: str | None,
        servers: McpConnector,
        shields: Shields | None = None,
        *,
        runs_code: Callable[[], Awaitable[str | None]],
        fetches: str | None = None,
        advises: bool = False,
        infers: bool = False,
        named: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._resolver = resolver
        self._planner = planner
        self._counter = TokenCounter(sessions, Timeouts(_TIMEOUT_SECONDS, _TIMEOUT_SECONDS, _TIMEOUT_SECONDS))
        self._infers = infers
        self._table = routing_table
        self._aliases = aliases
        self._tools = tools
        self._search_tool = search_tool
        self._servers = servers
        self._shields = shields
        self._runs_code = runs_code
        self._fetches = fetches
        self._advises = advises
        self._named = named
        self._endpoints = Endpoints()

    async def diagnose(self) -> Diagnosis:
        """What there is, for the current user."""
        keyless = await keyless_provider(self._tools, self._search_tool) if self._tools is not None else None
        providers = known_providers(self._table)
        llms = [model for model in await self._resolver.all_llms() if model.provider_id in providers]
        models = [await self._resolver.target_of(model) for model in llms]
        listed = {target.identifier for target in models}
        targets = sorted([*models, *self._silent(models)], key=lambda target: target.identifier)
        limit = asyncio.Semaphore(_AT_ONCE)

        async def examine(target: Target) -> Finding:
            async with limit:
                return await self._finding(target, listed=target.identifier in listed, searches=keyless is None)

        findings = await asyncio.gather(*map(examine, targets))
        problems = [*self._of_names(models), *await self._of_aliases(), *await self._of_settings()]
        problems += await self._of_registry()
        if keyless is not None:
            problems.append(_keyless_search(keyless))
        problems += await self._servers.problems()
        replicas = {name: found for name, wanted in self._aliases.items() if (found := await self._replicas(wanted))}
        problems += _of_replicas(replicas, {finding.model: finding for finding in findings})
        shields = () if self._shields is None else self._shields.findings
        problems += [] if self._shields is None else await self._shields.problems()
        return Diagnosis(findings, problems, await self._of_tools(searches=keyless is None), replicas, shields)

    async def _of_tools(self, *, searches: bool) -> list[ToolFinding]:
        """Who runs server tools, for the current user."""
        can_search = searches and self._tools is not None and await may_use(self._tools, self._search_tool)
        search = f"the stack's tool {self._search_tool}" if can_search else None
        return [
            ToolFinding("web_search", search),
            ToolFinding("web_fetch", self._fetches),
            ToolFinding("tool_search_tool", "this provider"),
            ToolFinding("advisor", "models of the stack" if self._advises else None),
            ToolFinding("mcp_toolset", await self._servers.run_by()),
            ToolFinding("code_execution", await self._runs_code()),
        ]

    def _silent(self, models: Sequence[Target]) -> list[Target]:
        """Every provider of the kind that serves models and lists none: it may be down."""
        providers = known_providers(self._table)
        known = {target.provider_id for target in models}
        silent = [name for name, impl in providers.items() if name not in known and is_openai_style(impl)]
        return [Target(f"{name}/*", name, providers[name], "*", {}) for name in silent]

    # --- one model ---

    async def _finding(self, target: Target, *, listed: bool, searches: bool) -> Finding:
        try:
            endpoint = self._endpoints.of(target.provider)
        except MessagesError as exc:
            return Finding(target.identifier, "dead", reason=exc.message)
        upstream = _address(endpoint)
        if not listed and endpoint is not None and not endpoint.api_key and not endpoint.local:
            reason = "no key is configured: it has to come with each request, or into the provider's configuration"
            return Finding(target.identifier, "keyless", reason=reason, upstream=upstream)
        try:
            plan = await self._planner.plan_for(target, {})
        except InvalidRequestError as exc:
            return Finding(target.identifier, "misconfigured", reason=exc.message, upstream=upstream)
        except MessagesError as exc:
            return Finding(target.identifier, "dead", reason=exc.message, upstream=upstream)
        state = _state(plan)
        if state not in ("ok", "keyless"):
            return Finding(target.identifier, state, plan.capability.engine, None, plan.capability.reason, upstream)
        return await self._usable(plan, state, upstream, searches=searches)

    async def _usable(self, plan: Plan, state: State, upstream: str | None, *, searches: bool) -> Finding:
        native = plan.route == "native"
        profile = ENGINES[plan.capability.engine].native
        chosen = plan.reason != "configured"
        return Finding(
            plan.target.identifier,
            state,
            plan.capability.engine,
            plan.route,
            plan.reason,
            upstream,
            plan.capability.window,
            await self._count_method(plan),
            {name: profile.gaps[name] for name in profile.gaps if name not in SUPPLIED} if native and chosen else {},
            sorted(profile.gaps.keys() & SUPPLIED) if native else (),
            profile.repaired if native else None,
            await self._searcher(plan, searches=searches),
        )

    async def _searcher(self, plan: Plan, *, searches: bool) -> Literal["upstream", "stack"] | None:
        search = await self._planner.plan_for(plan.target, _SEARCH)
        if search.server_tools:
            return "stack" if searches else None
        engine = ENGINES[search.capability.engine]
        knows = engine is not ENGINES.generic and "web_search" not in engine.native.gaps
        return "upstream" if knows and search.route == "native" else None

    async def _count_method(self, plan: Plan) -> str:
        if plan.route == "native" and plan.capability.count_tokens:
            return "native"
        if plan.endpoint is not None:
            word = {"model": plan.target.upstream_model, "messages": [{"role": "user", "content": "a"}]}
            if await self._counter.by_tokenizer(word, plan.endpoint, plan.engine) is not None:
                return "tokenizer"
        return "inference" if self._infers else "estimate"

    # --- the stack as a whole ---

    def _of_names(self, models: Sequence[Target]) -> list[Problem]:
        if not models:
            what = "There are no models: no provider of the inference API lists one"
            remedy = "Switch one on, such as with OLLAMA_URL or VLLM_URL, or let `enable --embedded` add a small one."
            return [Problem("error", what, remedy)]
        named = defaultdict(list)
        for model in models:
            named[model.upstream_model].append(model.identifier)
        return [
            Problem(
                "warning",
                f"{name} stands for several models: {', '.join(sorted(identifiers))}",
                "A request for the bare name is refused: clients name one of them, or an alias says which is meant.",
            )
            for name, identifiers in sorted(named.items())
            if len(identifiers) > 1 and not any(fnmatchcase(name, pattern) for pattern in self._aliases)
        ]

    async def _of_aliases(self) -> list[Problem]:
        problems = []
        for pattern, wanted in self._aliases.items():
            for name in _listed(wanted):
                try:
                    await self._resolver.resolve(name)
                except MessagesError as exc:
                    what = f"The alias {pattern} stands for {name}, which cannot be used: {_without_field(exc.message)}"
                    problems.append(Problem("error", what, "Change it under `model_aliases`, or bring the model."))
        return problems

    async def _replicas(self, wanted: str | Sequence[str]) -> list[str]:
        """The identifiers of equal replicas; none where a name stands for one model."""
        found = []
        for name in () if isinstance(wanted, str) else wanted:
            with suppress(MessagesError):
                found.append((await self._resolver.resolve(name)).identifier)
        return found

    async def _of_settings(self) -> list[Problem]:
        problems = []
        for setting, name in self._named:
            try:
                await self._resolver.resolve(name)
            except MessagesError as exc:
                what = f"{setting} names {name}, which cannot be used: {_without_field(exc.message)}"
                problems.append(Problem("warning", what, "Change the setting, or bring the model."))
        return problems

    async def _of_registry(self) -> list[Problem]:
        providers = known_providers(self._table)
        stale = [model for model in await listed_models(self._table) if model.provider_id not in providers]
        return [
            Problem(
                "warning",
                f"{model.identifier} is registered, but the stack has no provider {model.provider_id!r} any more",
                "It is left out of everything. Switch the provider on again, or stop the server and remove the row "
                f"whose key ends in `:model:{model.identifier}` from the store `storage.stores.metadata`.",
            )
            for model in stale
        ]


def _listed(wanted: str | Sequence[str]) -> Sequence[str]:
    return [wanted] if isinstance(wanted, str) else wanted


def _of_replicas(replicas: Mapping[str, Sequence[str]], findings: Mapping[str, Finding]) -> list[Problem]:
    """Replicas that are not equal."""
    problems = []
    for name, identifiers in replicas.items():
        known = [findings[each] for each in identifiers if each in findings and findings[each].well]
        for what, values in (
            ("windows", {str(each.window) for each in known}),
            ("engines", {each.engine for each in known}),
        ):
            if len(values) > 1:
                told = f"The replicas of {name} have different {what}: {', '.join(sorted(values))}"
                problems.append(Problem("warning", told, "A conversation that moves may not fit, or not go on alike."))
    return problems


def _keyless_search(provider_id: str) -> Problem:
    what = f"The stack's web search, provider {provider_id!r}, has no key: searches fail unless requests bring one"
    return Problem("warning", what, "Set its `api_key`, as TAVILY_SEARCH_API_KEY and BRAVE_SEARCH_API_KEY do.")


def _state(plan: Plan) -> State:
    capability, endpoint = plan.capability, plan.endpoint
    if capability.messages != "unknown":
        return "ok"
    if capability.status in (401, 403):
        return "refused" if endpoint is not None and endpoint.api_key else "keyless"
    if capability.status >= 500:
        return "failing"
    return "dead" if capability.status == 0 and endpoint is not None else "ok"


def _address(endpoint: Endpoint | None) -> str | None:
    """Where an upstream is, without what may be secret in it."""
    if endpoint is None:
        return None
    try:
        return str(URL(endpoint.configured).with_user(None).with_query(None))
    except ValueError:
        return None


def _without_field(message: str) -> str:
    return message.removeprefix("model: ")
