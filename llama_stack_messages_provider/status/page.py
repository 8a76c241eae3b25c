"""The page: one file, with nothing of anybody else's in it, and nothing that it may load but its own numbers."""

import base64
import hashlib
import re
from importlib.resources import files

__all__ = ["PAGE", "PAGE_HEADERS"]

PAGE: bytes = files(__package__).joinpath("page.html").read_bytes()


def _hash_of(element: bytes) -> str:
    """What a Content-Security-Policy calls the one inline script or style of the page."""
    [text] = re.findall(b"<%b>(.*?)</%b>" % (element, element), PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hash_of(b'script')}",
            f"style-src {_hash_of(b'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ]
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Only its own script and style run, and only this server is asked; `data:` is an icon that is none."""
