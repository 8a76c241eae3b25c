"""A request as the routes hand it to the adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Exchange"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as it came over HTTP.

    Args:
        request_id: Its `req_...`.
        body: The bytes of the body.
        request: The body's JSON object.
        headers: The headers, by lower-case name; of one that is repeated, the first.
        client: Whom it came from, for shares of what is scarce: an address, or None where that is not known.
    """

    request_id: str
    body: bytes
    request: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str | None = None
