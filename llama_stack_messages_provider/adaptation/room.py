"""What a window leaves for an answer, before anything is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.changes import MAX_TOKENS_PARAMS, CapMaxTokens
from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.wire.token_estimate import BYTES_PER_TOKEN, prompt_weight

__all__ = ["FitWindow", "learned_window", "may_exceed"]

# A prompt that is longer than its estimate is not to have its request refused, where there is room for an answer.
_MARGIN, _MARGIN_TOKENS = 1.1, 64
# What is asked for where the estimate leaves nothing: it may be wrong, and the upstream says whether it is.
_SHORTEST_ANSWER = 256
# Fewer bytes than this, no text has for a token, or none that anybody sends at length.
_FEWEST_BYTES = 2
_SMALLEST_WINDOW = 512


def may_exceed(window: int, request: Mapping[str, Any], size: int) -> bool:
    """Whether prompt and output may be more than the window, by the bytes of the request alone."""
    limit = request.get("max_tokens")
    return type(limit) is int and limit + size // _FEWEST_BYTES > window


@dataclass(frozen=True, slots=True)
class FitWindow(Change):
    """The output limit becomes what the window leaves for an answer, as far as an estimate of the prompt can tell.

    Args:
        window: The window in tokens.
        bytes_per_token: What a token of the model has, in bytes.
        least: Tokens that the prompt has at least.
    """

    window: int
    bytes_per_token: float = BYTES_PER_TOKEN
    least: int = 0

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        asked = max((n for name in MAX_TOKENS_PARAMS if type(n := params.get(name)) is int), default=0)
        if asked <= 0:
            return dict(params)
        prompt = max(prompt_weight(params) / self.bytes_per_token, self.least)
        room = self._room(prompt)
        return CapMaxTokens(room).apply(params) if prompt + asked > self.window and room < asked else dict(params)

    def _room(self, prompt: float) -> int:
        """Tokens for the answer to a prompt of so many."""
        shortest = min(_SHORTEST_ANSWER, max(1, self.window // 4))
        # Of a long prompt, the margin alone would be more than is left.
        half = int(self.window - prompt) // 2
        return max(int(self.window - prompt * _MARGIN) - _MARGIN_TOKENS, half, shortest)


def learned_window(change: Change, refusal: Refusal) -> FitWindow | None:
    """What a refusal says of the model's window, once the request was taken with less output."""
    if isinstance(change, FitWindow):
        return FitWindow(change.window)
    of_prompt = isinstance(change, CapMaxTokens) and not change.of_model
    limit = refusal.limit if of_prompt and refusal.kind is Kind.ROOM else None
    return FitWindow(limit) if limit is not None and limit >= _SMALLEST_WINDOW else None
