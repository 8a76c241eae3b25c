"""`llama-stack-messages doctor`: for every registered model its engine, its route, how its tokens are counted, and why.

The stack of a run configuration is built in this process, without serving, and its upstreams are asked as the server
would ask them. Nothing is generated.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from llama_stack_messages_provider.adapter import MessagesAdapter
    from llama_stack_messages_provider.routing.plan import Plan
    from llama_stack_messages_provider.upstream.target import Target
    from llama_stack_messages_provider.upstream.token_counts import TokenCounter

__all__ = ["Finding", "add_command"]

State = Literal["ok", "dead", "failing", "refused", "keyless", "misconfigured"]

# Statuses of the command: all is well, an upstream is not, the stack cannot be built.
_WELL, _ILL, _NO_STACK = 0, 1, 2
_TIMEOUT_SECONDS = 5.0
_MARGIN = 14


@dataclass(frozen=True)
class Finding:
    """What was found out about one model.

    Args:
        model: Its identifier, or `<provider_id>/*` for a provider that lists none.
        state: `ok`; `dead`: nobody answers; `failing`: it answers with 5xx; `refused`: it takes not the stack's key;
            `keyless`: the key has to come with each request; `misconfigured`: it cannot go the configured way.
        engine: The software behind it.
        route: `native` or `translation` for a request without special needs; None where there is none.
        reason: Why this route, or this state.
        count: How tokens are counted: `native`, `tokenizer` or `inference`; None where they cannot be.
        gaps: What a native endpoint lacks and what happens to it there: requests that need it are translated.
        rewritten: What a native endpoint lacks and gets in plainer terms.
        mended: What the engine breaks in its answers, and is put right.
        web_search: Who searches the web for it: `upstream` or `stack`; None where nobody does.
    """

    model: str
    state: State
    engine: str = "unknown"
    route: str | None = None
    reason: str = ""
    count: str | None = None
    gaps: Mapping[str, str] = field(default_factory=dict)
    rewritten: Sequence[str] = ()
    mended: str | None = None
    web_search: Literal["upstream", "stack"] | None = None

    @property
    def well(self) -> bool:
        """Whether requests for the model can succeed."""
        return self.state in ("ok", "keyless")


def add_command(commands: Any) -> None:
    """Add the command to an `argparse` parser's subcommands."""
    parser = commands.add_parser("doctor", help="print each model's engine, route and count method, and why")
    parser.add_argument("--config", default="run.yaml", help="a run configuration or a distribution (run.yaml)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--server", help="a running server's address: print what it has learned of its models")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.server:
        return _learned(arguments.server, as_json=arguments.json)
    # Llama Stack and the client libraries report each failed connection at length; it is told below in one line.
    logging.disable(logging.CRITICAL)
    try:
        findings = asyncio.run(_examine(arguments.config))
    except Exception as exc:
        reason = " ".join(str(exc).split())
        print(f"doctor: the stack of {arguments.config} cannot be built: {reason}", file=sys.stderr)
        return _NO_STACK
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print("\n\n".join(map(_describe, findings)) or "There are no models.")
    return _WELL if all(finding.well for finding in findings) else _ILL


def _learned(server: str, *, as_json: bool) -> int:
    """Print what a running server has learned; of several processes the one that answers."""
    import httpx

    key = os.environ.get("ANTHROPIC_AUTH_TOKEN") or os.environ.get("ANTHROPIC_API_KEY")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx.get(f"{server.rstrip('/')}/v1/messages/adaptations", headers=headers, timeout=_TIMEOUT_SECONDS)
        learned = response.raise_for_status().json()["adaptations"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError) as exc:
        print(f"doctor: {server} does not say what it has learned: {exc}", file=sys.stderr)
        return _NO_STACK
    if as_json:
        print(json.dumps(learned, indent=2))
    else:
        print("\n\n".join(map(_describe_learned, learned)) or "Nothing was learned.")
    return _WELL


def _describe_learned(line: Mapping[str, Any]) -> str:
    lines = [("at", line["upstream"]), ("change", line["change"]), ("for", f"{line['seconds_ago']} s")]
    lines.append(("since it said", " ".join(line["words"].split())))
    return "\n".join([line["model"], *(_line(name, text) for name, text in lines)])


# --- finding out ---


async def _examine(config: str) -> list[Finding]:
    from llama_stack_api import Api

    from llama_stack_messages_provider.host.stack import running_stack

    async with running_stack(config) as impls:
        adapter = next((impl for api, impl in impls.items() if api.value == "messages"), None)
        if adapter is None:
            raise ValueError("it has no provider of the API `messages`")
        return await _findings(adapter, impls[Api.inference].routing_table)


