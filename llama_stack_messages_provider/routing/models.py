"""A client's model name to a model of this stack.

Exact identifier, or `claude/` before it; then configured alias, then the one registered LLM whose
`provider_resource_id` it is, then the host's `provider_id/model` form with its access check. Nobody learns of a model
that they may not use. A model whose provider is gone, which the host's registry keeps, is none.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from llama_stack_api import ModelType

from llama_stack_messages_provider.errors import InvalidRequestError, NotFoundError
from llama_stack_messages_provider.host.access import current_user
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.models import is_readable, provider_of, registered_model, unregistered_model
from llama_stack_messages_provider.upstream.target import Target
from llama_stack_messages_provider.wire.names import CLAUDE_PREFIX

__all__ = ["ModelResolver"]

logger = get_logger(name=__name__, category="providers")

_MATCHES = 3
# Characters of a client's name that are told and compared: the time that comparing takes grows with its square.
_SHOWN = 200
# No model has a longer name. It is refused before anything looks at it or keeps it.
_MAX_NAME = 1024
# Access decisions remembered, each of one model and one user.
_DECISIONS = 4096


class ModelResolver:
    """Resolves names against the stack's routing table, with the access of the current user.

    Args:
        routing_table: The models' routing table.
        aliases: Glob patterns and the names they stand for, first match wins; several are equal replicas.
    """

    def __init__(self, routing_table: Any, aliases: Mapping[str, str | Sequence[str]]) -> None:
        self._table = routing_table
        self._aliases = aliases
        self._decisions: dict[tuple[str, str | None], tuple[Any, bool]] = {}

    async def resolve(self, name: str) -> Target:
        """The target for a name; of equal replicas the first that there is, with the `others`.

        Raises:
            NotFoundError: There is no such model for this user; close matches are named.
            InvalidRequestError: The name is not that of an LLM, or stands for several.
        """
        if len(name) > _MAX_NAME:
            raise NotFoundError(f"model: there is no model {name[:_SHOWN]}")
        if target := await self._registered(name) or await self._after_claude(name):
            return target
        alias = next((to for pattern, to in self._aliases.items() if fnmatchcase(name, pattern)), None)
        if alias is None:
            target = await self._unregistered(name)
        elif isinstance(alias, str):
            target = await self._registered(alias) or await self._unregistered(alias)
        else:
            target = await self._first_of(name, alias)
        if target is not None:
            return target
        if alias:  # for the log only: what it stands for may be nothing that this user may know of
            logger.warning("An alias stands for no model that its user may use", name=name, alias=alias)
        raise NotFoundError(f"model: {await self._not_found(name, alias if isinstance(alias, str) else name)}")

    async def _first_of(self, name: str, replicas: Sequence[str]) -> Target | None:
        """The first of equal replicas that the current user may use, with the others."""
        found: dict[str, Target] = {}
        llms: list[Any] | None = None  # listed once, however many replicas there are
        for replica in replicas:
            target = await self._registered(replica)
            if target is None:
                llms = await self.all_llms() if llms is None else llms
                target = await self._unregistered(replica, llms)
            if target is not None:
                found[target.identifier] = replace(target, replica_of=name)
        equals = list(found.values())
        if not equals:
            return None
        first, *others = (replace(each, first_of_equals=equals[0].label) for each in equals)
        return replace(first, others=tuple(others))

    async def _unregistered(self, name: str, llms: Sequence[Any] | None = None) -> Target | None:
        """The target for what is no identifier of a registered model; `llms` are all that there are, if known."""
        llms = await self.all_llms() if llms is None else llms
        if target := await self._bare(name, llms) or await self._fallback(name):
            return target
        return await self._bare(name.removeprefix(CLAUDE_PREFIX), llms) if name.startswith(CLAUDE_PREFIX) else None

    async def all_llms(self) -> list[Any]:
        """The registered LLMs that the current user may use."""
        models = (await self._table.list_models()).data
        return [m for m in models if m.model_type == ModelType.llm and self._is_served(m) and self._readable(m)]

    async def target_of(self, model: Any) -> Target:
        """The target of a registered model."""
        return self._target(model, provider_of(self._table, model.provider_id))

    async def _registered(self, identifier: str) -> Target | None:
        model = await registered_model(self._table, identifier)
        if model is None or not self._is_served(model) or not self._known_readable(model):
            return None
        if model.model_type != ModelType.llm:
            raise InvalidRequestError(f"model: {identifier} is a model for {model.model_type.value}, not an LLM")
        return await self.target_of(model)

    async def _after_claude(self, name: str) -> Target | None:
        """The model that `claude/` stands before."""
        rest = name.removeprefix(CLAUDE_PREFIX)
        if rest == name:
            return None
        if target := await self._registered(rest):
            return target
        # A provider of that name may have models that nobody registered.
        is_provider = provider_of(self._table, CLAUDE_PREFIX.rstrip("/")) is not None
        return None if is_provider else await self._fallback(rest)

    def _is_served(self, model: Any) -> bool:
        return provider_of(self._table, model.provider_id) is not None

    async def _bare(self, name: str, llms: Sequence[Any]) -> Target | None:
        models = [m for m in llms if m.provider_resource_id == name]
        if len(models) > 1:
            names = ", ".join(sorted(m.identifier for m in models))
            raise InvalidRequestError(f"model: {name} stands for several models, name one of them: {names}")
        return await self.target_of(models[0]) if models else None

    async def _fallback(self, name: str) -> Target | None:
        provider_id, _, upstream_model = name.partition("/")
        provider = provider_of(self._table, provider_id)
        if provider is None or not upstream_model:
            return None
        if await registered_model(self._table, name):
            return None  # registered, and not for this user: the host's check below would find nobody who owns it
        model = unregistered_model(provider_id, upstream_model)
        return replace(self._target(model, provider), registered=False) if self._readable(model) else None

    def _readable(self, model: Any) -> bool:
        return is_readable(self._table, model, current_user())

    def _known_readable(self, model: Any) -> bool:
        """As `_readable`, of a registered model, from memory where it was asked before."""
        user = current_user()
        # The host makes several debug lines of each check, written or not: a twentieth of a request. Its policy stays
        # as it is while it runs, and a model that is registered anew is another object.
        key = (model.identifier, user.model_dump_json() if user else None)
        known = self._decisions.get(key)
        if known is None or known[0] is not model:
            if len(self._decisions) >= _DECISIONS:
                self._decisions.clear()
            known = self._decisions[key] = (model, self._readable(model))
        return known[1]

    def _target(self, model: Any, provider: Any) -> Target:
        return Target(model.identifier, model.provider_id, provider, model.provider_resource_id, model.metadata or {})

    async def _not_found(self, name: str, wanted: str) -> str:
        text = f"there is no model {name[:_SHOWN]}"
        if len(wanted) > _SHOWN:
            return text
        models = await self.all_llms()
        known = {m.identifier: m.identifier for m in models} | {m.provider_resource_id: m.identifier for m in models}
        close = difflib.get_close_matches(wanted, known, n=_MATCHES, cutoff=0.5)
        names = list(dict.fromkeys(known[match] for match in close))
        if not names and len(models) == 1:
            return f"{text}; the one model here is {models[0].identifier}"
        return f"{text}; did you mean {' or '.join(names)}?" if names else text
