"""Which failures of a model another one may make good."""

from typing import Literal

from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.errors import MessagesError

__all__ = ["Reason", "reason_of"]

Reason = Literal["refusal", "unavailable", "no_room"]
_NO_ROOM = frozenset({Kind.PROMPT_TOO_LONG, Kind.ROOM})


def reason_of(failure: MessagesError) -> Reason | None:
    """Why another model is asked; None for what the client or the stack has to put right.

    A model is unavailable that cannot be reached, does not answer in time, answers with a 5xx, or asks to wait (429,
    503, 529: https://platform.claude.com/docs/en/api/errors).
    """
    refusal = failure.refusal
    if refusal is not None and (refusal.kind in _NO_ROOM or failure.status == 413):
        return "no_room"
    return "unavailable" if failure.status == 429 or failure.status >= 500 else None