async def _findings(adapter: "MessagesAdapter", table: Any) -> list[Finding]:
    from llama_stack_messages_provider.upstream.body import Timeouts
    from llama_stack_messages_provider.upstream.sessions import Sessions
    from llama_stack_messages_provider.upstream.token_counts import TokenCounter

    sessions = Sessions()
    counter = TokenCounter(sessions, Timeouts(_TIMEOUT_SECONDS, _TIMEOUT_SECONDS, _TIMEOUT_SECONDS))
    try:
        targets = await _targets(adapter, table)
        return await asyncio.gather(*(_finding(adapter, counter, target) for target in targets))
    finally:
        await sessions.close()


async def _targets(adapter: "MessagesAdapter", table: Any) -> list["Target"]:
    """Every LLM, and every provider of the kind that serves them that lists none: it may be down."""
    from llama_stack_messages_provider.host.models import known_providers
    from llama_stack_messages_provider.host.providers import is_openai_style
    from llama_stack_messages_provider.upstream.target import Target

    targets = [await adapter.resolver.target_of(model) for model in await adapter.resolver.all_llms()]
    providers = known_providers(table)
    known = {target.provider_id for target in targets}
    silent = [name for name, impl in providers.items() if name not in known and is_openai_style(impl)]
    targets += [Target(f"{name}/*", name, providers[name], "*", {}) for name in silent]
    return sorted(targets, key=lambda target: target.identifier)


async def _finding(adapter: "MessagesAdapter", counter: "TokenCounter", target: "Target") -> Finding:
    from llama_stack_messages_provider.engines import ENGINES
    from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError
    from llama_stack_messages_provider.rewriting import SUPPLIED

    try:
        plan = await adapter.planner.plan_for(target, {})
    except InvalidRequestError as exc:
        return Finding(target.identifier, "misconfigured", reason=exc.message)
    except MessagesError as exc:
        return Finding(target.identifier, "dead", reason=exc.message)
    capability, native = plan.capability, plan.route == "native"
    profile = ENGINES[capability.engine].native
    chosen = plan.reason != "configured"
    state = _state(plan)
    if state not in ("ok", "keyless"):
        return Finding(target.identifier, state, capability.engine, reason=capability.reason)
    return Finding(
        target.identifier,
        state,
        capability.engine,
        plan.route,
        plan.reason,
        await _count_method(counter, plan),
        {name: profile.gaps[name] for name in profile.gaps if name not in SUPPLIED} if native and chosen else {},
        sorted(profile.gaps.keys() & SUPPLIED) if native else (),
        profile.repaired if native else None,
        await _searcher(adapter, plan),
    )


async def _searcher(adapter: "MessagesAdapter", plan: "Plan") -> Literal["upstream", "stack"] | None:
    from llama_stack_messages_provider.engines import ENGINES

    search = await adapter.planner.plan_for(plan.target, {"tools": [{"type": "web_search_20250305"}]})
    if search.server_tools:
        return "stack"
    engine = ENGINES[search.capability.engine]
    knows = engine is not ENGINES.generic and "web_search" not in engine.native.gaps
    return "upstream" if knows and search.route == "native" else None


def _state(plan: "Plan") -> State:
    capability, endpoint = plan.capability, plan.endpoint
    if capability.messages != "unknown":
        return "ok"
    if capability.status in (401, 403):
        return "refused" if endpoint is not None and endpoint.api_key else "keyless"
    if capability.status >= 500:
        return "failing"
    return "dead" if capability.status == 0 else "ok"


async def _count_method(counter: "TokenCounter", plan: "Plan") -> str:
    if plan.route == "native" and plan.capability.count_tokens:
        return "native"
    if plan.endpoint is not None:
        word = {"model": plan.target.upstream_model, "messages": [{"role": "user", "content": "a"}]}
        if await counter.by_tokenizer(word, plan.endpoint, plan.engine) is not None:
            return "tokenizer"
    return "inference"


# --- printing ---


def _describe(finding: Finding) -> str:
    route = ": ".join(filter(None, (finding.route, finding.reason)))
    search = f"by the {finding.web_search}" if finding.web_search else None
    lines = [("engine", finding.engine), ("route", route), ("count", finding.count), ("web search", search)]
    lines.append(("mended", finding.mended))
    lines.append(("rewritten for", ", ".join(finding.rewritten)))
    lines += [("translated for" if not n else "", text) for n, text in enumerate(_gaps(finding.gaps))]
    return "\n".join([f"{finding.model}: {finding.state}", *(_line(name, text) for name, text in lines if text)])


def _gaps(gaps: Mapping[str, str]) -> list[str]:
    """The gaps, those together that end alike."""
    return [
        f"{', '.join(name for name in gaps if gaps[name] == what)} ({what})" for what in dict.fromkeys(gaps.values())
    ]


def _line(name: str, text: str) -> str:
    return f"  {name:<{_MARGIN}} {text}"
