"""What single calls of models within a message cost, as `usage.iterations` tells it."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["CallsModels", "iteration"]

_COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


@runtime_checkable
class CallsModels(Protocol):
    """A tool that calls models itself; what they cost is told, and not added to the message's own usage."""

    def take_iterations(self) -> list[dict[str, Any]]:
        """What its calls have cost since this was asked last."""
        ...


def iteration(usage: Mapping[str, Any], kind: str = "message", **more: Any) -> dict[str, Any]:
    """What one call of a model cost, as `BetaMessageIterationUsage` has it, or another kind of iteration."""
    return {"type": kind, **more, **{name: usage.get(name) or 0 for name in _COUNTS}}
