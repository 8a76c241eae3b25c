"""An upstream's refusal, read once: what it is about, which parameter, which limit.

What says it in fields of its own counts most (`param` with `code`, FastAPI's places); then the engines' rows of words;
then the words that many share.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llama_stack_messages_provider.adaptation.error_bodies import LONGEST, error_object, message_of, pydantic_errors
from llama_stack_messages_provider.engines import ENGINES, Engine, Kind, Words

__all__ = ["Refusal", "read_refusal"]

# Statuses that say something else than what the text says.
_BY_STATUS = {401: Kind.CREDENTIALS, 402: Kind.CREDENTIALS, 403: Kind.CREDENTIALS, 408: Kind.RATE, 429: Kind.RATE}
_UNKNOWN_CODES = frozenset({"unsupported_parameter", "unknown_parameter"})
_OVERFLOW_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# Whose fields may be named by a path; of others a path means something that stands in them.
_HOLDERS = frozenset({"messages", "stream_options"})
_INSTEAD = re.compile(r"\buse ['\"`]?(max_completion_tokens|max_tokens)['\"`]? instead", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_PARTS = re.compile(r"[.\[\]]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
# A number that no window and no limit reaches.
_LONGEST_NUMBER = 12


@dataclass(frozen=True, slots=True)
class Refusal:
    """What an upstream refused.

    Args:
        kind: What it is about.
        words: The upstream's text.
        parameter: The parameter, or the field of a message.
        values: The text that lists the values that are taken.
        instead: The name that is to be used instead.
        used: The prompt's length in tokens.
        at_least: Whether `used` is a lower bound.
        limit: The window, or the most output, in tokens.
        asked: The output that was asked for, in tokens.
        engine: Whose words it were.
    """

    kind: Kind
    words: str
    parameter: str | None = None
    values: str = ""
    instead: str | None = None
    used: int | None = None
    at_least: bool = False
    limit: int | None = None
    asked: int | None = None
    engine: Engine | None = None


def read_refusal(status: int, body: Any) -> Refusal:
    """What an error answer refuses.

    Args:
        status: The HTTP status; 0 where there is none.
        body: Its parsed JSON, or its text.
    """
    words = _THOUSANDS.sub("", message_of(body))
    if (kind := _BY_STATUS.get(status)) is not None:
        return Refusal(kind, words)
    refusal = _of_fields(body, words) or _of_rows(words)
    if refusal.kind is Kind.UNKNOWN and _says_overflow(error_object(body)):
        refusal = replace(refusal, kind=Kind.PROMPT_TOO_LONG)
    if refusal.kind in (Kind.PROMPT_TOO_LONG, Kind.ROOM):
        refusal = _of_lengths(_with_numbers(refusal, error_object(body)))
    if refusal.kind is Kind.PROMPT_TOO_LONG and status == 404:  # names a model, or a page
        return Refusal(Kind.UNKNOWN, words)
    return refusal


def _of_fields(body: Any, words: str) -> Refusal | None:
    """What the fields beside the text say."""
    error = error_object(body)
    param, code = error.get("param"), error.get("code")
    if isinstance(param, str) and isinstance(code, str) and code in _UNKNOWN_CODES:
        return _unknown(param, words)
    for complaint, place in pydantic_errors(body):
        if complaint == "extra_forbidden" and place[-1:] != ("strict",):
            return _unknown(".".join(map(str, place)), words)
    return None


def _unknown(path: str, words: str) -> Refusal:
    instead = _INSTEAD.search(words)
    return Refusal(
        Kind.PARAMETER_UNKNOWN, words, parameter=_name(path), instead=instead[1].lower() if instead else None
    )


def _of_rows(words: str) -> Refusal:
    text = words[: 2 * LONGEST]
    for engine, row in ENGINES.words():
        if found := row.compiled.search(text):
            return _found(engine, row, found, words)
    return Refusal(Kind.UNKNOWN, words)


def _found(engine: Engine, row: Words, found: re.Match[str], words: str) -> Refusal:
    groups = {name: text for name, text in found.groupdict().items() if text is not None}
    number = {name: int(text[:_LONGEST_NUMBER]) for name, text in groups.items() if text.isdecimal()}
    asked = number.get("asked")
    used = number.get("used", number.get("least"))
    if used is None and "total" in number:
        used = number["total"] - (asked or 0)
    if row.kind is Kind.PARAMETER_UNKNOWN:
        known = _unknown(row.parameter or groups.get("parameter") or groups.get("bare", ""), words)
        return replace(known, engine=engine)
    return Refusal(
        row.kind,
        words,
        parameter=_name(row.parameter or groups.get("parameter") or groups.get("bare") or "") or None,
        values=groups.get("values", ""),
        used=used,
        at_least="least" in number,
        limit=number.get("limit", number["below"] - 1 if "below" in number else None),
        asked=asked,
        engine=engine,
    )


def _name(path: str) -> str:
    """The parameter that a path names: itself, or the last part of a path into messages."""
    parts = [part for part in _PARTS.split(path) if part and not part.isdigit()]
    if len(parts) > 1 and parts[0] not in _HOLDERS:
        return path
    return _CAMEL.sub("_", parts[-1]).lower() if parts else path  # some servers write reasoningEffort


def _says_overflow(error: Mapping[str, Any]) -> bool:
    return any(isinstance(said := error.get(name), str) and said in _OVERFLOW_CODES for name in ("code", "type"))


def _with_numbers(refusal: Refusal, error: Mapping[str, Any]) -> Refusal:
    # llama.cpp's
    used, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
    if type(used) is int and type(limit) is int:
        return replace(refusal, used=used, limit=limit)
    return refusal


def _of_lengths(refusal: Refusal) -> Refusal:
    """Too long a prompt and too long an output are told by their numbers, whichever the words speak of."""
    if refusal.used is None or refusal.limit is None:
        return refusal
    # A prompt that fills the window leaves no room for an answer.
    kind = Kind.ROOM if refusal.used < refusal.limit else Kind.PROMPT_TOO_LONG
    return replace(refusal, kind=kind)
