"""Why a turn ended, and what it cost.

Precedence of stop reasons, highest first: a refusal; a length limit (its last call may be cut off); a stop sequence
that cut a call off; a tool call, whatever the upstream called it; a matched stop sequence; the end of the turn.

Sources: `anthropic.types.StopReason`, https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons,
https://platform.openai.com/docs/api-reference/chat/object (`finish_reason`, `usage`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.translation.calls import ToolCallAccumulator

__all__ = ["FINISH_TO_STOP", "Stop", "StopReason", "added_usage", "finished_choice", "stop_of", "usage_in", "usage_of"]
_SUMMED = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")

StopReason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]

# None: known, and decided by what was sent (a tool call, a stop sequence, nothing).
FINISH_TO_STOP: dict[str, StopReason | None] = {
    "stop": None,
    "tool_calls": None,
    "function_call": None,
    "eos": None,
    "length": "max_tokens",
    "model_length": "model_context_window_exceeded",  # Mistral
    "model_context_window_exceeded": "model_context_window_exceeded",  # Z.ai
    "content_filter": "refusal",
    "sensitive": "refusal",  # Z.ai
}

# The engine gave up (the last two are Z.ai's and DeepSeek's words). No stop reason says that, and a client must not
# take half an answer for a whole one.
_FAILED = frozenset({"abort", "error", "network_error", "insufficient_system_resource"})


@dataclass(frozen=True, slots=True)
class Stop:
    """How a message ended: `stop_reason`, the matched `stop_sequence`, and details of a refusal."""

    reason: StopReason
    sequence: str | None = None
    details: dict[str, Any] | None = None


def stop_of(
    finish_reason: str | None,
    choice: Mapping[str, Any],
    *,
    calls: ToolCallAccumulator,
    refused: bool,
    text_tail: str,
    stop_sequences: Sequence[str],
    max_tokens: int | None,
    output_tokens: int | None,
) -> Stop:
    """The stop of a finished choice.

    Args:
        finish_reason: The upstream's word; None if it ended without one.
        choice: The choice that carried it, with what the engine adds (`stop_reason`, `matched_stop`).
        calls: The tool calls that were sent.
        refused: Whether the upstream sent a `refusal`.
        text_tail: The end of the text, for upstreams that leave the stop string in it.
        stop_sequences: What the client asked to stop at.
        max_tokens: The limit that was sent, in tokens.
        output_tokens: What was generated, in tokens; None if the upstream did not say.

    Raises:
        UpstreamError: The upstream says that it failed.
    """
    if finish_reason in _FAILED:
        raise UpstreamError(f"The upstream gave up before the answer was complete (finish_reason: {finish_reason})")
    mapped = FINISH_TO_STOP.get(finish_reason or "stop")
    if mapped == "refusal" or refused:
        return Stop("refusal", details={"type": "refusal", "category": None, "explanation": None})
    if mapped is not None:
        return Stop(_length_reason(max_tokens, output_tokens) if mapped == "max_tokens" else mapped)
    told = _told_sequence(choice, stop_sequences)
    if calls and (told is None or calls.are_whole):
        return Stop("tool_use")
    sequence = told or next((s for s in stop_sequences if s and text_tail.endswith(s)), None)
    return Stop("end_turn") if sequence is None else Stop("stop_sequence", sequence)


def finished_choice(choice: Mapping[str, Any], completion: Mapping[str, Any]) -> Mapping[str, Any]:
    """A choice with the `stopping_word` that llama.cpp tells beside it where `verbose` asks for it.

    Args:
        choice: The choice that has a finish reason.
        completion: The completion or the chunk that it came in.
    """
    beside = completion.get("__verbose")
    return {**choice, "stopping_word": beside.get("stopping_word")} if isinstance(beside, Mapping) else choice


def _length_reason(max_tokens: int | None, output_tokens: int | None) -> StopReason:
    # One token of grace: engines differ on whether the last token counts.
    if max_tokens is not None and output_tokens and output_tokens + 1 < max_tokens:
        return "model_context_window_exceeded"
    return "max_tokens"


def _told_sequence(choice: Mapping[str, Any], stop_sequences: Sequence[str]) -> str | None:
    # vLLM says `stop_reason`, SGLang `matched_stop`, llama.cpp `stopping_word`; an integer is a token id.
    for key in ("stop_reason", "matched_stop", "stopping_word"):
        value = choice.get(key)
        if isinstance(value, str) and value and value in stop_sequences:
            return value
    return None


def usage_in(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage so far that a chunk tells, if it does; llama.cpp tells the prompt's as its progress in reading it."""
    progress = chunk.get("prompt_progress")
    if not isinstance(progress, Mapping):
        return chunk.get("usage")
    cached = {"cached_tokens": progress.get("cache")}
    return {"prompt_tokens": progress.get("total"), "prompt_tokens_details": cached}


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """OpenAI's usage in Anthropic's terms: `input_tokens` excludes what was read from the cache.

    Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (tracking cache performance).
    """
    usage = usage if isinstance(usage, Mapping) else {}
    prompt = _count(usage.get("prompt_tokens"))
    cached = min(_count(_detail(usage, "prompt_tokens_details", "cached_tokens")), prompt)
    output = _count(usage.get("completion_tokens"))
    thinking = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    if thinking is None:
        thinking = usage.get("reasoning_tokens")  # SGLang
    if _count(thinking) and usage.get("total_tokens") == prompt + output + thinking:
        output += thinking  # xAI counts them apart
    answer: dict[str, Any] = {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
        "server_tool_use": None,
    }
    if isinstance(thinking, int):
        answer["output_tokens_details"] = {"thinking_tokens": thinking}
    return answer


def added_usage(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The tokens of two rounds: each reads its prompt and writes its part."""
    total = {**second, **{name: first[name] + second[name] for name in _SUMMED}}
    details = [usage["output_tokens_details"] for usage in (first, second) if "output_tokens_details" in usage]
    if details:
        total["output_tokens_details"] = {"thinking_tokens": sum(each["thinking_tokens"] for each in details)}
    return total


def _detail(usage: Mapping[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return details.get(name) if isinstance(details, Mapping) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
