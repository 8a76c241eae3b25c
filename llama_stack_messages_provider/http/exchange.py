"""A request as the routes hand it to the adapter."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Exchange", "joined_headers"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as it came over HTTP.

    Args:
        request_id: Its `req_...`.
        body: The bytes of the body.
        request: The body's JSON object.
        headers: The headers, by lower-case name; see `joined_headers`.
        client: Whom it came from, for shares of what is scarce: an address, or None where that is not known.
    """

    request_id: str
    body: bytes
    request: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    client: str | None = None


def joined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by lower-case name; one that is repeated is one list (RFC 9110, section 5.3)."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers
