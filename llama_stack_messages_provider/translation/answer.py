"""What whole and streamed answers have in common: the message's skeleton, and the blocks of calls and thinking."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from llama_stack_messages_provider.translation.calls import Call

__all__ = [
    "Restore",
    "Sign",
    "Thinking",
    "call_id_prefix",
    "message_skeleton",
    "model_of",
    "redacted_thinking",
    "sign_thinking",
    "tool_use",
    "unsigned",
]

Restore = Callable[[str], dict[str, Any]]
Thinking = Literal["shown", "omitted", "hidden"]
"""Whether thinking is in the answer: with its text, as an empty block with a signature, or not at all."""


class Sign(Protocol):
    """Makes the signature of thinking, which may carry what the upstream wants back."""

    def __call__(self, thinking: str, carried: Mapping[str, Any] | None = None) -> str: ...


def unsigned(thinking: str, carried: Mapping[str, Any] | None = None) -> str:
    """No signature."""
    return ""


def model_of(sign: Sign) -> str:
    """The model that a signer signs for."""
    return str(getattr(sign, "model", ""))


def sign_thinking(sign: Sign, text: str, details: list[dict[str, Any]], display: Thinking) -> str:
    """The signature of a block: it carries the text that is not shown, and what else the upstream wants back."""
    carried: dict[str, Any] = {"details": details} if details else {}
    if display == "omitted" and text:
        carried["text"] = text
    shown = text if display == "shown" else ""
    return sign(shown, carried) if carried else sign(shown)


def redacted_thinking(sign: Sign, details: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The block of reasoning that has no text; None if there is none, or nobody to sign it."""
    data = sign("", {"details": details}) if details else ""
    return {"type": "redacted_thinking", "data": data} if data else None


def message_skeleton(message_id: str, model: str, usage: dict[str, Any]) -> dict[str, Any]:
    """A message before its content: what `message_start` carries. Null is written, as Anthropic does."""
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "usage": {"cache_creation": None, "inference_geo": None, "service_tier": None, **usage},
        "container": None,
    }


def call_id_prefix(message_id: str) -> str:
    """What the ids of calls begin with where the upstream gives none."""
    return f"toolu_{message_id.removeprefix('msg_')}_"


def tool_use(call: Call, restore: Restore, arguments: dict[str, Any]) -> dict[str, Any]:
    """A call's block."""
    caller = {"type": "direct"}
    return {"type": "tool_use", "id": call.id, **restore(call.name), "input": arguments, "caller": caller}
