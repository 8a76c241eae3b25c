"""`thinking` and `output_config.effort` as the upstream's reasoning controls."""

from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.engines import ChatWording
from llama_stack_messages_provider.translation.answer import Thinking

__all__ = ["EFFORTS", "is_thinking_unsupported", "reasoning_params", "thinking_in_answer"]

# Budgets in tokens, up to which an effort is asked for where an engine takes no budget.
_EFFORT_BY_BUDGET = ((4096, "low"), (16384, "medium"))
EFFORTS = ("low", "medium", "high", "xhigh", "max")

_ON = frozenset({"enabled", "adaptive"})
_OFF = frozenset({"disabled", "between_tools"})


def reasoning_params(thinking: dict[str, Any] | None, effort: str | None, dialect: ChatWording) -> dict[str, Any]:
    """The parameters that make an engine think as the client asked.

    Args:
        thinking: The request's `thinking`, as JSON; absent or of an unknown type means that the engine decides.
            `between_tools` is off too: it asks for progress notes, which no engine has.
        effort: The request's `output_config.effort`, one of `EFFORTS`.
        dialect: The engine's row.
    """
    kind = (thinking or {}).get("type")
    if kind in _OFF:
        return dict(dialect.thinking_off)
    params = dict(dialect.thinking_on) if kind in _ON else {}
    budget = (thinking or {}).get("budget_tokens") if kind == "enabled" else None
    if dialect.budget and budget is not None:
        params[dialect.budget] = budget
    wanted = effort or (_effort_of(budget) if budget is not None else None)
    if wanted and dialect.effort:
        params["reasoning_effort"] = _known_effort(wanted, dialect)
    return params


def is_thinking_unsupported(thinking: dict[str, Any] | None, dialect: ChatWording) -> bool:
    """Whether an engine cannot be told what `thinking` asks for."""
    kind = (thinking or {}).get("type")
    deaf = not (dialect.thinking_on or dialect.thinking_off or dialect.effort)
    return kind is not None and (kind not in _ON | _OFF or (deaf and kind not in _OFF))


def thinking_in_answer(request: Mapping[str, Any]) -> Thinking:
    """Whether the answer to a request has thinking in it.

    Nobody expects thinking that was not asked for; but where there are tools it has to come back with their results.
    """
    thinking = request.get("thinking") or {}
    kind = thinking.get("type")
    if kind in _OFF or (kind is None and not request.get("tools")):
        return "hidden"
    return "omitted" if thinking.get("display") == "omitted" else "shown"


def _effort_of(budget: int) -> str:
    return next((effort for limit, effort in _EFFORT_BY_BUDGET if budget <= limit), "high")


def _known_effort(wanted: str, dialect: ChatWording) -> str:
    rank = EFFORTS.index(wanted)
    weaker = [effort for effort in dialect.efforts if EFFORTS.index(effort) <= rank]
    return weaker[-1] if weaker else dialect.efforts[0]
