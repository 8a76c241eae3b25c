"""The composition root: the one place that knows which part gets which."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llama_stack_api import Api

from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.adapter import MessagesAdapter
from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.database import BackendError, find_backend
from llama_stack_messages_provider.batches.runner import Runner
from llama_stack_messages_provider.batches.runtime import BatchRuntime
from llama_stack_messages_provider.batches.service import BatchService
from llama_stack_messages_provider.budgets.budgets import Budgets
from llama_stack_messages_provider.budgets.config import BudgetsConfig
from llama_stack_messages_provider.cache_diagnostics.diagnostics import CacheDiagnostics
from llama_stack_messages_provider.cache_diagnostics.shared import SharedFingerprints
from llama_stack_messages_provider.config import ContextConfig, MessagesConfig, RequestLimits
from llama_stack_messages_provider.diagnosis import Diagnostics
from llama_stack_messages_provider.documents.resolve import documents_of
from llama_stack_messages_provider.fallbacks.run import Fallbacks
from llama_stack_messages_provider.health import Health
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.images.describer import Describer
from llama_stack_messages_provider.model_calls import ModelCalls
from llama_stack_messages_provider.own_requests import OwnRequests
from llama_stack_messages_provider.routing.catalogue import ModelCatalogue
from llama_stack_messages_provider.routing.chain import Chains
from llama_stack_messages_provider.routing.models import ModelResolver
from llama_stack_messages_provider.routing.native_route import NativeRoute
from llama_stack_messages_provider.routing.offload import Offload
from llama_stack_messages_provider.routing.plan import Planner
from llama_stack_messages_provider.routing.prepare import Preparer
from llama_stack_messages_provider.routing.probe import Prober
from llama_stack_messages_provider.routing.translated_route import TranslatedRoute
from llama_stack_messages_provider.safeguards.judge import Safeguards
from llama_stack_messages_provider.server_tools.advisor import Advisor
from llama_stack_messages_provider.server_tools.code_execution import CodeExecution
from llama_stack_messages_provider.server_tools.fetch_runtime import WebFetch
from llama_stack_messages_provider.server_tools.mcp.connector import McpConnector
from llama_stack_messages_provider.server_tools.registry import ServerTools
from llama_stack_messages_provider.server_tools.search_runtime import WebSearch
from llama_stack_messages_provider.server_tools.tool_search import ToolSearch
from llama_stack_messages_provider.service import MessageService
from llama_stack_messages_provider.shields.config import ShieldsConfig
from llama_stack_messages_provider.shields.runs import Shields
from llama_stack_messages_provider.status.config import StatusConfig
from llama_stack_messages_provider.status.report import StatusReport
from llama_stack_messages_provider.status.tally import TALLY
from llama_stack_messages_provider.telemetry.observed import Observer
from llama_stack_messages_provider.translation.request import TranslationOptions
from llama_stack_messages_provider.upstream.body import Timeouts
from llama_stack_messages_provider.upstream.chat_completions import ChatCompletions
from llama_stack_messages_provider.upstream.messages import NativeMessages
from llama_stack_messages_provider.upstream.sessions import ResponseLimits, Sessions
from llama_stack_messages_provider.upstream.token_counts import TokenCounter

__all__ = ["compose"]

# How long a change that a model needs is remembered: servers are upgraded, and models exchanged.
_REMEMBERED_SECONDS = 6 * 3600.0

logger = get_logger(name=__name__, category="providers")


def compose(config: MessagesConfig, deps: Mapping[Api, Any], policy: list[Any]) -> MessagesAdapter:
    """The Messages API over a stack's inference API.

    Args:
        config: The provider's settings.
        deps: The stack's APIs; `inference` is used, and `tool_runtime`, `connectors` and `safety` where there are.
        policy: The host's access policy.
    """
    inference, sessions = deps[Api.inference], _sessions(config.limits)
    table, aliases = inference.routing_table, config.model_aliases
    documents, tools = documents_of(config), deps.get(Api.tool_runtime)
    search, fetch = WebSearch(tools, config.web_search), WebFetch(documents.pages, config.web_fetch)
    servers = McpConnector(config.mcp, tools, deps.get(Api.connectors), policy)
    advisor, code = Advisor(config.advisor), CodeExecution(tools, servers, config.code_execution)
    server_tools = ServerTools([search, ToolSearch(), fetch, advisor, code], servers)
    resolver, health = ModelResolver(table, aliases), Health(sessions, table)
    planner = Planner(config, resolver, _prober(config, sessions), server_tools)
    offload, memory = Offload(), AdaptationMemory(_REMEMBERED_SECONDS, time.monotonic)
    describer, budgets = Describer(config.images), _budgets(config.budgets)
    shields = _shields(config.shields, deps.get(Api.safety))
    native, translated = _routes(config, inference, sessions, memory, offload, describer)
    calls = ModelCalls(native, translated, config.web_search.rounds, offload, budgets, shields)
    observer = Observer()
    service = MessageService(
        planner,
        calls,
        native,
        translated,
        Preparer(documents, offload),
        Safeguards(config.safeguards),
        Fallbacks(planner, Chains(config.fallbacks, resolver), budgets),
        budgets,
        _caches(config.context),
        observer,
        strict=config.strict,
    )
    own = OwnRequests(service, planner, observer, config.compaction.model)
    advisor.ask, describer.find, service.find = own.ask, own.model_for, own.model_for
    calls.summarise = own.summarise if config.compaction.model else None
    batches = _batches(config.batches, own.run_for_batch, policy, servers)
    catalogue = ModelCatalogue(resolver, planner, aliases, batch=batches is not None, searches=search.available)
    diagnostics = _diagnostics(
        config, resolver, planner, sessions, table, tools, servers, shields, code.run_by, fetch.run_by
    )
    status = _status(config.status, catalogue, health, batches)
    return MessagesAdapter(
        config, service, batches, sessions, memory, catalogue, diagnostics, health, budgets, shields, status
    )


def _status(
    config: StatusConfig, catalogue: ModelCatalogue, health: Health, batches: BatchService | None
) -> StatusReport | None:
    TALLY.on = config.enabled
    if not config.enabled:
        return None
    newest = None if batches is None else batches.overview
    return StatusReport(config, catalogue.overview, health.upstreams, newest)


def _diagnostics(
    config: MessagesConfig,
    resolver: ModelResolver,
    planner: Planner,
    sessions: Sessions,
    table: Any,
    tools: Any,
    servers: McpConnector,
    shields: Shields | None,
    runs_code: Callable[[], Awaitable[str | None]],
    fetches: str | None,
) -> Diagnostics:
    return Diagnostics(
        resolver,
        planner,
        sessions,
        table,
        config.model_aliases,
        tools,
        config.web_search.tool,
        servers,
        shields,
        runs_code=runs_code,
        fetches=fetches,
        advises=config.advisor.enabled,
        infers=config.translation.count_by_inference,
        named=_named_models(config),
    )


def _named_models(config: MessagesConfig) -> list[tuple[str, str]]:
    """The models that settings name, by the setting."""
    chains = [(f"fallbacks of {pattern}", name) for pattern, names in config.fallbacks.items() for name in names]
    single = {
        "safeguards.model": config.safeguards.model,
        "compaction.model": config.compaction.model,
        "images.describe_with": config.images.describe_with,
    }
    return [*chains, *((setting, name) for setting, name in single.items() if name is not None)]


def _sessions(limits: RequestLimits) -> Sessions:
    return Sessions(ResponseLimits(limits.max_answer_bytes, limits.max_event_bytes, limits.max_stream_bytes))


def _prober(config: MessagesConfig, sessions: Sessions) -> Prober:
    probe = config.probe
    return Prober(sessions, timeout=probe.timeout_seconds, yes_seconds=probe.yes_seconds, no_seconds=probe.no_seconds)


def _routes(
    config: MessagesConfig,
    inference: Any,
    sessions: Sessions,
    memory: AdaptationMemory,
    offload: Offload,
    describer: Describer,
) -> tuple[NativeRoute, TranslatedRoute]:
    limits, key, marker = config.limits, config.key(), config.translation.tool_error_marker
    timeouts = Timeouts(limits.connect_seconds, limits.first_byte_seconds, limits.idle_seconds)
    native = NativeRoute(NativeMessages(sessions, timeouts), key, marker, memory, offload)
    completions = ChatCompletions(inference, sessions, timeouts, store=config.store_completions)
    counter = TokenCounter(sessions, timeouts, infers=config.translation.count_by_inference)
    options, system = TranslationOptions(tool_error_marker=marker), config.translation.system_messages
    eyes = describer if config.images.describe_with else None
    salt_key = key if config.context.cache_salt else None  # a configured one: all processes find what one has read
    translated = TranslatedRoute(completions, counter, key, options, system, memory, offload, eyes, salt_key)
    return native, translated


def _budgets(config: BudgetsConfig) -> Budgets | None:
    return Budgets(config, find_backend(config.backend, "budgets.backend")) if config.rules else None


def _shields(config: ShieldsConfig, safety: Any) -> Shields | None:
    return Shields(config, safety) if config.named else None


def _caches(config: ContextConfig) -> CacheDiagnostics:
    if config.diagnostics_backend is None:
        return CacheDiagnostics()
    try:
        backend = find_backend(config.diagnostics_backend, "context.diagnostics_backend")
    except BackendError:
        if "diagnostics_backend" in config.model_fields_set:
            raise
        return CacheDiagnostics()
    return CacheDiagnostics(SharedFingerprints(backend, config.diagnostics_seconds))


def _batches(config: BatchesConfig, run: Runner, policy: list[Any], servers: McpConnector) -> BatchService | None:
    if not config.enabled:
        return None
    try:
        backend = find_backend(config.backend)
    except BackendError as exc:
        if "backend" in config.model_fields_set:
            raise
        logger.warning("Message Batches are off", reason=str(exc))
        return None
    return BatchService(config, BatchRuntime(config, backend, run), policy, servers.kept_in_batches)
