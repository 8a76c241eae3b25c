"""The blocks of the MCP connector, and what the model reads for them. Pure.

A result block holds text alone, as the SDK types it. An image stands in it as Markdown with a data URI, which any
client keeps and many can show; the model is given the image.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.rewriting.documents import encodable, tagged
from llama_stack_messages_provider.server_tools.mcp.definitions import LISTING, Listing
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult

__all__ = ["RESULT", "USE", "error_block", "listing_block", "plain_result", "result_block", "result_texts"]

USE = "mcp_tool_use"
RESULT = "mcp_tool_result"

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_IMAGE = re.compile(r"!\[image\]\(data:(?P<kind>image/(?:jpeg|png|gif|webp));base64,(?P<data>[A-Za-z0-9+/=]+)\)")

type Json = Mapping[str, Any]


def listing_block(server: str, tools: Listing) -> dict[str, Any]:
    """The block that records what a server listed."""
    return {"type": LISTING, "mcp_server_name": server, "tools": [*tools]}


def result_block(tool_use_id: str, texts: Sequence[str], *, is_error: bool = False) -> dict[str, Any]:
    """The block that answers a call."""
    content = [{"type": "text", "text": text} for text in texts]
    return {"type": RESULT, "tool_use_id": tool_use_id, "is_error": is_error, "content": content}


def error_block(tool_use_id: str, text: str) -> dict[str, Any]:
    """The block that says why a call failed."""
    return result_block(tool_use_id, [text], is_error=True)


def result_texts(result: Json, *, most_characters: int) -> list[str]:
    """The texts of a result block for what a server answered.

    Args:
        result: A `CallToolResult` of MCP, as JSON.
        most_characters: Text that is kept; images do not count.
    """
    texts = [encodable(text) for item in result.get("content") or () for text in _item_texts(item)]
    if not texts and (structured := result.get("structuredContent")) is not None:
        texts = [encodable(json.dumps(structured, ensure_ascii=False))]
    return list(_bounded(texts, most_characters))


def _item_texts(item: Json) -> Iterator[str]:
    match item.get("type"):
        case "text":
            yield item["text"]
        case "image":
            yield _image_text(item.get("mimeType"), item.get("data"))
        case "resource":
            yield _resource_text(item["resource"])
        case "resource_link":
            text = item.get("description") or item.get("title") or ""
            yield tagged("resource_link", text, uri=str(item.get("uri")), name=item.get("name"))
        case kind:
            yield f"[{kind or 'something'} of type {item.get('mimeType')} that cannot be shown]"


def _image_text(kind: Any, data: Any) -> str:
    text = f"![image](data:{kind};base64,{data})"
    return text if _IMAGE.fullmatch(text) else f"[an image of type {kind} that cannot be shown]"


def _resource_text(resource: Json) -> str:
    uri, kind = str(resource.get("uri")), resource.get("mimeType")
    if isinstance(text := resource.get("text"), str):
        return tagged("resource", text, uri=uri, type=kind)
    if kind in _IMAGES:
        return _image_text(kind, resource.get("blob"))
    size = len(resource.get("blob") or "") * 3 // 4
    return tagged("resource", f"[{size} bytes that cannot be shown]", uri=uri, type=kind)


def _bounded(texts: Sequence[str], most: int) -> Iterator[str]:
    """Texts up to a number of characters, and a word on what is left out."""
    whole = left = most
    total = sum(len(text) for text in texts if not _IMAGE.fullmatch(text))
    for text in texts:
        if _IMAGE.fullmatch(text):
            yield text
        elif left > 0:
            yield text[:left]
            left -= len(text)
    if total > whole:
        yield f"[The result was cut: it has {total} characters, of which these are the first {whole}.]"


def plain_result(block: Block) -> PlainResult | None:
    """What the model reads for a result block; None if the block is none."""
    if block.get("type") != RESULT:
        return None
    content, is_error = block.get("content", ""), block.get("is_error") is True
    if isinstance(content, str):
        return PlainResult(content, is_error)
    if not isinstance(content, list) or not all(isinstance(each, Mapping) for each in content):
        return None
    texts = [each["text"] for each in content if isinstance(each.get("text"), str)]
    blocks = [_plain_block(text) for text in texts if text]
    if any(each["type"] == "image" for each in blocks):
        return PlainResult(blocks, is_error)
    return PlainResult("\n".join(texts), is_error)


def _plain_block(text: str) -> dict[str, Any]:
    if found := _IMAGE.fullmatch(text):
        return {"type": "image", "source": {"type": "base64", "media_type": found["kind"], "data": found["data"]}}
    return {"type": "text", "text": text}
