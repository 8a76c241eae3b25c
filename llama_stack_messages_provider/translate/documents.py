"""Documents, search results and other blocks that a text model can only read as text.

The form is stable, so that prompt prefixes stay cacheable, and says where each piece comes from.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from html import escape
from io import BytesIO
from typing import Any

from llama_stack_messages_provider.api.errors import InvalidRequestError

__all__ = ["document_text", "pdf_pages", "search_result_text", "server_tool_text", "tagged"]


def tagged(tag: str, text: str, **attributes: str | None) -> str:
    """Text between an opening and a closing tag, each on a line of its own."""
    head = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items() if value)
    return f"<{tag}{head}>\n{text}\n</{tag}>"


def document_text(block: Mapping[str, Any], path: str) -> str:
    """A `document` block whose source is text, content or a base64 PDF.

    Raises:
        InvalidRequestError: The PDF cannot be read.
    """
    context = block.get("context")
    body = _source_text(block["source"], f"{path}.source")
    return tagged(
        "document", f"{tagged('context', context)}\n{body}" if context else body, title=block.get("title")
    )


def _source_text(source: Mapping[str, Any], path: str) -> str:
    if source["type"] == "text":
        return str(source["data"])
    if source["type"] == "base64":
        pages = pdf_pages(source["data"], f"{path}.data")
        return "\n".join(tagged("page", text, number=str(n)) for n, text in enumerate(pages, 1))
    content = source["content"]
    return content if isinstance(content, str) else "\n\n".join(b["text"] for b in content if "text" in b)


def pdf_pages(data: str, path: str) -> list[str]:
    """The text of each page of a base64 PDF.

    Raises:
        InvalidRequestError: It is not base64, not a PDF, or encrypted; names `path`.
    """
    import logging

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is odd in a client's file is no news for our log
    try:
        reader = PdfReader(BytesIO(base64.b64decode(data, validate=True)))
        return [page.extract_text().strip() for page in reader.pages]
    except binascii.Error as exc:
        raise InvalidRequestError(f"{path}: not valid base64") from exc
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise InvalidRequestError(f"{path}: the PDF could not be read") from exc


def search_result_text(block: Mapping[str, Any]) -> str:
    """A `search_result` block."""
    text = "\n\n".join(part["text"] for part in block["content"] if "text" in part)
    return tagged("search_result", text, source=block.get("source"), title=block.get("title"))


def server_tool_text(block: Mapping[str, Any]) -> str:
    """A call or a result of a server tool in the history: what an earlier server did and found."""
    if "input" in block:
        return tagged("server_tool_call", _compact(block["input"]), name=str(block.get("name")))
    return tagged("server_tool_result", _content_text(block.get("content")), type=str(block["type"]))


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(_content_text, content))
    if not isinstance(content, Mapping):
        return ""
    if isinstance(text := content.get("text"), str):
        return text
    readable = {k: v for k, v in content.items() if not k.startswith("encrypted") and k != "cache_control"}
    return _compact(readable)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
