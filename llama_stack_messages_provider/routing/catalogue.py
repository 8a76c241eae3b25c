"""The models of a stack as Anthropic's clients list them, with the access of the current user."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError
from llama_stack_messages_provider.routing.models import ModelResolver
from llama_stack_messages_provider.routing.plan import Planner
from llama_stack_messages_provider.routing.probe import Capability
from llama_stack_messages_provider.routing.window import registered_output, window_of
from llama_stack_messages_provider.upstream.target import Target
from llama_stack_messages_provider.wire.base import JsonObject
from llama_stack_messages_provider.wire.model_info import capabilities, model_info, model_page
from llama_stack_messages_provider.wire.names import CLAUDE_PREFIX

__all__ = ["MAX_LIMIT", "ModelCatalogue"]

MAX_LIMIT = 1000
"""The longest page, Anthropic's own."""

_WILD = frozenset("*?[")
_PROBE_SECONDS = 2.0
_UNKNOWN = Capability("unknown", False, "generic", "not asked")


class ModelCatalogue:
    """Lists models: each by its identifier and with `claude/` before it, and what aliases without wildcards stand for.

    Args:
        resolver: Finds models.
        planner: Knows what their upstreams can do.
        aliases: Glob patterns and what they stand for.
        batch: Whether batches are served.
        searches: Says whether the web can be searched for the current user.
    """

    def __init__(
        self,
        resolver: ModelResolver,
        planner: Planner,
        aliases: Iterable[str],
        *,
        batch: bool,
        searches: Callable[[], Awaitable[bool]],
    ) -> None:
        self._resolver = resolver
        self._planner = planner
        self._aliases = [alias for alias in aliases if not _WILD & set(alias)]
        self._batch = batch
        self._searches = searches

    async def page(self, limit: int = 20, after_id: str | None = None, before_id: str | None = None) -> JsonObject:
        """A page of models by their names, in the order of the names.

        Args:
            limit: How many.
            after_id: The name before the first one, which need not exist.
            before_id: The name behind the last one.

        Raises:
            InvalidRequestError: The limit is out of its bounds, or there are two cursors.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequestError(f"limit: Input should be between 1 and {MAX_LIMIT}")
        if after_id and before_id:
            raise InvalidRequestError("before_id: Extra inputs are not permitted beside after_id")
        named = await self._named()
        names = sorted(
            name for name in named if not ((after_id and name <= after_id) or (before_id and name >= before_id))
        )
        shown = names[-limit:] if before_id else names[:limit]
        infos = await self._infos([(name, named[name]) for name in shown])
        return model_page(infos, has_more=len(names) > len(shown))

    async def entry(self, name: str) -> JsonObject:
        """One model: under the name that was asked for if that is listed, else under its identifier.

        Raises:
            NotFoundError, InvalidRequestError: As `ModelResolver.resolve`.
        """
        target = await self._resolver.resolve(name)
        await self._planner.capability_of(target)
        listed = name in self._aliases or name == CLAUDE_PREFIX + target.identifier
        (info,) = await self._infos([(name if listed else target.identifier, target)])
        return info

    async def overview(self, most: int) -> list[JsonObject]:
        """The models by their identifiers, with the engine, the route and the window of each, for people.

        Args:
            most: How many.
        """
        targets = [await self._resolver.target_of(model) for model in await self._resolver.all_llms()]
        targets = sorted(targets, key=lambda target: target.identifier)[:most]
        known = await self._known(targets)
        return [self._overview(target, known[target.identifier]) for target in targets]

    def _overview(self, target: Target, capability: Capability) -> JsonObject:
        return {
            "model": target.identifier,
            "label": target.label,
            "provider": target.provider_id,
            "engine": self._planner.engine_of(target, capability).name,
            "route": self._planner.usual_route(target, capability),
            "window": window_of(target, capability),
        }

    async def _named(self) -> dict[str, Target]:
        targets = [await self._resolver.target_of(model) for model in await self._resolver.all_llms()]
        named = {CLAUDE_PREFIX + target.identifier: target for target in targets}
        for alias in self._aliases:
            try:
                named[alias] = await self._resolver.resolve(alias)
            except MessagesError:  # it stands for nothing that this user may use
                continue
        return named | {target.identifier: target for target in targets}

    async def _infos(self, named: Sequence[tuple[str, Target]]) -> list[JsonObject]:
        known = await self._known({target.identifier: target for _, target in named}.values())
        searches = await self._searches()
        return [self._info(name, target, known[target.identifier], searches) for name, target in named]

    async def _known(self, targets: Iterable[Target]) -> dict[str, Capability]:
        """What is known of models; one of each upstream that nothing is known of is asked for, for a moment."""
        unknown = {each.provider_id: each for each in targets if self._planner.known_capability(each) is None}
        if unknown:
            asking = [asyncio.ensure_future(self._planner.capability_of(each)) for each in unknown.values()]
            _, late = await asyncio.wait(asking, timeout=_PROBE_SECONDS)
            for task in late:
                task.cancel()
        return {each.identifier: self._planner.known_capability(each) or _UNKNOWN for each in targets}

    def _info(self, name: str, target: Target, capability: Capability, searches: bool) -> JsonObject:
        engine = self._planner.engine_of(target, capability)
        chat, first_party = engine.chat, capability.native and engine.native.first_party
        is_alias = name not in (target.identifier, CLAUDE_PREFIX + target.identifier)
        return model_info(
            name,
            f"{name} ({_identifiers(target)})" if is_alias else target.identifier,
            max_input_tokens=window_of(target, capability),
            max_tokens=registered_output(target),
            capabilities=capabilities(
                batch=self._batch,
                efforts=(*chat.efforts, "max") if first_party else chat.efforts if chat.effort else (),
                images=chat.images and target.sees,
                schemas=chat.schemas or first_party,
                thinks=first_party or bool(chat.thinking_on or chat.budget or chat.reasoning_field),
                searches=searches or first_party,
            ),
        )


def _identifiers(target: Target) -> str:
    return ", ".join(each.identifier for each in (target, *target.others))
