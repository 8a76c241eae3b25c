"""What OpenTelemetry is told of a plan, and of a count."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

from llama_stack_messages_provider.routing.plan import Plan
from llama_stack_messages_provider.telemetry.observed import Observed, Way
from llama_stack_messages_provider.upstream.token_counts import Count

__all__ = ["counting", "way_of"]

# Providers of the host's whose name in the conventions is another; those of engines stand in their modules.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "vertexai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
}
_PORTS = {"http": 80, "https": 443}


def way_of(plan: Plan) -> Way:
    """Where a request goes, in the conventions' words."""
    target, engine = plan.target, plan.engine
    kind = target.provider_type.rpartition("::")[2]
    address, port = _place(plan.endpoint.root) if plan.endpoint else (None, None)
    return Way(
        plan.route,
        engine.provider or _PROVIDERS.get(kind, kind),
        target.identifier[:200],
        target.upstream_model,
        target.label,
        engine.name,
        address,
        port,
    )


@lru_cache(256)
def _place(root: str) -> tuple[str | None, int | None]:
    parts = urlsplit(root)
    return parts.hostname, parts.port or _PORTS.get(parts.scheme)


@contextmanager
def counting(observed: Observed | None) -> Iterator[Callable[[Count], Count]]:
    """Within it an upstream is asked for a count, which is given to what this yields."""
    if observed is None:
        yield _as_it_is
        return
    with observed.call(stream=False) as call:

        def told(count: Count) -> Count:
            call.counted(count.tokens)
            return count

        yield told


def _as_it_is(count: Count) -> Count:
    return count
