"""What is decided, and found out, about one request on its way down a route."""

from collections.abc import Collection, Mapping
from typing import Any

from llama_stack_messages_provider.batches.identity import current_identity
from llama_stack_messages_provider.metrics import count_adaptations
from llama_stack_messages_provider.routing.plan import Plan
from llama_stack_messages_provider.telemetry.observed import Observed

__all__ = ["RouteState", "client_name"]


def client_name() -> str:
    """The current user, as far as somebody has said who it is."""
    identity = current_identity()
    return identity.principal if identity else ""


class RouteState:
    """The state of one request, which may change under way.

    Args:
        plan: How it goes.
        headers: The headers that go with it to a native upstream.
        strict: Whether what would be dropped is refused.
        size: Bytes of the request.

    Attributes:
        dropped: Paths of what does not reach the model, as the client is told them.
        observed: What tells of it; None where nobody listens.
        applied_edits: What context editing cleared for the last call of the model; None where nothing was asked for.
    """

    __slots__ = ("_reported", "applied_edits", "dropped", "headers", "observed", "plan", "size", "strict")

    def __init__(self, plan: Plan, headers: Mapping[str, str], *, strict: bool, size: int) -> None:
        self.plan = plan
        self.headers = headers
        self.strict = strict
        self.size = size
        self.dropped: list[str] = []
        self.applied_edits: list[dict[str, Any]] | None = None
        self.observed: Observed | None = None
        self._reported = 0

    def drop(self, paths: Collection[str]) -> None:
        """Name what does not reach the model."""
        if not paths:
            return
        known = set(self.dropped)
        self.dropped += [path for path in dict.fromkeys(paths) if path not in known]

    def adapt(self, names: Collection[str]) -> None:
        """Tell how the request was changed until its upstream took it."""
        if not names:
            return
        count_adaptations(self.plan.target, names)
        if self.observed is not None:
            self.observed.adapted(list(names))

    def unreported(self) -> list[str]:
        """What was dropped since this was asked last."""
        new = self.dropped[self._reported :]
        self._reported = len(self.dropped)
        return new
