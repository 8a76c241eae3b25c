"""Whose batch it is: the creator's principal and attributes, and the host's access policy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.host.access import (
    AccessRule,
    Action,
    Owner,
    User,
    client_provider_data,
    current_user,
    is_allowed,
)
from llama_stack_messages_provider.host.access import acting_as as acting_as_user

__all__ = [
    "AccessRule",
    "Action",
    "Identity",
    "acting_as",
    "allowed",
    "current_identity",
    "refuse_credentials",
]

RESOURCE_TYPE = "message_batch"
"""What an access policy's `resource:` calls a batch: `message_batch::<id>`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A principal of the host and its attributes. `None` in place of an `Identity`: authentication is off."""

    principal: str
    attributes: dict[str, list[str]] | None = None

    def attributes_json(self) -> str | None:
        """The attributes as they are stored."""
        return None if self.attributes is None else orjson.dumps(self.attributes).decode()

    @classmethod
    def stored(cls, principal: str | None, attributes: str | None) -> "Identity | None":
        """The identity in a row."""
        if principal is None:
            return None
        return cls(principal, None if attributes is None else orjson.loads(attributes))


@dataclass(slots=True)
class _Resource:
    """A batch as the host's access control sees it."""

    identifier: str
    owner: Owner | None
    type: str = RESOURCE_TYPE


def current_identity() -> Identity | None:
    """Who makes the request at hand."""
    user = current_user()
    return None if user is None else Identity(user.principal, user.attributes)


def refuse_credentials() -> None:
    """Provider credentials that came with the request would have to be written to disk to run a batch later.

    Raises:
        InvalidRequestError: The request at hand carries provider data.
    """
    if client_provider_data():
        raise InvalidRequestError(
            "Message Batches cannot use the provider credentials in the x-llamastack-provider-data header: "
            "they would have to be stored. Configure the credentials in the stack, or send the requests one "
            "by one to /v1/messages."
        )


@contextmanager
def acting_as(identity: Identity | None) -> Iterator[None]:
    """Within it the host sees a request of this identity, with no provider data."""
    with acting_as_user(_user(identity)):
        yield


def allowed(
    policy: Sequence[AccessRule], action: Action, batch_id: str, owner: Identity | None, who: Identity | None
) -> bool:
    """Whether `who` may do `action` to a batch: it is their own, and the host's policy permits it."""
    resource = _Resource(batch_id, _user(owner))
    return _same(owner, who) and is_allowed(policy, action, resource, _user(who))


def _same(owner: Identity | None, who: Identity | None) -> bool:
    if owner is None or who is None:
        return owner is who
    # A token without a principal is known by its attributes alone.
    return owner.principal == who.principal and bool(owner.principal or owner.attributes == who.attributes)


def _user(identity: Identity | None) -> User | None:
    return None if identity is None else User(identity.principal, identity.attributes)
