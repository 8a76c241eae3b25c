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

__all__ = ["FINISH_TO_STOP", "Stop", "StopReason", "finished_choice", "input_tokens", "stop_of", "usage_in", "usage_of"]
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

# Words of all services in small letters. None: decided by what was sent (a tool call, a stop sequence, nothing).
FINISH_TO_STOP: dict[str, StopReason | None] = {
    **dict.fromkeys(("stop", "tool_calls", "function_call", "tool_use", "tool_call", "stop_sequence"), None),
    **dict.fromkeys(("eos", "eos_token", "stop_token", "end_turn", "end", "complete", "completed", "done"), None),
    **dict.fromkeys(("length", "max_tokens", "max_length", "max_output_tokens", "token_limit"), "max_tokens"),
    "model_length": "model_context_window_exceeded",  # Mistral
    "model_context_window_exceeded": "model_context_window_exceeded",  # Z.ai
    "context_length_exceeded": "model_context_window_exceeded",
    **dict.fromkeys(("content_filter", "refusal", "content_filtered", "guardrail_intervened"), "refusal"),
    "sensitive": "refusal",  # Z.ai
    # https://ai.google.dev/api/generate-content (FinishReason)
    **dict.fromkeys(("safety", "recitation", "blocklist", "prohibited_content", "spii", "image_safety"), "refusal"),
}

# The engine gave up, or its model's call is not one. No stop reason says that, and a client must not take half an
# answer for a whole one: it is an error that may be tried again.
_FAILED = frozenset(
    {
        "abort",
        "cancelled",
        "error",
        "timeout",
        "network_error",  # Z.ai
        "insufficient_system_resource",  # DeepSeek
        "malformed_function_call",  # Gemini, in front of which a gateway says `function_call_filter: ...`
        "unexpected_tool_call",
    }
)


@dataclass(frozen=True, slots=True)
class Stop:
    """How a message ended: `stop_reason`, the matched `stop_sequence`, and details of a refusal."""

    reason: StopReason
    sequence: str | None = None
    details: dict[str, Any] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a message, and of its `message_delta`."""
        return {"stop_reason": self.reason, "stop_sequence": self.sequence, "stop_details": self.details}


def stop_of(
    finish_reason: str | None,
    choice: Mapping[str, Any],
    *,
    calls: ToolCallAccumulator,
    refused: bool,
    cut: str | None,
    stop_sequences: Sequence[str],
    max_tokens: int | None,
    window: int | None,
    usage: Mapping[str, Any],
) -> Stop:
    """The stop of a finished choice.

    Args:
        finish_reason: The upstream's word; None if it ended without one.
        choice: The choice that carried it, with what the engine adds (`stop_reason`, `matched_stop`).
        calls: The tool calls that were sent.
        refused: Whether the upstream sent a `refusal`.
        cut: The stop sequence at which the text was cut here, if it was.
        stop_sequences: What the client asked to stop at.
        max_tokens: The limit that was sent, in tokens.
        window: The model's context window, in tokens, if it is known.
        usage: What it cost, in Anthropic's terms.

    Raises:
        UpstreamError: The upstream says that it failed.
    """
    if cut is not None:  # what the upstream did afterwards is nobody's concern
        return Stop("tool_use") if calls and calls.are_whole else Stop("stop_sequence", cut)
    word = _word(finish_reason)
    if word in _FAILED:
        raise UpstreamError(f"The upstream gave up before the answer was complete (finish_reason: {finish_reason})")
    # A word that nobody knows must not make half an answer a whole one.
    mapped = FINISH_TO_STOP.get(word, None if calls else "max_tokens")
    if mapped == "refusal" or refused:
        return Stop("refusal", details={"type": "refusal", "category": None, "explanation": None})
    if mapped is not None:
        return Stop(_length_reason(max_tokens, window, usage) if mapped == "max_tokens" else mapped)
    matched = _matched_sequence(choice, stop_sequences)
    if calls and (matched is None or calls.are_whole):
        return Stop("tool_use")
    return Stop("end_turn") if matched is None else Stop("stop_sequence", matched)


def _word(finish_reason: str | None) -> str:
    """An upstream's word in small letters, without what a gateway puts in front of it."""
    return str(finish_reason or "stop").rpartition(":")[2].strip().lower()


def finished_choice(choice: Mapping[str, Any], completion: Mapping[str, Any]) -> Mapping[str, Any]:
    """A choice with the `stopping_word` that llama.cpp tells beside it where `verbose` asks for it.

    Args:
        choice: The choice that has a finish reason.
        completion: The completion or the chunk that it came in.
    """
    beside = completion.get("__verbose")
    return {**choice, "stopping_word": beside.get("stopping_word")} if isinstance(beside, Mapping) else choice


def _length_reason(max_tokens: int | None, window: int | None, usage: Mapping[str, Any]) -> StopReason:
    """Whether it was the window that was full: only who knows its size can tell."""
    if window is None or (max_tokens is not None and usage["output_tokens"] >= max_tokens):
        return "max_tokens"
    # One token of grace: engines differ on whether the last token counts.
    return "model_context_window_exceeded" if sum(usage[name] for name in _SUMMED) + 1 >= window else "max_tokens"


def _matched_sequence(choice: Mapping[str, Any], stop_sequences: Sequence[str]) -> str | None:
    # vLLM says `stop_reason`, SGLang `matched_stop`, llama.cpp `stopping_word`; an integer is a token id.
    for key in ("stop_reason", "matched_stop", "stopping_word"):
        value = choice.get(key)
        if isinstance(value, str) and value and value in stop_sequences:
            return value
    return None


def usage_in(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage so far that a chunk or a completion tells, if it does: at its top, in its choice (Moonshot), or under
    `x_groq`; llama.cpp tells the prompt's as its progress in reading it.
    """
    if isinstance(usage := chunk.get("usage"), Mapping):
        return usage
    if isinstance(progress := chunk.get("prompt_progress"), Mapping):
        cached = {"cached_tokens": progress.get("cache")}
        return {"prompt_tokens": progress.get("total"), "prompt_tokens_details": cached}
    for holder in (*(chunk.get("choices") or ())[:1], chunk.get("x_groq")):
        if isinstance(holder, Mapping) and isinstance(usage := holder.get("usage"), Mapping):
            return usage
    return None


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """OpenAI's usage in Anthropic's terms: `input_tokens` excludes what was read from the cache.

    Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching (tracking cache performance).
    """
    usage = usage if isinstance(usage, Mapping) else {}
    prompt = _count(usage.get("prompt_tokens"))
    cached = min(_cached(usage), prompt)
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


def input_tokens(usage: Mapping[str, Any]) -> int:
    """All tokens of the prompt, by usage in Anthropic's terms."""
    return sum(_count(usage.get(name)) for name in _SUMMED[:3])


def _cached(usage: Mapping[str, Any]) -> int:
    """Tokens of the prompt that were read from a cache: OpenAI's name, Moonshot's, DeepSeek's."""
    counted = _detail(usage, "prompt_tokens_details", "cached_tokens")
    return _count(counted) or _count(usage.get("cached_tokens")) or _count(usage.get("prompt_cache_hit_tokens"))


def _detail(usage: Mapping[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return details.get(name) if isinstance(details, Mapping) else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
