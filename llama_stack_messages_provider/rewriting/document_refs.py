"""Documents that cost time before they can be read: PDFs, and those given by URL.

Where they stand in a request, and the request with what was found in them in their place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DocumentRef", "documents", "may_have_documents", "with_sources"]

Key = str | int


@dataclass(frozen=True, slots=True)
class DocumentRef:
    """A document block of a request.

    Args:
        keys: The way to it from the request.
        block: The block.
        in_history: An earlier server fetched it: what it could read must not end the conversation here.
    """

    keys: tuple[Key, ...]
    block: Mapping[str, Any]
    in_history: bool = False

    @property
    def path(self) -> str:
        """The way to it, as errors name it."""
        return ".".join(map(str, self.keys))

    @property
    def source(self) -> Mapping[str, Any]:
        """The document's source; empty where it has none of the documented shape."""
        source = self.block.get("source")
        return source if isinstance(source, dict) else {}


def may_have_documents(body: bytes) -> bool:
    """Whether there can be documents in a request of this body: JSON may write any letter as its number."""
    return b'"document"' in body or b"\\u00" in body


def documents(request: Mapping[str, Any]) -> Iterator[DocumentRef]:
    """The documents of a validated request: in turns, in results, and in pages that an earlier server fetched."""
    for i, message in enumerate(request["messages"]):
        yield from _in_content(message.get("content"), ("messages", i, "content"))


def _in_content(content: Any, keys: tuple[Key, ...], *, in_result: bool = False) -> Iterator[DocumentRef]:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "document":
            yield DocumentRef((*keys, index), block)
        elif kind == "tool_result" and not in_result:
            yield from _in_content(block.get("content"), (*keys, index, "content"), in_result=True)
        elif kind == "web_fetch_tool_result":
            page = block.get("content")
            inner = page.get("content") if isinstance(page, dict) else None
            if isinstance(inner, dict):
                yield DocumentRef((*keys, index, "content", "content"), inner, in_history=True)


def with_sources(request: Mapping[str, Any], sources: Mapping[tuple[Key, ...], Mapping[str, Any]]) -> dict[str, Any]:
    """The request with other sources for some of its documents, by the keys to them; nothing of it is changed."""
    changed = dict(request)
    copied: set[tuple[Key, ...]] = set()
    for keys, source in sources.items():
        node: Any = changed
        for depth, key in enumerate(keys, 1):
            if keys[:depth] not in copied:
                copied.add(keys[:depth])
                node[key] = node[key].copy()
            node = node[key]
        node["source"] = source
    return changed
