"""The images of a request, and what they are known by."""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

__all__ = ["digest_of", "sources_of"]


def digest_of(source: Mapping[str, Any]) -> str | None:
    """What an image is known by: its kind and its bytes. None where the request has no bytes of it."""
    data = source.get("data")
    if source.get("type") != "base64" or not isinstance(data, str):
        return None
    known = blake2b(str(source.get("media_type")).encode(), digest_size=32)
    known.update(b"\0" + data.encode())
    return known.hexdigest()


def sources_of(request: Mapping[str, Any], most: int, most_characters: int) -> dict[str, Mapping[str, Any]]:
    """The first images of a request, each once, by their digests: so a conversation that grows keeps them.

    Args:
        request: The request, validated.
        most: How many.
        most_characters: The longest Base64 text of one; longer ones are passed over.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for message in request["messages"]:
        for source in _sources(message.get("content")):
            if len(source.get("data") or "") > most_characters or (digest := digest_of(source)) is None:
                continue
            found.setdefault(digest, source)
            if len(found) == most:
                return found
    return found


def _sources(content: Any) -> Iterator[Mapping[str, Any]]:
    for block in content if isinstance(content, list) else ():
        source = block.get("source")
        if block["type"] == "image" and isinstance(source, Mapping):
            yield source
        elif block["type"] == "tool_result":
            yield from _sources(block.get("content"))
        elif block["type"] == "document" and isinstance(source, Mapping):
            yield from _sources(source.get("content"))
