"""Who makes a request, and what the host's policy lets them do.

| internal | used for |
|---|---|
| `PROVIDER_DATA_VAR`, `RequestProviderDataContext` | the identity of the request at hand; acting as another |
| `get_authenticated_user`, `User` | the same |
| `is_action_allowed(policy, action, resource, user)` | models and batches, as the host decides it |

Tried with llama-stack 0.7.3.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_stack.core.access_control import conditions
from llama_stack.core.access_control.access_control import is_action_allowed
from llama_stack.core.access_control.datatypes import AccessRule, Action
from llama_stack.core.datatypes import User
from llama_stack.core.request_headers import (
    PROVIDER_DATA_VAR,
    RequestProviderDataContext,
    get_authenticated_user,
)

__all__ = [
    "AccessRule",
    "Action",
    "Owner",
    "User",
    "acting_as",
    "as_the_stack",
    "client_provider_data",
    "current_user",
    "is_allowed",
]

type Owner = conditions.User
"""What the host asks of the owner of a resource."""


def current_user() -> User | None:
    """Who makes the request at hand; None where authentication is off."""
    return get_authenticated_user()


def client_provider_data() -> dict[str, Any]:
    """What the client of the request at hand sent as `x-llamastack-provider-data`."""
    # The host's own entries (the user, the test id) begin with two underscores.
    return {name: value for name, value in (PROVIDER_DATA_VAR.get() or {}).items() if not name.startswith("__")}


@contextmanager
def acting_as(user: User | None) -> Iterator[None]:
    """Within it the host sees a request of this user, with no provider data."""
    with RequestProviderDataContext({}, user):
        yield


@contextmanager
def as_the_stack() -> Iterator[None]:
    """Within it the host sees a request with the same provider data and of no user, so that no access counts."""
    with RequestProviderDataContext(client_provider_data(), None):
        yield


def is_allowed(policy: Sequence[AccessRule], action: Action, resource: Any, user: User | None) -> bool:
    """Whether the host's policy permits it."""
    return is_action_allowed(list(policy), action, resource, user)
