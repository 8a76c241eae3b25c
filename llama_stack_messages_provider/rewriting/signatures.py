"""Signatures of thinking blocks that are made here: never empty, and recognised when they come back.

A signature may carry what an engine wants back and what the client does not show it: reasoning behind
`display: omitted`, and `reasoning_details`. It is signed, so that nobody can make a model read as its own thoughts what
it never thought: what does not verify is not used.

```
lsm1.<HMAC of model and text>                       nothing carried
lsm2.<base64url of zlib of JSON>.<HMAC of all>      something carried; also as `data` of redacted_thinking blocks
```
Anthropic refuses signatures that are not its own, so that blocks with ours are taken out before a request goes there.
Elsewhere any signature is accepted: thinking without one of ours is read as it is.
"""

import base64
import hashlib
import hmac
import zlib
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["CARRYING", "PREFIX", "Signer", "carrier_of", "is_ours"]

PREFIX = "lsm"
"""What our signatures begin with; a digit and a point follow."""
_PLAIN, CARRYING = "lsm1.", "lsm2."

# Bytes of JSON that a signature carries at the most; of more, it only says that it was too much.
_MAX_CARRIED = 262_144
_TOO_MUCH: Mapping[str, Any] = {"too_much": True}


class Signer:
    """Signs thinking with HMAC-SHA256 over the model, the text and what is carried.

    Args:
        key: The secret key.
        model: The model whose thinking it is; another one gets nothing of what is carried.
    """

    __slots__ = ("_key", "model")

    def __init__(self, key: bytes, model: str) -> None:
        self._key = key
        self.model = model

    def __call__(self, thinking: str, carried: Mapping[str, Any] | None = None) -> str:
        """The signature of a block with this text."""
        if not carried:
            return _PLAIN + self._digest(thinking, "")
        code = _packed(carried)
        return f"{CARRYING}{code}.{self._digest(thinking, code)}"

    def of_summary(self, summary: str) -> str:
        """The signature of a compaction block; none of thinking with the same text."""
        return _PLAIN + self._digest(f"compaction\0{summary}", "")

    def carried(self, thinking: str, signature: object) -> dict[str, Any] | None:
        """What a signature carries; nothing if it is another's, and None if it is forged or of another model."""
        if not is_ours(signature):
            return {}
        assert isinstance(signature, str)
        code, _, digest = signature.removeprefix(CARRYING).rpartition(".") if _is_carrying(signature) else ("", "", "")
        if not code:
            return {} if hmac.compare_digest(signature.encode(errors="replace"), self(thinking).encode()) else None
        if not hmac.compare_digest(digest.encode(errors="replace"), self._digest(thinking, code).encode()):
            return None
        return _unpacked(code)

    def _digest(self, thinking: str, code: str) -> str:
        parts = [self.model, thinking, code] if code else [self.model, thinking]
        message = "\0".join(parts).encode(errors="surrogatepass")
        return base64.b64encode(hmac.digest(self._key, message, hashlib.sha256)).decode()


def is_ours(signature: object) -> bool:
    """Whether a signature, or the data of redacted thinking, was made by this package."""
    return isinstance(signature, str) and signature.startswith((_PLAIN, CARRYING))


def carrier_of(block: Mapping[str, Any]) -> Any:
    """What carries a block of thinking's state: its signature, or the data of redacted thinking."""
    return block.get("data" if block.get("type") == "redacted_thinking" else "signature")


def _is_carrying(signature: str) -> bool:
    return signature.startswith(CARRYING)


def _packed(carried: Mapping[str, Any]) -> str:
    data = orjson.dumps(carried)
    if len(data) > _MAX_CARRIED:
        data = orjson.dumps(_TOO_MUCH)
    return base64.urlsafe_b64encode(zlib.compress(data)).decode()


def _unpacked(code: str) -> dict[str, Any]:
    try:
        data = zlib.decompressobj().decompress(base64.urlsafe_b64decode(code), _MAX_CARRIED + 1)
        value = orjson.loads(data)
    except (ValueError, zlib.error):
        return {}
    return value if isinstance(value, dict) else {}
