"""PDFs that are harmless, and requests as they are translated once their documents are read."""

import base64
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from typing import Any

import orjson
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from llama_stack_messages_provider.documents.pdf import PdfLimits, PdfReader
from llama_stack_messages_provider.documents.resolve import Documents
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.translation.request import Translation, TranslationOptions, to_chat_completion
from llama_stack_messages_provider.wire.request import CreateMessageRequest

__all__ = ["LIMITS", "asking", "limited", "pdf", "pdf_block", "resolved", "translated"]

type Json = dict[str, Any]

LIMITS = PdfLimits(processes=2, waiting=8, seconds=60, memory_bytes=128 * 1024 * 1024, pages=600, characters=4_000_000)
"""Those of the configuration, with time for a machine that has much to do."""

FONT = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}


def limited(**limits: Any) -> PdfReader:
    """A reader with other limits."""
    return PdfReader(replace(LIMITS, **limits))


def pdf(*pages: str, password: str | None = None) -> str:
    """A PDF in base64, a line of text on each page."""
    writer = PdfWriter()
    for words in pages:
        page = writer.add_blank_page(300, 300)
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({words}) Tj ET".encode() if words else b"")
        page[NameObject("/Contents")] = writer._add_object(content)
        page[NameObject("/Resources")] = _names({"/Font": _names({"/F1": _names(FONT)})})
    if password:
        writer.encrypt(password, algorithm="RC4-40")
    file = BytesIO()
    writer.write(file)
    return base64.b64encode(file.getvalue()).decode()


def _names(entries: Json) -> DictionaryObject:
    return DictionaryObject({NameObject(k): NameObject(v) if isinstance(v, str) else v for k, v in entries.items()})


def pdf_block(data: str, **fields: Any) -> Json:
    """A `document` block of a base64 PDF."""
    return {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": data},
        **fields,
    }


def asking(*messages: Json) -> Json:
    """A request that the API accepts."""
    request = {"model": "claude-x", "max_tokens": 64, "messages": list(messages)}
    CreateMessageRequest.model_validate(request)
    return request


async def resolved(messages: Iterable[Json], reader: PdfReader | None = None, *, files: bool = False) -> Json:
    """A request with its documents read."""
    request = asking(*messages)
    return await Documents(reader or limited()).resolve(request, body=orjson.dumps(request), files=files)


async def translated(*messages: Json, dialect: str = "unknown", options: Json | None = None) -> Translation:
    """The translation of a request with its documents read."""
    spoken = ENGINES[dialect].chat
    request = await resolved(messages, files=spoken.files)
    return to_chat_completion(request, model="m", dialect=spoken, options=TranslationOptions(**options or {}))
