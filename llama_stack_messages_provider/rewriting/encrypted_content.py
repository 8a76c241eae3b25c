"""The text of pages that a search found, as `encrypted_content`: opaque to clients, who bring it back with later turns.

It is not secret, since clients may have it; it only has to be told apart from what other servers wrote.
"""

import base64

__all__ = ["MARK", "decode_encrypted_content", "encode_encrypted_content", "is_encoded"]

MARK = "lst1."
"""What an `encrypted_content` of ours begins with."""


def encode_encrypted_content(text: str) -> str:
    """Text as `encrypted_content`; never empty."""
    return MARK + base64.b64encode(text.encode(errors="replace")).decode()


def is_encoded(content: object) -> bool:
    """Whether an `encrypted_content` was made by this package."""
    return isinstance(content, str) and content.startswith(MARK)


def decode_encrypted_content(content: object) -> str | None:
    """The text that was encoded here; None of anything else."""
    if not (isinstance(content, str) and is_encoded(content)):
        return None
    try:
        return base64.b64decode(content.removeprefix(MARK)).decode()
    except ValueError:
        return None
