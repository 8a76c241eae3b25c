"""A whole OpenAI completion to an Anthropic message."""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.translation.answer import (
    Restore,
    Sign,
    Thinking,
    call_id_prefix,
    message_skeleton,
    model_of,
    redacted_thinking,
    sign_thinking,
    tool_use,
    unsigned,
)
from llama_stack_messages_provider.translation.calls import ToolCallAccumulator, parse_arguments
from llama_stack_messages_provider.translation.reasoning import ReasoningDetails, reasoning_of, text_of
from llama_stack_messages_provider.translation.reasons import finished_choice, stop_of, usage_in, usage_of
from llama_stack_messages_provider.translation.text import StopCutter, mended

__all__ = ["to_message"]


def to_message(
    completion: Mapping[str, Any],
    *,
    message_id: str,
    model: str,
    sign: Sign = unsigned,
    stop_sequences: Sequence[str] = (),
    max_tokens: int | None = None,
    window: int | None = None,
    restore: Restore = lambda name: {"name": name},
    thinking: Thinking = "shown",
) -> dict[str, Any]:
    """The message that a completion makes; the arguments are those of `StreamTranslator`.

    Raises:
        ValueError: The completion has no choice, so that there is nothing to answer with.
        UpstreamError: The upstream said that it failed.
    """
    choices = completion.get("choices") or ()
    if not choices:
        raise ValueError("the completion has no choices")
    choice: Mapping[str, Any] = choices[0]
    source: Mapping[str, Any] = choice.get("message") or {}
    usage = usage_of(usage_in(completion))
    text, cut = _text(source, stop_sequences)
    calls = ToolCallAccumulator(call_id_prefix(message_id), model_of(sign))
    for index, call in enumerate((source.get("tool_calls") or ()) if cut is None else ()):
        calls.add({**call, "index": index})
    stop = stop_of(
        choice.get("finish_reason"),
        finished_choice(choice, completion),
        calls=calls,
        refused=bool(source.get("refusal")),
        cut=cut,
        stop_sequences=stop_sequences,
        max_tokens=max_tokens,
        window=window,
        usage=usage,
    )
    thoughts, uses = _thinking(source, sign, thinking), _tool_uses(calls, restore)
    said = _text_blocks(text, alone=not (thoughts or uses))
    return {
        **message_skeleton(message_id, model, usage),
        "content": [*thoughts, *said, *uses],
        **stop.fields,
    }


def _text(source: Mapping[str, Any], stop_sequences: Sequence[str]) -> tuple[str, str | None]:
    """The text up to a stop sequence, and that sequence."""
    refusal = source.get("refusal")
    text = mended(text_of(source) + (refusal if isinstance(refusal, str) else ""))
    if not stop_sequences:
        return text, None
    cutter = StopCutter(stop_sequences)
    text = cutter.feed(text)
    return text + cutter.flush(), cutter.found


def _thinking(source: Mapping[str, Any], sign: Sign, display: Thinking) -> list[dict[str, Any]]:
    if display == "hidden":
        return []
    details = ReasoningDetails()
    details.add(source)
    items = details.take()
    if text := mended(reasoning_of(source)):
        signature = sign_thinking(sign, text, items, display)
        return [{"type": "thinking", "thinking": text if display == "shown" else "", "signature": signature}]
    block = redacted_thinking(sign, items)
    return [block] if block else []


def _text_blocks(text: str, *, alone: bool) -> list[dict[str, Any]]:
    """The text; white space is none where there is anything else, for Anthropic refuses it in a later turn."""
    said = bool(text) if alone else bool(text) and not text.isspace()
    return [{"type": "text", "text": text, "citations": None}] if said else []


def _tool_uses(calls: ToolCallAccumulator, restore: Restore) -> list[dict[str, Any]]:
    blocks = []
    for call in calls.calls:
        if call.name or call.begun:
            calls.start(call)
            blocks.append(tool_use(call, restore, parse_arguments(mended(call.drain()))))
    return blocks
