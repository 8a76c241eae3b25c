"""Whole native messages, and errors, that break the protocol, mended; what breaks nothing is the same object."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from llama_stack_messages_provider.adaptation.upstream_errors import from_event
from llama_stack_messages_provider.errors import ErrorType

__all__ = [
    "Event",
    "PassedMessage",
    "Sign",
    "changed",
    "complete",
    "error_event",
    "is_error",
    "repair_message",
    "skeleton",
    "with_reason",
    "with_stop_sequence",
]

Event = dict[str, Any]
Sign = Callable[[str], str]

_ERROR_TYPES = frozenset(get_args(ErrorType))


class PassedMessage(dict[str, Any]):
    """A whole message that is answered as the bytes that it came as: who changes anything makes another one of it.

    Args:
        message: Its JSON.
        body: Its bytes.
    """

    __slots__ = ("body",)

    def __init__(self, message: Mapping[str, Any], body: bytes) -> None:
        super().__init__(message)
        self.body = body


def repair_message(message: Event, sign: Sign, *, message_id: str = "", model: str | None = None) -> Event:
    """A native upstream's whole message, mended; the same object if nothing was wrong.

    Args:
        message: The parsed body.
        sign: Makes a thinking block's signature from its text, for upstreams that give none.
        message_id: Id of the message, for upstreams that give none.
        model: The name that the client used; None leaves the upstream's.
    """
    whole = with_stop_sequence(complete(message, message_id, model))
    whole = with_reason(whole, _reason(block.get("type") for block in whole["content"]))
    return changed(whole, {"content": [_whole_block(block, sign) for block in whole["content"]]})


def complete(message: Event, message_id: str, model: str | None) -> Event:
    """A message with all the fields that a client counts on."""
    always = {"id": message_id, "type": "message", "role": "assistant", "content": []}
    missing = {name: value for name, value in always.items() if not message.get(name)}
    nullable = {name: None for name in ("stop_reason", "stop_sequence") if name not in message}
    usage = message.get("usage") or {}
    uncounted = {name: 0 for name in ("input_tokens", "output_tokens") if not isinstance(usage.get(name), int)}
    named = {"model": message.get("model") or "" if model is None else model}
    new = {**missing, **named, **nullable, "usage": changed(usage, uncounted)}
    return changed(message, new)


def _whole_block(block: Event, sign: Sign) -> Event:
    empty = skeleton(block.get("type"))
    block = changed(block, {name: value for name, value in empty.items() if block.get(name) is None})
    if block.get("type") == "thinking" and not block["signature"]:
        return {**block, "signature": sign(block["thinking"])}
    return block


def skeleton(kind: str | None) -> Event:
    """The fields that a block of this kind starts with, empty."""
    match kind:
        case "text":
            return {"text": ""}
        case "thinking":
            return {"thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            return {"input": {}}
        case _:
            return {}


def with_stop_sequence(fields: Event) -> Event:
    """The fields of a message's end with a reason that fits its stop sequence."""
    # llama.cpp names the sequence that it stopped at, and gives `end_turn` as the reason.
    if fields.get("stop_sequence") and fields.get("stop_reason") in ("end_turn", None):
        return {**fields, "stop_reason": "stop_sequence"}
    missing = {name: None for name in ("stop_reason", "stop_sequence") if name not in fields}
    return {**fields, **missing} if missing else fields


def with_reason(fields: Event, reason: str) -> Event:
    """The same with a reason."""
    # Ollama leaves out a reason that it does not know; a message that came to its end has one, on both routes.
    return fields if fields.get("stop_reason") else {**fields, "stop_reason": reason}


def _reason(kinds: Iterable[Any]) -> str:
    return "tool_use" if "tool_use" in kinds else "end_turn"


def changed(fields: Event, new: Mapping[str, Any]) -> Event:
    """`fields` with `new` in them; the same object if they are there already."""
    if all(name in fields and fields[name] == value for name, value in new.items()):
        return fields
    return {**fields, **new}


def error_event(event: Event, request_id: str | None) -> Event:
    """An upstream's error as Anthropic tells one; the same object if it does so already.

    Args:
        event: An `error` event's data in any shape: engines have types of their own, or leave the envelope out.
        request_id: Id of the request, for the envelope.
    """
    error = event.get("error")
    mapped = from_event(event if isinstance(error, Mapping | str) else {"error": event})
    if event.get("type") != "error" or not isinstance(error, Mapping) or error.get("type") not in _ERROR_TYPES:
        return mapped.body(request_id)
    # A context that is full is told in one way, whatever its words: agents act on it.
    overflow = mapped.message.startswith("prompt is too long") and mapped.message != error.get("message")
    return mapped.body(request_id) if overflow or not isinstance(error.get("message"), str) else event


def is_error(event: Mapping[str, Any], name: str) -> bool:
    """Whether an event is an error, in any of the shapes that engines send."""
    # llama.cpp sends the bare error object: its `type` is the error's own, such as `server_error`.
    kind = event.get("type")
    if kind is None:
        return name == "error" or "error" in event or "message" in event
    return "error" in (kind, name) or str(kind).endswith("_error")
