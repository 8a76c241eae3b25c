"""A whole OpenAI completion to an Anthropic message."""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.translation.calls import ToolCallAccumulator, parse_arguments
from llama_stack_messages_provider.translation.reasons import finished_choice, stop_of, usage_of
from llama_stack_messages_provider.translation.stream import (
    Restore,
    Sign,
    ids_of_round,
    message_skeleton,
    reasoning_of,
    text_of,
    tool_use,
)

__all__ = ["to_message"]


def to_message(
    completion: Mapping[str, Any],
    *,
    message_id: str,
    model: str,
    sign: Sign = lambda _: "",
    stop_sequences: Sequence[str] = (),
    max_tokens: int | None = None,
    restore: Restore = lambda name: {"name": name},
    show_thinking: bool = True,
    round_number: int = 0,
) -> dict[str, Any]:
    """The message that a completion makes; the arguments are those of `StreamTranslator`, and the number of
    the round in a message of several.

    Raises:
        ValueError: The completion has no choice, so that there is nothing to answer with.
        UpstreamError: The upstream said that it failed.
    """
    choices = completion.get("choices") or ()
    if not choices:
        raise ValueError("the completion has no choices")
    choice: Mapping[str, Any] = choices[0]
    source: Mapping[str, Any] = choice.get("message") or {}
    book = _calls(source, ids_of_round(message_id, round_number))
    usage = usage_of(completion.get("usage"))
    text = _text(source)
    stop = stop_of(
        choice.get("finish_reason"),
        finished_choice(choice, completion),
        calls=book,
        refused=bool(source.get("refusal")),
        text_tail=text,
        stop_sequences=stop_sequences,
        max_tokens=max_tokens,
        output_tokens=usage["output_tokens"],
    )
    content = _thinking(source, sign, show_thinking) + _text_blocks(text) + _tool_uses(book, restore)
    return {
        **message_skeleton(message_id, model, usage),
        "content": content,
        "stop_reason": stop.reason,
        "stop_sequence": stop.sequence,
        "stop_details": stop.details,
    }


def _calls(source: Mapping[str, Any], id_prefix: str) -> ToolCallAccumulator:
    book = ToolCallAccumulator(id_prefix)
    for index, call in enumerate(source.get("tool_calls") or ()):
        book.add({**call, "index": index})
    return book


def _text(source: Mapping[str, Any]) -> str:
    refusal = source.get("refusal")
    return text_of(source) + (refusal if isinstance(refusal, str) else "")


def _thinking(source: Mapping[str, Any], sign: Sign, show: bool) -> list[dict[str, Any]]:
    reasoning = reasoning_of(source)
    if not reasoning:
        return []
    return [{"type": "thinking", "thinking": reasoning if show else "", "signature": sign(reasoning)}]


def _text_blocks(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "citations": None}] if text else []


def _tool_uses(book: ToolCallAccumulator, restore: Restore) -> list[dict[str, Any]]:
    return [tool_use(call, restore, parse_arguments(call.take())) for call in book.calls]
