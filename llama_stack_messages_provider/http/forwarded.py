"""What of a request's headers goes on, and what it says about losses."""

from collections.abc import Mapping

from llama_stack_messages_provider.wire.names import API_VERSION

__all__ = ["STRICT_HEADER", "forwarded_headers", "wants_strict"]

STRICT_HEADER = "x-messages-strict"

_FORWARDED = ("anthropic-version", "anthropic-beta")


def wants_strict(headers: Mapping[str, str]) -> bool:
    """Whether a client wants what would be dropped to be refused."""
    return headers.get(STRICT_HEADER, "").lower() == "true"


def forwarded_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that go with a request to a native upstream."""
    return {"anthropic-version": API_VERSION} | {name: found for name in _FORWARDED if (found := headers.get(name))}
