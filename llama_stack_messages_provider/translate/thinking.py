"""`thinking` and `output_config.effort` as the upstream's reasoning controls."""

from typing import Any

from llama_stack_messages_provider.translate.dialects import Dialect

__all__ = ["reasoning_params", "shows_thinking"]

# Budgets in tokens, up to which an effort is asked for where an engine takes no budget.
_EFFORT_BY_BUDGET = ((4096, "low"), (16384, "medium"))
_EFFORT_RANK = ("low", "medium", "high", "xhigh", "max")


def reasoning_params(thinking: dict[str, Any] | None, effort: str | None, dialect: Dialect) -> dict[str, Any]:
    """The parameters that make an engine think as the client asked.

    Args:
        thinking: The request's `thinking`, as JSON; absent means that the engine decides.
        effort: The request's `output_config.effort`.
        dialect: The engine's row.
    """
    kind = (thinking or {}).get("type")
    if kind == "disabled":
        return _switch(dialect, on=False)
    budget = (thinking or {}).get("budget_tokens")
    params: dict[str, Any] = {} if kind is None else _switch(dialect, on=True)
    if dialect.budget and isinstance(budget, int):
        params[dialect.budget] = budget
    wanted = effort or (_effort_of(budget) if isinstance(budget, int) else None)
    if wanted and dialect.effort:
        params["reasoning_effort"] = _known_effort(wanted, dialect)
    return params


def shows_thinking(thinking: dict[str, Any] | None) -> bool:
    """Whether thinking text is shown: `display: omitted` leaves only the signature."""
    return (thinking or {}).get("display") != "omitted"


def _switch(dialect: Dialect, *, on: bool) -> dict[str, Any]:
    if dialect.switch == "template":
        # Templates differ in the variable's name; an unknown one has no effect.
        return {"chat_template_kwargs": {"enable_thinking": on, "thinking": on}}
    if dialect.switch == "effort_none" and not on:
        return {"reasoning_effort": "none"}
    return {}


def _effort_of(budget: int) -> str:
    return next((effort for limit, effort in _EFFORT_BY_BUDGET if budget <= limit), "high")


def _known_effort(wanted: str, dialect: Dialect) -> str:
    if wanted in dialect.efforts or wanted not in _EFFORT_RANK:
        return wanted
    rank = _EFFORT_RANK.index(wanted)
    weaker = [e for e in dialect.efforts if _EFFORT_RANK.index(e) <= rank]
    return weaker[-1] if weaker else dialect.efforts[0]
