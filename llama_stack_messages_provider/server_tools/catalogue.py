"""Tools that are searched: by words, ranked by BM25, and by regular expressions. Time is linear in their text.

Thirty lines rank a few hundred short texts in a millisecond; libraries for it (rank-bm25, bm25s) bring numpy. The
regular expressions are a model's, so that RE2 looks for them: no pattern makes it slow.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009)
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from llama_stack_messages_provider.rewriting.documents import encodable

__all__ = ["MOST_PATTERN", "Entry", "PatternError", "entries", "matching", "ranked"]

MOST_PATTERN = 200
"""Characters of a pattern, Anthropic's own limit."""

# Text that is searched: of one tool, and of all of them, each of which has some.
_MOST_TEXT, _LEAST_TEXT, _MOST_OF_ALL = 4000, 200, 2_000_000
_MOST_MEMORY = 8 * 1024 * 1024
_SATURATION, _LENGTH = 1.2, 0.75
# Tools that have nothing but a word that most have are not loaded beside good ones.
_LEAST_OF_BEST = 0.2
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Languages without spaces are compared by characters.
_WORD = re.compile(r"[぀-鿿가-힯]|[^\W_぀-鿿가-힯]+")
_LEAST_PLURAL = 4


class PatternError(Exception):
    """A pattern is none that can be searched for; the reason is for the model."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool. `text` is all that is said of it, its name first."""

    name: str
    text: str


def entries(tools: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Tools as what is searched: their names, descriptions, and the names and descriptions of their arguments."""
    most = max(_LEAST_TEXT, min(_MOST_TEXT, _MOST_OF_ALL // max(1, len(tools))))
    return [Entry(tool["name"], encodable("\n".join(_said(tool))[:most])) for tool in tools]


def _said(tool: Mapping[str, Any]) -> Iterator[str]:
    yield tool["name"]
    yield _text(tool.get("description"))[:_MOST_TEXT]
    schema = tool.get("input_schema")
    arguments = schema.get("properties") if isinstance(schema, Mapping) else None
    for name, argument in (arguments if isinstance(arguments, Mapping) else {}).items():
        about = _text(argument.get("description")) if isinstance(argument, Mapping) else ""
        yield f"{name} {about[:_MOST_TEXT]}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def ranked(query: str, found: Sequence[Entry]) -> list[str]:
    """The names of the tools that have words of a query, best first."""
    asked = set(_words(query))
    texts = [_words(entry.text) for entry in found]
    mean = sum(map(len, texts)) / max(1, len(texts)) or 1.0
    counts = [Counter(word for word in text if word in asked) for text in texts]
    having = Counter(word for count in counts for word in count)
    weights = {word: log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for word, n in having.items()}
    scores = [
        sum(weights[word] * _saturated(n, len(text) / mean) for word, n in count.items())
        for count, text in zip(counts, texts, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda index: -scores[index])
    least = max(scores, default=0.0) * _LEAST_OF_BEST
    return [found[index].name for index in order if scores[index] > 0 and scores[index] >= least]


def _saturated(count: int, length: float) -> float:
    return count * (_SATURATION + 1) / (count + _SATURATION * (1 - _LENGTH + _LENGTH * length))


def _words(text: str) -> list[str]:
    """The words of a text in small letters, names in pieces, without the s of a plural."""
    return [_singular(word.lower()) for word in _WORD.findall(_HUMP.sub(" ", text))]


def _singular(word: str) -> str:
    return word[:-1] if len(word) >= _LEAST_PLURAL and word.endswith("s") and not word.endswith("ss") else word


def matching(pattern: str, found: Sequence[Entry]) -> list[str]:
    """The names of the tools in which a pattern is found, those first whose name has it.

    Raises:
        PatternError: It is no regular expression, or one with look-around or back-references.
    """
    import re2  # some megabytes that only these searches need

    options = re2.Options()
    options.log_errors, options.max_mem = False, _MOST_MEMORY
    try:
        compiled = re2.compile(encodable(pattern), options=options)
    except re2.error as exc:
        raise PatternError(f"Not a regular expression that can be searched for: {_reason(exc)}") from None
    hits = [entry for entry in found if compiled.search(entry.text)]
    return [entry.name for entry in sorted(hits, key=lambda entry: compiled.search(encodable(entry.name)) is None)]


def _reason(exc: Exception) -> str:
    reason = exc.args[0] if exc.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
