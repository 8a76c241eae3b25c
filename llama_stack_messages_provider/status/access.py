"""Who is an administrator."""

from collections.abc import Mapping, Sequence

from llama_stack_messages_provider.host.access import User

__all__ = ["is_administrator"]

_PRINCIPAL = "principal"


def is_administrator(user: User | None, who: Mapping[str, Sequence[str]]) -> bool:
    """Whether a user of the host has one of these values in one of these attributes: see `StatusConfig.who`."""
    if user is None:
        return False
    has = {**(user.attributes or {}), _PRINCIPAL: [user.principal]}
    return any(not set(has.get(name) or ()).isdisjoint(values) for name, values in who.items())
