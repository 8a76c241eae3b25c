"""Signatures of thinking blocks that are made here: never empty, and recognised when they come back.

Anthropic refuses signatures that are not its own, so that blocks with ours are taken out before a request goes there.
Elsewhere any signature is accepted.
"""

import base64
import hashlib
import hmac

__all__ = ["PREFIX", "Signer", "is_ours"]

PREFIX = "lsm1."
"""What our signatures begin with."""


class Signer:
    """Signs thinking text with HMAC-SHA256 over the model and the text."""

    __slots__ = ("_key", "_model")

    def __init__(self, key: bytes, model: str) -> None:
        self._key = key
        self._model = model

    def __call__(self, thinking: str) -> str:
        """The signature of a block with this text."""
        message = self._model.encode() + b"\0" + thinking.encode(errors="surrogatepass")
        return PREFIX + base64.b64encode(hmac.digest(self._key, message, hashlib.sha256)).decode()


def is_ours(signature: object) -> bool:
    """Whether a signature was made by this package."""
    return isinstance(signature, str) and signature.startswith(PREFIX)
