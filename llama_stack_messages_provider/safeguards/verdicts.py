"""What a client is told of its calls, and how a classifier's answer is read: what is not clear is no verdict.

Source: measured with Claude Code 2.1.332, November 2026; the `anthropic` SDK's types do not have it.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError, UpstreamTimeoutError

__all__ = [
    "NOT_FLAGGED",
    "SCHEMA",
    "TYPE",
    "Verdict",
    "asked_types",
    "available",
    "flagged",
    "read_verdict",
    "reason_of",
    "safeguard_results",
    "stricter",
    "unavailable",
]

type Verdict = Mapping[str, Any]

TYPE = "dangerous_tool_use"
NOT_FLAGGED: Verdict = {"type": "evaluated", "outcome": "not_flagged"}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "explanation": {
            "type": "string",
            "description": "One sentence: what the call does, and what is wrong with it.",
        },
        "outcome": {"type": "string", "enum": ["flagged", "not_flagged"]},
    },
    "required": ["explanation", "outcome"],
    "additionalProperties": False,
}
"""Of a classifier's answer; the explanation comes first, so that the verdict follows from it."""

_MAX_TYPES = 8
_MAX_TYPE = 64
_MAX_ANSWER = 16_000
_MAX_EXPLANATION = 600
_FLAGGED = "The safety classifier flagged this call without saying why."
_REASONS = {"refusal": "refused", "max_tokens": "truncated", "model_context_window_exceeded": "input_too_long"}
_TOO_LONG = frozenset({Kind.PROMPT_TOO_LONG, Kind.ROOM})
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


def asked_types(safeguards: Any) -> list[str]:
    """The types of safeguards that a request asks for, each once; entries that cannot be read count for nothing.

    Raises:
        InvalidRequestError: It is no array.
    """
    if safeguards is None:
        return []
    if not isinstance(safeguards, list):
        raise InvalidRequestError("safeguards: Input should be an array")
    types = (entry.get("type") for entry in safeguards if isinstance(entry, dict))
    named = dict.fromkeys(name for name in types if isinstance(name, str) and 0 < len(name) <= _MAX_TYPE)
    return list(named)[:_MAX_TYPES]


# --- what is told ---


def unavailable(reason: str) -> Verdict:
    """No verdict of a call, or of a whole answer."""
    return {"type": "unavailable", "reason": reason}


def flagged(explanation: str) -> Verdict:
    """A call that is not to be run."""
    return {"type": "evaluated", "outcome": "flagged", "explanation": explanation}


def available(verdicts: Iterable[tuple[str, Verdict]]) -> Mapping[str, Any]:
    """The status of an answer whose calls were judged; of two calls with one id the worse verdict counts."""
    told: dict[str, Verdict] = {}
    for ident, verdict in verdicts:
        told[ident] = stricter(told.get(ident, NOT_FLAGGED), verdict)
    return {"type": "available", "tool_uses": told}


def stricter(first: Verdict, second: Verdict) -> Verdict:
    """Of two verdicts the one that lets less through."""
    return max(first, second, key=lambda each: (each != NOT_FLAGGED) + (each.get("outcome") == "flagged"))


def safeguard_results(types: Sequence[str], status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`safeguard_results`: the status of the one type that there is, and of others that there is none."""
    return [{"type": name, "status": status if name == TYPE else {"type": "unsupported"}} for name in types]


# --- what is read ---


def read_verdict(message: Mapping[str, Any]) -> Verdict:
    """The verdict in a classifier's answer."""
    if reason := _REASONS.get(str(message.get("stop_reason"))):
        return unavailable(reason)
    blocks = message.get("content") or ()
    answer = _object("".join(block["text"] for block in blocks if block.get("type") == "text"))
    match answer.get("outcome"):
        case "not_flagged":
            return NOT_FLAGGED
        case "flagged":
            explanation = answer.get("explanation")
            said = explanation.strip() if isinstance(explanation, str) else ""
            return flagged(said[:_MAX_EXPLANATION] or _FLAGGED)
    return unavailable("error")


def _object(text: str) -> Mapping[str, Any]:
    """The one object that a text is, alone or fenced; an empty one if it is anything else."""
    text = text.strip()
    if len(text) > _MAX_ANSWER:
        return {}
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1]
    try:
        value = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):  # a second outcome beside the first
        raise ValueError("a field stands twice")
    return fields


def reason_of(error: MessagesError) -> str:
    """Why there is no verdict, after a classifier's failure."""
    if isinstance(error, UpstreamTimeoutError):
        return "timeout"
    if error.refusal is not None and error.refusal.kind in _TOO_LONG:
        return "input_too_long"
    return "error"
