"""Documents, search results and other blocks that a text model can only read as text.

The form is stable, so that prompt prefixes stay cacheable, and says where each piece comes from.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.rewriting.encrypted_content import decode_encrypted_content

__all__ = [
    "PDF",
    "document_text",
    "encodable",
    "fetched_text",
    "found_text",
    "pages_source",
    "search_result_text",
    "server_tool_text",
    "tagged",
]

_UNREADABLE = "only the server that made it can read it"
_SERVER_CALLS = frozenset({"server_tool_use", "mcp_tool_use"})
_TEXT_SOURCES = frozenset({"text", "content"})

PDF = "application/pdf"


def tagged(tag: str, text: str, **attributes: str | None) -> str:
    """Text between an opening and a closing tag, each on a line of its own."""
    head = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items() if value)
    return f"<{tag}{head}>\n{text}\n</{tag}>"


def document_text(block: Mapping[str, Any], path: str, dropped: DroppedFields) -> str:
    """A `document` block whose source is text, or content, or the text of a PDF."""
    context = block.get("context")
    body = _source_text(block["source"], f"{path}.source", dropped)
    return tagged("document", f"{tagged('context', context)}\n{body}" if context else body, title=block.get("title"))


def _source_text(source: Mapping[str, Any], path: str, dropped: DroppedFields) -> str:
    if source["type"] == "text":
        if source.get("media_type") == PDF and not source["data"]:
            dropped.drop(path, "there is no text in the PDF")
        return str(source["data"])
    content = source["content"]
    return content if isinstance(content, str) else _texts(content)


def _texts(blocks: Iterable[Mapping[str, Any]]) -> str:
    return "\n\n".join(block["text"] for block in blocks if block["type"] == "text")


def pages_source(pages: Sequence[str]) -> dict[str, str]:
    """The source that the text of a PDF's pages makes; its text is empty where none of them has any."""
    text = "\n".join(tagged("page", page, number=str(n)) for n, page in enumerate(pages, 1)) if any(pages) else ""
    return {"type": "text", "media_type": PDF, "data": text}


def encodable(text: str) -> str:
    """Text without lone surrogates, which broken fonts yield and no JSON can carry."""
    return text.encode(errors="replace").decode()


def search_result_text(block: Mapping[str, Any]) -> str:
    """A `search_result` block."""
    return tagged("search_result", _texts(block["content"]), source=block["source"], title=block["title"])


def found_text(content: Any, path: str, dropped: DroppedFields) -> tuple[str, bool]:
    """What a `web_search_tool_result` found, and whether it is a failure.

    Args:
        content: The block's content: pages, or an error.
        path: Where it stands in the request.
        dropped: Takes the text of pages that another server found: nobody else can read it.
    """
    if isinstance(content, Mapping):
        return f"The search failed: {content.get('error_code')}", True
    pages = []
    for page in content:
        text = decode_encrypted_content(encrypted := page.get("encrypted_content"))
        if text is None and encrypted:
            dropped.drop(path, _UNREADABLE)
        where = {"source": page["url"], "title": page["title"], "page_age": page.get("page_age")}
        pages.append(tagged("search_result", text or "", **where))
    return "\n".join(pages) or "Nothing was found.", False


def server_tool_text(block: Mapping[str, Any], path: str, dropped: DroppedFields) -> str:
    """A call or a result of a server tool in the history: what an earlier server did and found."""
    if block["type"] in _SERVER_CALLS:
        return tagged("server_tool_call", _compact(block["input"]), name=block["name"])
    content: Any = block.get("content")
    if block["type"] == "web_search_tool_result":
        text, _ = found_text(content, f"{path}.content", dropped)
    elif block["type"] == "web_fetch_tool_result" and content["type"] == "web_fetch_result":
        text = fetched_text(content, f"{path}.content", dropped)
    else:
        text = _content_text(content)
        if _is_encrypted(content):
            dropped.drop(f"{path}.content", _UNREADABLE)
    return tagged("server_tool_result", text, type=block["type"], is_error="true" if block.get("is_error") else None)


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(_content_text, content))
    if not isinstance(content, Mapping):
        return ""
    if isinstance(text := content.get("text"), str):
        return text
    return _compact(_readable(content))


def _is_encrypted(value: Any) -> bool:
    """Whether there is something in it that only its maker can read."""
    if isinstance(value, list):
        return any(map(_is_encrypted, value))
    if not isinstance(value, Mapping):
        return False
    return any(_is_encrypted(v) or (v and k.startswith("encrypted")) for k, v in value.items())


def _readable(value: Any) -> Any:
    """Without what only its maker can read, and without cache markers, which never change the prompt."""
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {k: _readable(v) for k, v in value.items() if not k.startswith("encrypted") and k != "cache_control"}


def fetched_text(content: Mapping[str, Any], path: str, dropped: DroppedFields) -> str:
    """A `web_fetch_result`: the page's address and its text."""
    url, document = content["url"], content["content"]
    if document["source"]["type"] in _TEXT_SOURCES:
        return f"{url}\n{document_text(document, f'{path}.content', dropped)}"
    dropped.drop(f"{path}.content", "the fetched document cannot be read here")
    return str(url)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
