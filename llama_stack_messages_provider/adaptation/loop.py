"""The one loop that sends a refused request again, changed, until it is taken or nothing is left to change."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.changes import CapMaxTokens, Retranslate, Translate
from llama_stack_messages_provider.adaptation.memory import AdaptationMemory, Scope
from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.errors import MessagesError

__all__ = ["Adapter", "Draft", "TranslateInsteadError", "any_change", "apply_change"]

# Far more than any upstream was seen to need: a server may refuse one parameter at a time.
_MOST_ROUNDS = 32


class TranslateInsteadError(MessagesError):
    """A native endpoint's refusal of what a translation words otherwise, or does without.

    It is the refusal itself for whoever does not translate.
    """

    def __init__(self, refused: MessagesError) -> None:
        super().__init__(
            refused.message,
            status=refused.status,
            error_type=refused.error_type,
            headers=refused.headers,
            details=refused.details,
        )
        self.refusal = refused.refusal


class Draft(Protocol):
    """A request that is about to be sent.

    Attributes:
        params: The request.
        dropped: What it lost, in the client's words.
        strict: Whether nothing may be lost.
        max_tokens: The output limit by which its answer is read.
    """

    params: dict[str, Any]
    dropped: list[str]
    strict: bool
    max_tokens: int | None


def any_change(change: Change) -> bool:
    """Whether the configuration leaves a change open: any."""
    return True


Candidates = Callable[[Refusal, dict[str, Any]], Iterator[Change]]


@dataclass(slots=True)
class Adapter:
    """Sends one request, adapted to what its upstream refuses.

    Args:
        memory: What is known of models.
        scope: The upstream and the model.
        candidates: The changes that a refusal asks for.
        rebuild: Makes the draft anew with these changes, for what is more than a change of parameters.
        allowed: Whether the configuration leaves a change open.
        applied: The changes of this request, with the refusals that they answer.
    """

    memory: AdaptationMemory
    scope: Scope
    candidates: Candidates
    rebuild: Callable[[tuple[Change, ...]], Awaitable[None]] | None = None
    allowed: Callable[[Change], bool] = any_change
    applied: list[tuple[Change, Refusal]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The kinds of changes of this request."""
        return list(dict.fromkeys(type(change).__name__ for change, _ in self.applied))

    async def run[T](self, draft: Draft, attempt: Callable[[], Awaitable[T]]) -> T:
        """What an attempt gives, once the draft is one that the upstream takes.

        Raises:
            TranslateInsteadError: The last refusal, where a translation has an answer to it.
            MessagesError: The last refusal, where no change is left; any other failure as it comes.
        """
        while True:
            try:
                result = await attempt()
            except MessagesError as exc:
                if self._adapt(draft, exc) and self.rebuild is not None:
                    await self.rebuild(tuple(applied for applied, _ in self.applied))
            else:
                self._confirm()
                return result

    def _adapt(self, draft: Draft, refused: MessagesError) -> bool:
        """Change a draft as its refusal asks for.

        Returns:
            Whether it has to be made anew instead.

        Raises:
            TranslateInsteadError: It can only be translated.
            MessagesError: The refusal, where no change is left.
        """
        if len(self.applied) >= _MOST_ROUNDS:
            raise refused
        refusal = refused.refusal
        if refusal is None or (refused.status >= 500 and refusal.kind is not Kind.ENGINE_FAULT):
            raise refused
        taken_back = self.memory.take_back(self.scope, refusal)
        change = next((c for c in self.candidates(refusal, draft.params) if self._may(c, draft)), None)
        if change is None and not taken_back:
            raise refused
        if isinstance(change, Translate):
            raise TranslateInsteadError(refused)
        if change is not None:
            self.applied.append((change, refusal))
        if self.rebuild is not None and (taken_back or isinstance(change, Retranslate)):
            return True
        if change is None:
            raise refused
        apply_change(change, draft)
        return False

    def _may(self, change: Change, draft: Draft) -> bool:
        new = all(change != applied for applied, _ in self.applied)
        return new and self.allowed(change) and not (draft.strict and change.dropped(draft.params))

    def _confirm(self) -> None:
        """The draft was taken: remember what its model needed."""
        for n, (change, refusal) in enumerate(self.applied):
            # The same words after a change: it was not what they asked for.
            if refusal.words not in {later.words for _, later in self.applied[n + 1 :]}:
                self.memory.confirm(self.scope, change, refusal)


def apply_change(change: Change, draft: Draft) -> None:
    """Change a draft, and name what it loses."""
    draft.dropped += [name for name in change.dropped(draft.params) if name not in draft.dropped]
    changed = change.apply(draft.params)
    # What stays as it is stays the client's own bytes.
    if changed != draft.params:
        draft.params = changed
    # An answer of that length has reached its limit, and not the end of the window.
    if isinstance(change, CapMaxTokens) and change.of_model and draft.max_tokens is not None:
        draft.max_tokens = min(draft.max_tokens, change.max_tokens)
