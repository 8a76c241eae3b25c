"""Plain content blocks to OpenAI message parts: `text`, `image_url`, and `file` where the upstream takes PDFs.

Where all parts are text they become one string, since many chat templates take nothing else.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from llama_stack_messages_provider.rewriting.documents import tagged

__all__ = ["Part", "joined", "text_of", "to_parts"]

Part = dict[str, Any]
Block = Mapping[str, Any]

_BETWEEN = "\n\n"


def to_parts(content: str | Iterable[Block]) -> list[Part]:
    """The parts of a turn, of the system prompt, or of a tool result; calls, results and thinking are no parts."""
    if isinstance(content, str):
        return [_text(content)] if content else []
    return [part for block in content for part in _parts(block)]


def joined(parts: list[Part]) -> str | list[Part]:
    """One string where all parts are text, else the parts."""
    return text_of(parts) if all(part["type"] == "text" for part in parts) else parts


def text_of(parts: Iterable[Part]) -> str:
    """The text of the parts that are text."""
    return _BETWEEN.join(part["text"] for part in parts if part["type"] == "text")


def _parts(block: Block) -> list[Part]:
    kind = block["type"]
    if kind == "text":
        return [_text(block["text"])] if block["text"] else []
    if kind == "image":
        source = block["source"]
        url = source["url"] if source["type"] == "url" else f"data:{source['media_type']};base64,{source['data']}"
        return [{"type": "image_url", "image_url": {"url": url}}]
    return _file(block) if kind == "document" else []


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _file(block: Block) -> list[Part]:
    source, title = block["source"], block.get("title") or "document"
    name = title if title.lower().endswith(".pdf") else f"{title}.pdf"
    file = {"filename": name, "file_data": f"data:{source['media_type']};base64,{source['data']}"}
    context = [_text(tagged("context", text, title=block.get("title")))] if (text := block.get("context")) else []
    return [*context, {"type": "file", "file": file}]
