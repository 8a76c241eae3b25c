"""How many tokens a prompt may have, where nothing counts them: from its length in UTF-8, which tells scripts apart
less than characters do.

A request is weighed in bytes, of either dialect. What the model reads otherwise than as text has a weight of its own,
and what it does not read (signatures, encrypted content, marks of caches) has none.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import orjson

__all__ = [
    "BYTES_PER_TOKEN",
    "DEFAULTS",
    "Kind",
    "Measure",
    "estimated_tokens",
    "measured",
    "prompt_weight",
    "weight_of",
]

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
# Bytes of a character beyond which a text is in a script of three bytes, or of two; or not in ASCII alone.
_THREE_BYTES, _TWO_BYTES, _ASCII = 2.2, 1.3, 1.002
# Letters of prose, in a sample of characters; a text of fewer characters is a name.
_LETTERS, _SAMPLE, _WORDS = 0.72, 256, 24

_PROMPT = ("system", "messages", "tools", "output_config", "response_format")
# Where blocks stand in blocks, and in messages.
_HOLDERS = ("content", "source")
_UNREAD = frozenset({"cache_control", "encrypted_content", "encrypted_index", "signature"})


class Kind(IntEnum):
    """What a text is like, as far as tokenizers care: they have bytes per token of each."""

    CODE = 0
    """Code, JSON, names: many signs, few words."""
    PROSE = 1
    """Words in ASCII."""
    LATIN = 2
    """Words with some letters beside ASCII."""
    TWO_BYTES = 3
    """Cyrillic, Greek, Arabic, Hebrew."""
    THREE_BYTES = 4
    """Chinese, Japanese, Korean, scripts of India."""


DEFAULTS: tuple[float, ...] = (3.5, 4.3, 3.2, 3.2, 3.0)
"""Bytes of a token by `Kind`, where nothing is known of the model."""


def prompt_weight(request: Mapping[str, Any]) -> int:
    """The weight of all that a request shows to its model: a Messages request, or a chat completion's parameters."""
    return weight_of(_prompt_of(request))


def estimated_tokens(request: Mapping[str, Any], bytes_per_token: float = BYTES_PER_TOKEN) -> int:
    """An estimate of a request's input tokens, rounded up."""
    return math.ceil(prompt_weight(request) / bytes_per_token)


def weight_of(values: Iterable[Any]) -> int:
    """The weight of JSON values, in bytes of JSON but for what is not read as text."""
    return sum(_json_length(value) + _not_as_text(value) for value in values)


def _json_length(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:  # a number or a text that JSON cannot carry
        return len(str(value))


def _not_as_text(value: Any) -> int:
    """What the blocks in a value weigh more, and mostly less, than their JSON has bytes."""
    if isinstance(value, list):
        return sum(_not_as_text(each) for each in value if not isinstance(each, str))
    if not isinstance(value, Mapping):
        return 0
    known = _known_weight(value)
    if known is not None:
        return known - _json_length(value)
    unread = sum(_json_length(value[name]) for name in _UNREAD if name in value)
    return sum(_not_as_text(value[name]) for name in _HOLDERS if name in value) - unread


@dataclass(frozen=True, slots=True)
class Measure:
    """What a prompt is made of.

    Args:
        texts: Bytes by `Kind`.
        others: Bytes of what is around texts; what images weigh.
        weight: As `prompt_weight` has it.
    """

    texts: tuple[int, ...]
    others: int
    weight: int

    def tokens(self, ratios: Sequence[float] = DEFAULTS) -> float:
        """An estimate of its tokens, by bytes per token of each kind."""
        texts = sum(weight / ratio for weight, ratio in zip(self.texts, ratios, strict=True))
        return texts + self.others / BYTES_PER_TOKEN


def measured(request: Mapping[str, Any]) -> Measure:
    """The measure of a Messages request, or of the parameters of a chat completion."""
    texts, others = [0] * len(Kind), 0
    for text, other in _parts(_prompt_of(request)):
        others += other
        if text:
            size = len(text) if text.isascii() else len(text.encode(errors="replace"))
            texts[_kind_of(text, size)] += size
    return Measure(tuple(texts), others, prompt_weight(request))


def _kind_of(text: str, size: int) -> Kind:
    per_character = size / len(text)
    if per_character > _THREE_BYTES:
        return Kind.THREE_BYTES
    if per_character > _TWO_BYTES:
        return Kind.TWO_BYTES
    middle = max(0, len(text) - _SAMPLE) // 2
    sample = text[middle : middle + _SAMPLE]
    if len(text) < _WORDS or sum(map(str.isalpha, sample)) < _LETTERS * len(sample):
        return Kind.CODE
    return Kind.PROSE if per_character <= _ASCII else Kind.LATIN


def _prompt_of(request: Mapping[str, Any]) -> Iterator[Any]:
    return (request[name] for name in _PROMPT if name in request)


def _parts(values: Iterable[Any]) -> Iterator[tuple[str, int]]:
    """The texts in JSON values, and what stands around them weighs."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value, 0
        elif isinstance(value, list):
            yield "", _PUNCTUATION * len(value)
            waiting += value
        elif not isinstance(value, Mapping):
            yield "", _SCALAR
        elif (known := _known_weight(value)) is not None:
            yield "", known
        else:
            read = [name for name in value if name not in _UNREAD]
            yield "", sum(map(len, read)) + _PUNCTUATION * len(read)
            waiting += (value[name] for name in read)


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
