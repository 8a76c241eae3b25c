"""Which other models may answer a request: those that its client names, or those that the configuration has for it.

Source: `anthropic.types.beta.BetaFallbackParam` and
https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback#server-side-fallback
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from llama_stack_messages_provider.config import MAX_FALLBACKS
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError
from llama_stack_messages_provider.routing.models import ModelResolver
from llama_stack_messages_provider.routing.plan import Plan, is_first_party
from llama_stack_messages_provider.wire.base import describe
from llama_stack_messages_provider.wire.names import without_fields
from llama_stack_messages_provider.wire.types import wire_type

__all__ = ["Chain", "Chains", "Fallback", "request_for"]

FIELD = "fallbacks"
_ENTRY = wire_type("FallbackParam")
_OVERRIDES = frozenset({"max_tokens", "thinking", "output_config", "speed"})


@dataclass(frozen=True, slots=True)
class Fallback:
    """One model of a chain.

    Args:
        model: Its name, as a client would use it.
        overrides: Parameters of the request that it gets instead; null is the model's own default.
    """

    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Chain:
    """The models that may answer in place of the first, in their order.

    Args:
        requested: The first one's name, as the client used it.
        fallbacks: The others.
        marks: Whether the client asked for them: only then does it know `fallback` blocks.
        dropped: Paths of those that the client named and nobody can ask.

    Attributes:
        ended: Whether nobody else may be asked: a shield of the stack has refused.
    """

    requested: str
    fallbacks: Sequence[Fallback]
    marks: bool
    dropped: Collection[str] = ()
    ended: bool = field(default=False, init=False)


class Chains:
    """Finds the chain of a request.

    Args:
        configured: Glob patterns of names and identifiers, and the models that follow; the first match counts.
        resolver: Finds models, with the access of the current user.
    """

    def __init__(self, configured: Mapping[str, Sequence[str]], resolver: ModelResolver) -> None:
        self._configured = configured
        self._resolver = resolver

    async def of(self, request: Mapping[str, Any], plan: Plan, *, strict: bool) -> Chain | None:
        """The chain of a request; None where its model answers alone, or Anthropic itself sees to it.

        Args:
            request: The request.
            plan: How it goes to its first model.
            strict: Whether models that cannot be asked are refused.

        Raises:
            InvalidRequestError: `fallbacks` is not as documented; begins with the path.
        """
        asked = request.get(FIELD)
        if asked is None and not self._configured:
            return None
        if asked is None or asked == "default":
            models = self._models_after(request["model"], plan.target.identifier)
            return Chain(request["model"], [*map(Fallback, models)], marks=asked is not None) if models else None
        entries = _checked(asked)
        if is_first_party(plan) and await self._are_of_upstream(entries, plan):
            return None
        return await self._named(request["model"], entries, plan, DroppedFields(strict=strict))

    def _models_after(self, name: str, identifier: str) -> Sequence[str]:
        for pattern, models in self._configured.items():
            if fnmatchcase(name, pattern) or fnmatchcase(identifier, pattern):
                return models
        return ()

    async def _are_of_upstream(self, entries: Sequence[Mapping[str, Any]], plan: Plan) -> bool:
        """Whether Anthropic itself knows all models that a client names, under these names."""
        for entry in entries:
            try:
                target = await self._resolver.resolve(entry["model"])
            except MessagesError:
                continue  # no model of the stack
            if (target.provider_id, target.upstream_model) != (plan.target.provider_id, entry["model"]):
                return False
        return True

    async def _named(
        self, requested: str, entries: Sequence[Mapping[str, Any]], plan: Plan, dropped: DroppedFields
    ) -> Chain | None:
        """The chain of models that a client names."""
        known, fallbacks = {plan.target.identifier}, []
        for n, entry in enumerate(entries):
            path = f"{FIELD}.{n}"
            try:
                target = await self._resolver.resolve(entry["model"])
            except MessagesError as exc:
                dropped.drop(path, exc.message)
                continue
            if target.identifier in known:
                dropped.drop(path, "it is a model that was asked before")
                continue
            known.add(target.identifier)
            for name in entry.keys() - _OVERRIDES - {"model"}:
                dropped.drop(f"{path}.{name}", "it is not known")
            overrides = {name: entry[name] for name in _OVERRIDES & entry.keys()}
            fallbacks.append(Fallback(entry["model"], overrides))
        return Chain(requested, fallbacks, marks=True, dropped=dropped.names) if entries else None


def _checked(asked: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(asked, list):
        raise InvalidRequestError(f"{FIELD}: Input should be an array of models, or 'default'")
    if len(asked) > MAX_FALLBACKS:
        raise InvalidRequestError(f"{FIELD}: at most {MAX_FALLBACKS} models are tried")
    for n, entry in enumerate(asked):
        try:
            _ENTRY.model_validate(entry)
        except ValidationError as exc:
            raise InvalidRequestError(f"{FIELD}.{n}.{describe(exc)}") from exc
    return asked


def request_for(request: Mapping[str, Any], fallback: Fallback) -> dict[str, Any]:
    """A request as another model gets it: the first one's, and what the client wants changed for this one.

    A field that is null is left out, but for `max_tokens`; those of `output_config` are changed one by one.
    """
    changed = {name: value for name, value in fallback.overrides.items() if (name, value) != ("max_tokens", None)}
    thinking = request.get("thinking")
    if "thinking" not in changed and isinstance(thinking, Mapping) and thinking.get("type") == "between_tools":
        changed["thinking"] = {"type": "disabled"}
    if isinstance(output := changed.get("output_config"), Mapping):
        given = request.get("output_config")
        changed["output_config"] = _patched(given if isinstance(given, Mapping) else {}, output) or None
    return without_fields({**_patched(request, changed), "model": fallback.model}, FIELD)


def _patched(fields: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**fields, **changed}
    return {name: value for name, value in merged.items() if value is not None or name not in changed}
