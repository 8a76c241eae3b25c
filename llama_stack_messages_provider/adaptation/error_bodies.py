"""The text and the codes of an error body, in any of the shapes that servers use; all of bounded length."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

__all__ = ["LONGEST", "error_object", "is_envelope", "message_of", "pydantic_errors"]

LONGEST = 2000
"""Characters of an upstream's text that are read, matched and handed on."""
# A page is read further, for what it says stands behind its head.
_LONGEST_PAGE = 8000
# Bodies within bodies, as gateways pack them.
_DEEPEST = 6


def message_of(body: Any, depth: int = 0) -> str:
    """The text of an error body."""
    if isinstance(body, bytes):
        body = body[: 4 * _LONGEST_PAGE].decode(errors="replace")
    if isinstance(body, str):
        return _readable(body[:_LONGEST_PAGE].strip())[:LONGEST]
    if depth > _DEEPEST:
        return ""
    if isinstance(body, Mapping):
        texts = (message_of(body.get(key), depth + 1) for key in ("error", "message", "detail"))
        return (next(filter(None, texts), "") + _raw(body))[: 2 * LONGEST]
    if isinstance(body, list):
        return "; ".join(filter(None, (_detail(item, depth + 1) for item in body[:20])))[:LONGEST]
    return ""


def error_object(body: Any) -> Mapping[str, Any]:
    """The object that says what is wrong: `error`, or the body itself as older vLLM and Mistral have it."""
    if isinstance(body, list) and body:  # Gemini's
        body = body[0]
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, Mapping):
        return error
    return body if isinstance(body, Mapping) else {}


def pydantic_errors(body: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Type and place of each of FastAPI's complaints."""
    said: Any = error_object(body)
    for name in ("message", "detail"):
        if isinstance(said, Mapping):
            said = said.get(name, said)
    for item in said[:20] if isinstance(said, list) else ():
        if isinstance(item, Mapping) and isinstance(loc := item.get("loc"), list | tuple):
            yield str(item.get("type")), tuple(part for part in loc[:20] if part != "body")


def is_envelope(body: Any, error: Any) -> bool:
    """Whether a body, and the `error` in it, are Anthropic's error envelope."""
    return isinstance(error, dict) and body.get("type") == "error" and isinstance(error.get("message"), str)


def _readable(text: str) -> str:
    if text.startswith("<400>"):  # Model Studio's
        return text[5:].strip()
    if not text.startswith("<"):
        return text
    return " ".join((_title(text) or _without_tags(text)).split())


def _title(page: str) -> str:
    lower = page.lower()
    start = lower.find(">", lower.find("<title")) if "<title" in lower else -1
    end = lower.find("</title", start)
    return page[start + 1 : end] if 0 <= start < end else ""


def _without_tags(page: str) -> str:
    pieces = page.split("<")
    return " ".join(piece.partition(">")[2] if ">" in piece else piece for piece in pieces)


def _raw(error: Mapping[str, Any]) -> str:
    # OpenRouter says "Provider returned error" and puts the provider's own words beside it, which may be JSON.
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if not isinstance(raw, str):
        return ""
    return f": {_of_json(raw) or raw[:LONGEST]}"


def _of_json(text: str) -> str:
    if not text.startswith("{") or len(text) > _LONGEST_PAGE:
        return ""
    try:
        return message_of(orjson.loads(text), 1)
    except orjson.JSONDecodeError:
        return ""


def _detail(item: Any, depth: int) -> str:
    if isinstance(item, Mapping) and "msg" in item:
        loc = item.get("loc")
        where = ".".join(str(part) for part in loc[:20] if part != "body") if isinstance(loc, list | tuple) else ""
        return f"{where}: {item['msg']}"[:LONGEST] if where else str(item["msg"])[:LONGEST]
    return message_of(item, depth)
