"""PDFs that were made to hurt: small files that ask for much time, memory or text."""

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache

__all__ = ["HOSTILE", "slow"]

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def _file(objects: Sequence[bytes]) -> str:
    body, offsets = b"%PDF-1.5\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    size, table = len(objects) + 1, b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(body))
    whole = b"%sxref\n0 %d\n0000000000 65535 f \n%s%s" % (body, size, table, trailer)
    return base64.b64encode(whole).decode()


def _sharing(pages: int, content: bytes, times: int = 1) -> str:
    """Pages that have one content stream, which is compressed a number of times."""
    for _ in range(times):
        content = zlib.compress(content, 9)
    filters = b" ".join([b"/FlateDecode"] * times)
    kids = b" ".join(b"%d 0 R" % (5 + n) for n in range(pages))
    page = b"<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 3 0 R >> >> /Contents 4 0 R >>"
    return _file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
            _FONT,
            b"<< /Length %d /Filter [%s] >>\nstream\n%s\nendstream" % (len(content), filters, content),
            *[page] * pages,
        ]
    )


def _laughing(levels: int) -> str:
    """A form that draws a form ten times, which draws a form ten times, and so on."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /Resources << /XObject << /X 5 0 R >> >> /Contents 4 0 R >>",
        b"<< /Length 5 >>\nstream\n/X Do\nendstream",
    ]
    for level in range(levels):
        drawn = b"BT /F1 12 Tf (lol) Tj ET" if level == levels - 1 else b"/X Do " * 10
        resources = b"<< /Font << /F1 %s >> /XObject << /X %d 0 R >> >>" % (_FONT, level + 6)
        form = (
            b"<< /Type /XObject /Subtype /Form /BBox [0 0 600 700] /Resources %s /Length %d >>\nstream\n%s\nendstream"
        )
        objects.append(form % (resources, len(drawn), drawn))
    return _file(objects)


_WORDS = b"BT /F1 12 Tf 72 720 Td %s ET"


@cache
def slow() -> str:
    """Takes minutes, and little memory."""
    return _sharing(600, b"q Q " * 2_000_000)


def _deep() -> str:
    catalog = b"<< /Type /Catalog /Pages 2 0 R /X " + b"[" * 100_000 + b"]" * 100_000 + b" >>"
    return _file([catalog, b"<< /Type /Pages /Kids [] /Count 0 >>"])


def _cyclic() -> str:
    return _file([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 1000000000 >>"])


HOSTILE: Mapping[str, Callable[[], str]] = {
    "pages that share a stream": slow,
    "one page of much text": lambda: _sharing(1, _WORDS % (b"(Hello world) Tj 0 -12 Td " * 400_000)),
    "compressed twice": lambda: _sharing(1, _WORDS % (b" " * 300_000_000), times=2),
    "compressed twice, with text": lambda: _sharing(1, _WORDS % (b"(a)Tj " * 10_000_000), times=2),
    "forms of forms": lambda: _laughing(9),
    "deep": _deep,
    "pages that are their own parents": _cyclic,
}
"""Made when they are asked for: that takes a second for some."""
