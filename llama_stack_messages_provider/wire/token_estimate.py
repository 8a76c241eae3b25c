"""How many tokens a prompt may have, where nothing counts them: from its length in UTF-8, which tells scripts apart
less than characters do.

A request is weighed in bytes, of either dialect. What the model reads otherwise than as text has a weight of its own,
and what it does not read (signatures, encrypted content, marks of caches) has none.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["BYTES_PER_TOKEN", "estimated_tokens", "prompt_weight", "weight_of"]

BYTES_PER_TOKEN = 3.5
"""What a token has where nothing is known of the model; most tokenizers have more."""

# What an image costs, in tokens: Anthropic's own bound for one of ordinary size.
_IMAGE_TOKENS = 1600
_IMAGE = int(_IMAGE_TOKENS * BYTES_PER_TOKEN)
# A page of a PDF has some 50 kB as base64 and some 2 kB of text.
_BASE64_PER_BYTE = 25
# Quotes and commas around a key or an item, as templates write them.
_PUNCTUATION = 2
_SCALAR = 3

_PROMPT = ("system", "messages", "tools", "output_config", "response_format")
_UNREAD = frozenset({"cache_control", "encrypted_content", "encrypted_index", "signature"})


def prompt_weight(request: Mapping[str, Any], most: float = math.inf) -> int:
    """The weight of all that a request shows to its model, in bytes.

    Args:
        request: A Messages request, or the parameters of a chat completion.
        most: Where weighing may end: a heavier prompt has at least this weight.
    """
    return weight_of((request[name] for name in _PROMPT if name in request), most)


def estimated_tokens(request: Mapping[str, Any], bytes_per_token: float = BYTES_PER_TOKEN) -> int:
    """An estimate of a request's input tokens, rounded up."""
    return math.ceil(prompt_weight(request) / bytes_per_token)


def weight_of(values: Iterable[Any], most: float = math.inf) -> int:
    """The weight of JSON values, in bytes; of shapes that nobody documented as well."""
    weight, waiting = 0, list(values)
    while waiting and weight < most:
        value = waiting.pop()
        if isinstance(value, str):
            weight += len(value) if value.isascii() else len(value.encode(errors="replace"))
        elif isinstance(value, list):
            weight += _PUNCTUATION * len(value)
            waiting += value
        elif not isinstance(value, Mapping):
            weight += _SCALAR
        elif (known := _known_weight(value)) is not None:
            weight += known
        else:
            for name, item in value.items():
                if name not in _UNREAD:
                    weight += len(name) + _PUNCTUATION
                    waiting.append(item)
    return weight


def _known_weight(block: Mapping[str, Any]) -> int | None:
    """What a block weighs that is not read as the text it is written in."""
    kind = block.get("type")
    if kind == "redacted_thinking":
        return 0
    if kind in ("image", "image_url"):
        return _IMAGE
    if kind == "base64" and isinstance(data := block.get("data"), str):
        return len(data) // _BASE64_PER_BYTE
    if kind == "file" and isinstance(file := block.get("file"), Mapping):
        return len(str(file.get("file_data") or "")) // _BASE64_PER_BYTE
    return None
