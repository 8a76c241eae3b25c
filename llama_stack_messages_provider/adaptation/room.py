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

# A prompt that is longer than its estimate must not have its request refused: a shorter answer can be gone on with.
_MARGIN, _MARGIN_TOKENS = 1.25, 64
# Where the margin would take even this, the estimate counts as it is; where that does as well, the upstream says.
_SHORT_ANSWER, _SHORTEST_ANSWER = 1024, 256
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
    """

    window: int
    bytes_per_token: float = BYTES_PER_TOKEN

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        asked = max((n for name in MAX_TOKENS_PARAMS if type(n := params.get(name)) is int), default=0)
        if asked <= 0:
            return dict(params)
        # What is lighter than this leaves room enough.
        light = (self.window - asked) * _FEWEST_BYTES
        weight = prompt_weight(params)
        if weight <= light:
            return dict(params)
        room = self._room(weight / self.bytes_per_token)
        return CapMaxTokens(room).apply(params) if room < asked else dict(params)

    def _room(self, prompt: float) -> int:
        """Tokens for the answer to a prompt of so many."""
        least = min(_SHORTEST_ANSWER, max(1, self.window // 4))
        short = min(_SHORT_ANSWER, int(self.window - prompt))
        return max(int(self.window - prompt * _MARGIN) - _MARGIN_TOKENS, short, least)


def learned_window(change: Change, refusal: Refusal) -> FitWindow | None:
    """What a refusal says of the model's window, once the request was taken with less output."""
    if isinstance(change, FitWindow):
        return FitWindow(change.window)
    of_prompt = isinstance(change, CapMaxTokens) and not change.of_model
    limit = refusal.limit if of_prompt and refusal.kind is Kind.ROOM else None
    return FitWindow(limit) if limit is not None and limit >= _SMALLEST_WINDOW else None
