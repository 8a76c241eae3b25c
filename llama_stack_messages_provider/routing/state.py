"""What is decided, and found out, about one request on its way down a route."""

from collections.abc import Awaitable, Collection, Mapping
from typing import Any

from llama_stack_messages_provider.batches.identity import current_identity
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.metrics import count_adaptations, count_dropped
from llama_stack_messages_provider.routing.chain import Chain
from llama_stack_messages_provider.routing.plan import Plan
from llama_stack_messages_provider.routing.told import way_of
from llama_stack_messages_provider.status.noted import Noted
from llama_stack_messages_provider.telemetry.observed import Observed

__all__ = ["RouteState", "client_name", "planned", "report_dropped"]

logger = get_logger(name=__name__, category="providers")

_DROPPED_LOGGED = 40


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
        noted: What counts it in this process; None where nobody does.
        is_counted: Whether it is a message that its user asks for: budgets count no other.
        budget_headers: What its client is told of its user's budget.
        applied_edits: What context editing cleared for the last call of the model; None where nothing was asked for.
        asks_others: Whether other models may be asked for it: for a count they are not, nor for what one of them asks.
        chain: The models that may answer in place of the first; None where it answers alone.
        unjudged: What passed without being judged by a shield; None where none judges it.
        session: The session that it belongs to, as its client named it; None where it did not.
        answered: Whether a model has answered a call for it.
    """

    __slots__ = (
        "_reported",
        "answered",
        "applied_edits",
        "asks_others",
        "budget_headers",
        "chain",
        "dropped",
        "headers",
        "is_counted",
        "noted",
        "observed",
        "plan",
        "session",
        "size",
        "strict",
        "unjudged",
    )

    def __init__(self, plan: Plan, headers: Mapping[str, str], *, strict: bool, size: int) -> None:
        self.plan = plan
        self.headers = headers
        self.strict = strict
        self.size = size
        self.dropped: list[str] = []
        self.applied_edits: list[dict[str, Any]] | None = None
        self.asks_others = True
        self.answered = False
        self.chain: Chain | None = None
        self.session: str | None = None
        self.unjudged: list[str] | None = None
        self.observed: Observed | None = None
        self.noted: Noted | None = None
        self.is_counted = False
        self.budget_headers: Mapping[str, str] = {}
        self._reported = 0

    @property
    def session_headers(self) -> dict[str, str]:
        """What tells routers in front of the engine the session; what its provider's settings say stays."""
        if self.session is None or self.plan.endpoint is None:
            return {}
        configured = {name.lower() for name, _ in self.plan.endpoint.headers}
        return {name: self.session for name in self.plan.session_headers if name.lower() not in configured}

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

    def go_to(self, plan: Plan, dropped: Collection[str]) -> None:
        """Another model is asked: what the one before did not get is reported by now, and no longer told."""
        self.plan, self.applied_edits, self.answered = plan, None, False
        self.dropped, self._reported = [], 0
        self.drop(dropped)
        self.watch(self.observed)

    def end_chain(self) -> None:
        """No other model may be asked, nor another replica of this one."""
        self.answered = True
        if self.chain is not None:
            self.chain.ended = True

    def watch(self, observed: Observed | None) -> None:
        """Tell of the request, whose way is decided."""
        if self.noted is not None:
            self.noted.label = self.plan.target.label
        if observed is not None:
            observed.planned(way_of(self.plan), self.dropped)
            self.observed = observed

    def unreported(self) -> list[str]:
        """What was dropped since this was asked last."""
        new = self.dropped[self._reported :]
        self._reported = len(self.dropped)
        return new


def report_dropped(state: RouteState) -> None:
    """Log and count what was dropped since this was called last: a later round may drop what no header can name."""
    if dropped := state.unreported():
        target = state.plan.target
        logger.info("Parts of a request were dropped", model=target.identifier, dropped=dropped[:_DROPPED_LOGGED])
        count_dropped(target, dropped)


async def planned(observed: Observed | None, noted: Noted | None, planning: Awaitable[RouteState]) -> RouteState:
    """What comes of planning, told of and counted from then on; or its failure."""
    try:
        state = await planning
    except BaseException as exc:
        if observed is not None:
            observed.failed(exc)
        if noted is not None:
            noted.failed(exc)
        raise
    state.noted = noted
    state.watch(observed)
    return state
