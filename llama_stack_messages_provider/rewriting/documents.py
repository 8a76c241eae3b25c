"""Documents, search results and other blocks that a text model can only read as text.

The form is stable, so that prompt prefixes stay cacheable, and says where each piece comes from.
"""

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from io import BytesIO
from threading import Lock
from typing import Any

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.encrypted_content import opened

__all__ = [
    "LastRead",
    "document_text",
    "encodable",
    "found_text",
    "pdf_pages",
    "search_result_text",
    "server_tool_text",
    "tagged",
]

_UNREADABLE = "only the server that made it can read it"
_SERVER_CALLS = frozenset({"server_tool_use", "mcp_tool_use"})
# https://platform.claude.com/docs/en/build-with-claude/pdf-support; a small file can have any number of them.
_MOST_PAGES = 600
_TEXT_SOURCES = frozenset({"text", "base64", "content"})


def tagged(tag: str, text: str, **attributes: str | None) -> str:
    """Text between an opening and a closing tag, each on a line of its own."""
    head = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items() if value)
    return f"<{tag}{head}>\n{text}\n</{tag}>"


def document_text(block: Mapping[str, Any], path: str, losses: DroppedFields) -> str:
    """A `document` block whose source is text, content or a base64 PDF.

    Raises:
        InvalidRequestError: The PDF cannot be read.
    """
    context = block.get("context")
    body = _source_text(block["source"], f"{path}.source", losses)
    return tagged("document", f"{tagged('context', context)}\n{body}" if context else body, title=block.get("title"))


def _source_text(source: Mapping[str, Any], path: str, losses: DroppedFields) -> str:
    if source["type"] == "text":
        return str(source["data"])
    if source["type"] == "base64":
        pages = pdf_pages(source["data"], f"{path}.data")
        if not any(pages):
            losses.drop(path, "there is no text in the PDF")
        return "\n".join(tagged("page", text, number=str(n)) for n, text in enumerate(pages, 1))
    content = source["content"]
    return content if isinstance(content, str) else _texts(content)


def _texts(blocks: Iterable[Mapping[str, Any]]) -> str:
    return "\n\n".join(block["text"] for block in blocks if block["type"] == "text")


class LastRead:
    """The pages of the PDFs that were read last: a conversation brings its documents with each turn.

    Args:
        most_characters: What is held; each PDF counts as a thousand more, for what it takes besides.
    """

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._held = 0
        self._pages: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._lock = Lock()  # PDFs are read in threads

    def get(self, key: bytes) -> tuple[str, ...] | None:
        """The pages of a PDF, if they are still held."""
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
            return self._pages.get(key)

    def add(self, key: bytes, pages: tuple[str, ...]) -> None:
        """Hold a PDF's pages, unless they are too many, and let go of those that were not asked for longest."""
        with self._lock:
            if key not in self._pages and _size(pages) <= self._most:
                self._pages[key] = pages
                self._held += _size(pages)
            while self._held > self._most:
                self._held -= _size(self._pages.popitem(last=False)[1])


def _size(pages: tuple[str, ...]) -> int:
    return 1000 + sum(len(page) + 100 for page in pages)


_LAST_READ = LastRead(most_characters=8_000_000)


def pdf_pages(data: str, path: str) -> tuple[str, ...]:
    """The text of each page of a base64 PDF; what was read a short while ago is not read again.

    Raises:
        InvalidRequestError: It is not base64, not a PDF, encrypted, or too long; names `path`.
    """
    key = sha256(data.encode(errors="replace")).digest()
    if (pages := _LAST_READ.get(key)) is None:
        pages = _pages_of(data, path)
        _LAST_READ.add(key, pages)
    return pages


def _pages_of(data: str, path: str) -> tuple[str, ...]:
    """The text of each page, read now.

    Raises:
        InvalidRequestError: It is not base64, not a PDF, encrypted, or too long; names `path`.
    """
    import logging

    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is odd in a client's file is no news for our log
    try:
        reader = PdfReader(BytesIO(base64.b64decode("".join(data.split()), validate=True)))
        if len(reader.pages) > _MOST_PAGES:
            raise InvalidRequestError(f"{path}: the PDF has more than {_MOST_PAGES} pages")
        return tuple(encodable(page.extract_text()).strip() for page in reader.pages)
    except InvalidRequestError:
        raise
    except binascii.Error as exc:
        raise InvalidRequestError(f"{path}: not valid base64") from exc
    except Exception as exc:  # a large parser on a stranger's file: anything may come out of it
        raise InvalidRequestError(f"{path}: the PDF could not be read") from exc


def encodable(text: str) -> str:
    """Text without lone surrogates, which broken fonts yield and no JSON can carry."""
    return text.encode(errors="replace").decode()


def search_result_text(block: Mapping[str, Any]) -> str:
    """A `search_result` block."""
    return tagged("search_result", _texts(block["content"]), source=block["source"], title=block["title"])


def found_text(content: Any, path: str, losses: DroppedFields) -> tuple[str, bool]:
    """What a `web_search_tool_result` found, and whether it is a failure.

    Args:
        content: The block's content: pages, or an error.
        path: Where it stands in the request.
        losses: Takes the text of pages that another server found: nobody else can read it.
    """
    if isinstance(content, Mapping):
        return f"The search failed: {content.get('error_code')}", True
    pages = []
    for page in content:
        text = opened(encrypted := page.get("encrypted_content"))
        if text is None and encrypted:
            losses.drop(path, _UNREADABLE)
        where = {"source": page["url"], "title": page["title"], "page_age": page.get("page_age")}
        pages.append(tagged("search_result", text or "", **where))
    return "\n".join(pages) or "Nothing was found.", False


def server_tool_text(block: Mapping[str, Any], path: str, losses: DroppedFields) -> str:
    """A call or a result of a server tool in the history: what an earlier server did and found."""
    if block["type"] in _SERVER_CALLS:
        return tagged("server_tool_call", _compact(block["input"]), name=block["name"])
    content: Any = block.get("content")
    if block["type"] == "web_search_tool_result":
        text, _ = found_text(content, f"{path}.content", losses)
    elif block["type"] == "web_fetch_tool_result" and content["type"] == "web_fetch_result":
        text = _fetched_text(content, f"{path}.content", losses)
    else:
        text = _content_text(content)
        if _is_encrypted(content):
            losses.drop(f"{path}.content", _UNREADABLE)
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


def _fetched_text(content: Mapping[str, Any], path: str, losses: DroppedFields) -> str:
    url, document = content["url"], content["content"]
    if document["source"]["type"] in _TEXT_SOURCES:
        try:
            return f"{url}\n{document_text(document, f'{path}.content', losses)}"
        except InvalidRequestError:  # what an earlier server could read must not end the conversation here
            pass
    losses.drop(f"{path}.content", "the fetched document cannot be read here")
    return str(url)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
