"""What may become of a thing that the Messages API can say."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "Support"]

Kind = Literal[
    "parameter",
    "batch parameter",
    "setting",
    "header",
    "block",
    "block field",
    "source",
    "tool",
    "tool field",
    "tool choice",
    "response block",
    "delta",
    "event",
    "stop reason",
    "error",
]
Translated = Literal["mapped", "emulated", "dropped", "refused"]


@dataclass(frozen=True, slots=True)
class Support:
    """What becomes of one thing.

    Args:
        translated: Its fate under translation.
        reason: How, or why not.
        named: Whether the client is told of a loss; false where dropping changes no answer.
        needs: What a native engine must have for it, in the words of the engines' profiles; None where all have it.
    """

    translated: Translated
    reason: str
    named: bool = True
    needs: str | None = None
