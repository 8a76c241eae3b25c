"""Documents that cost time before they can be read: PDFs, and those given by URL.

Where they stand in a request, and the request with what was found at the URLs in their place.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["document_urls", "has_pdfs", "with_documents"]

Block = dict[str, Any]

_HOLDERS = frozenset({"tool_result", "web_fetch_tool_result", "web_fetch_result"})


def has_pdfs(request: Mapping[str, Any]) -> bool:
    """Whether a validated request has PDFs in it, to be read."""
    return any(_has_pdf(message.get("content")) for message in request["messages"])


def _has_pdf(content: Any) -> bool:
    """Whether there is a PDF in a turn, in a result, or in a page that an earlier server fetched."""
    for block in content if isinstance(content, list) else (content,):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "document" and _is_pdf(block.get("source")):
            return True
        if kind in _HOLDERS and _has_pdf(block.get("content")):
            return True
    return False


def _is_pdf(source: Any) -> bool:
    return isinstance(source, dict) and source.get("type") == "base64"


def document_urls(request: Mapping[str, Any]) -> dict[str, str]:
    """The URLs of a validated request's documents, and the path of the first source that has each."""
    found: dict[str, str] = {}
    for i, message in enumerate(request["messages"]):
        for path, block in _documents(message.get("content"), f"messages.{i}.content"):
            found.setdefault(block["source"]["url"], f"{path}.source.url")
    return found


def with_documents(request: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The request with each URL source replaced by the source that was made of its document."""

    def replaced(block: Block) -> Block:
        return {**block, "source": sources[block["source"]["url"]]} if _by_url(block) else block

    messages = [{**m, "content": _each(m["content"], replaced)} if "content" in m else m for m in request["messages"]]
    return {**request, "messages": messages}


def _by_url(block: Block) -> bool:
    # Where Anthropic's API has no documents, their shape is anybody's guess.
    source = block.get("source") if block.get("type") == "document" else None
    return isinstance(source, dict) and source.get("type") == "url" and isinstance(source.get("url"), str)


def _documents(content: Any, path: str) -> Iterator[tuple[str, Block]]:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        if _by_url(block):
            yield f"{path}.{index}", block
        elif block.get("type") == "tool_result":
            yield from _documents(block.get("content"), f"{path}.{index}.content")


def _each(content: Any, change: Callable[[Block], Block]) -> Any:
    if not isinstance(content, list):
        return content
    return [
        {**block, "content": _each(block["content"], change)}
        if block.get("type") == "tool_result" and "content" in block
        else change(block)
        for block in content
    ]
