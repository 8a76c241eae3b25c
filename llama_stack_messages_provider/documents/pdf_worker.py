"""Reads PDFs in a process of its own, which `pdf.py` starts: whatever a file does, nothing else ends with it.

```
arguments   bytes of memory, seconds of CPU
stdin       {"size", "pages", "characters"} and a newline, then `size` bytes of base64; again and again
stdout      the answer's length in 8 bytes, then {"pages": [text, ...]} or {"error": one of `ERRORS`}
```
It imports its limits of the package, and nothing of its server.
"""

import base64
import binascii
import json
import sys
from typing import Any, BinaryIO

import pypdfium2

from llama_stack_messages_provider.documents.worker_limits import limit

__all__ = ["ERRORS", "answer", "main"]

ERRORS = ("base64", "unreadable", "password", "pages", "characters", "memory")

# pdfium ends lines as Windows does, and marks the hyphen that breaks a word with what is no character.
_PLAIN = {ord("\r"): None, 0: None, 0xFFFE: "-"}


def main(memory_bytes: int, cpu_seconds: int) -> None:
    """Answer what comes on stdin until it ends."""
    limit(memory_bytes, cpu_seconds)
    while head := sys.stdin.buffer.readline():
        body = json.dumps(_answered(sys.stdin.buffer, **json.loads(head))).encode()
        sys.stdout.buffer.write(len(body).to_bytes(8) + body)
        sys.stdout.buffer.flush()


def _answered(stdin: BinaryIO, size: int, pages: int, characters: int) -> dict[str, Any]:
    try:
        return answer(stdin.read(size), pages, characters)
    except MemoryError:
        return {"error": "memory"}


def answer(data: bytes, most_pages: int, most_characters: int) -> dict[str, Any]:
    """The text of each page of a base64 PDF, or why there is none."""
    try:
        file = base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return {"error": "base64"}
    del data
    try:
        with pypdfium2.PdfDocument(file) as document:
            return _pages(document, most_pages, most_characters)
    except pypdfium2.PdfiumError as exc:
        return {"error": "password" if "password" in str(exc).lower() else "unreadable"}


def _pages(document: pypdfium2.PdfDocument, most_pages: int, most_characters: int) -> dict[str, Any]:
    if len(document) > most_pages:
        return {"error": "pages"}
    pages: list[str] = []
    for page in document:
        text_page = page.get_textpage()
        most_characters -= text_page.count_chars()
        if most_characters < 0:
            return {"error": "characters"}
        pages.append(text_page.get_text_range().translate(_PLAIN).strip())
        text_page.close()
        page.close()
    return {"pages": pages}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
