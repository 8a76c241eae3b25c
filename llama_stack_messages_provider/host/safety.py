"""The host's safety API: its shields, and what they say of a text.

| internal | used for |
|---|---|
| `SafetyRouter.routing_table.get_provider_impl(shield_id)`, `run_shield` of the provider | `run_shield` |
| `routing_table.list_shields()` | `shield_ids` |

Its router is passed by: it writes what it has judged into a span. Tried with llama-stack 0.7.3.
"""

from dataclasses import dataclass
from typing import Any, Literal

from llama_stack_api import OpenAIAssistantMessageParam, OpenAIUserMessageParam, RunShieldRequest

from llama_stack_messages_provider.host.access import as_the_stack

__all__ = ["Violation", "run_shield", "shield_ids"]

_MESSAGES = {"user": OpenAIUserMessageParam, "assistant": OpenAIAssistantMessageParam}


@dataclass(frozen=True, slots=True)
class Violation:
    """What a shield has against a text.

    Args:
        level: `error`, or something milder.
        message: What it tells the user; may be empty.
        kind: What it calls it; may be empty.
    """

    level: Literal["info", "warn", "error"]
    message: str
    kind: str


async def run_shield(safety: Any, shield_id: str, role: Literal["user", "assistant"], text: str) -> Violation | None:
    """What a shield has against a text; raises whatever its provider raises.

    The text is the only message: Llama Guard passes over the first of two, and others read the last one, or all.
    No user's access counts: who may not read a shield is judged by it all the same.

    Args:
        safety: The stack's safety API.
        shield_id: The shield.
        role: Who says it.
        text: The text.
    """
    with as_the_stack():
        provider = await safety.routing_table.get_provider_impl(shield_id)
        request = RunShieldRequest(shield_id=shield_id, messages=[_MESSAGES[role](content=text)])
        found = (await provider.run_shield(request)).violation
    if found is None:
        return None
    kind = (found.metadata or {}).get("violation_type") or ""
    return Violation(found.violation_level.value, found.user_message or "", str(kind))


async def shield_ids(safety: Any) -> list[str]:
    """The ids of all shields that the stack has, whoever may read them."""
    with as_the_stack():
        return [shield.identifier for shield in (await safety.routing_table.list_shields()).data]
