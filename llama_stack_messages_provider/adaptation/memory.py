"""What was learned of models: changes that made a refused request a request that was taken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.adaptation.adaptations import contradicts
from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.adaptation.room import FitWindow, learned_window
from llama_stack_messages_provider.adaptation.token_ratios import Scope, TokenRatios

__all__ = ["AdaptationMemory", "Learned", "Scope"]

# Models that something is known of, and things that are known of each.
_MOST_SCOPES = 1024
_MOST_CHANGES = 32
_WORDS_KEPT = 300


@dataclass(frozen=True, slots=True)
class Learned:
    """A change that its model needs.

    Args:
        change: The change.
        words: The refusal that it came from.
        at: When the changed request was taken, by the memory's clock.
    """

    change: Change
    words: str
    at: float


class AdaptationMemory:
    """Learned changes for each upstream and model, for a limited time.

    Args:
        seconds: How long a change is remembered: servers are upgraded.
        clock: Seconds.

    Attributes:
        ratios: How many bytes a token of each model has.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.ratios = TokenRatios(seconds, clock)
        self._seconds = seconds
        self._clock = clock
        self._known: dict[Scope, dict[Change, Learned]] = {}  # the one that was changed last is the last

    def changes(self, scope: Scope) -> tuple[Change, ...]:
        """The changes that a model is known to need, in the order in which they were learned."""
        known = self._known.get(scope)
        if known is None:
            return ()
        since = self._clock() - self._seconds
        return tuple(change for change, learned in known.items() if learned.at > since)

    def confirm(self, scope: Scope, change: Change, refusal: Refusal) -> None:
        """The changed request was taken."""
        window = learned_window(change, refusal)
        if window is None and not change.lasting:
            return
        known = dict(self._known.pop(scope, {}))
        if window is not None:
            change = window
            known = {each: learned for each, learned in known.items() if not isinstance(each, FitWindow)}
        known[change] = Learned(change, refusal.words[:_WORDS_KEPT], self._clock())
        while len(known) > _MOST_CHANGES:
            del known[next(iter(known))]
        self._known[scope] = known
        if len(self._known) > _MOST_SCOPES:
            del self._known[next(iter(self._known))]

    def take_back(self, scope: Scope, refusal: Refusal) -> bool:
        """Forget what a refusal contradicts; whether there was anything."""
        known = self._known.get(scope) or {}
        kept = {change: learned for change, learned in known.items() if not contradicts(refusal, change)}
        if len(kept) == len(known):
            return False
        self._known[scope] = kept
        return True

    def __iter__(self) -> Iterator[tuple[Scope, Learned]]:
        since = self._clock() - self._seconds
        each = ((scope, learned) for scope, known in list(self._known.items()) for learned in known.values())
        return ((scope, learned) for scope, learned in each if learned.at > since)

    def report(self) -> list[dict[str, Any]]:
        """All that is remembered, for people: upstream, model, change, words and age in seconds."""
        now = self._clock()
        return [
            {
                "upstream": upstream,
                "model": model,
                "change": repr(learned.change),
                "words": learned.words,
                "seconds_ago": round(now - learned.at),
            }
            for (upstream, model), learned in self
        ]
