"""What is changed in a request that is passed through, and why; everything else travels as it came."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.translate.attribution import MARK, without_attribution
from llama_stack_messages_provider.translate.gaps import BLIND_TO_ERRORS, Engine, features_of
from llama_stack_messages_provider.translate.signatures import is_ours

__all__ = ["native_body", "with_model"]

_MODEL = re.compile(rb'"model"\s*:\s*"((?:[^"\\]|\\.)*)"')
_MARK = MARK.encode()


def native_body(
    raw: bytes, request: Mapping[str, Any], *, model: str, engine: Engine, error_marker: str
) -> bytes:
    """The body for a native upstream: the client's bytes with the model's name exchanged.

    Rewritten, and then serialised anew, only where the engine needs it: the attribution line of Claude Code, thinking
    signed here on its way to Anthropic, and `is_error`, which the other engines do not show to their models.
    """
    changed = _rewritten(raw, request, engine, error_marker)
    if changed is None:
        return with_model(raw, request, model)
    return orjson.dumps({**changed, "model": model})


def with_model(raw: bytes, request: Mapping[str, Any], model: str) -> bytes:
    """The bytes of a JSON object with its top-level `model` exchanged."""
    if request.get("model") == model:
        return raw
    found = list(_MODEL.finditer(raw))
    # One occurrence can only be the top-level one: inside a string the quotes would be escaped.
    if len(found) == 1 and raw.count(b'"model"') == 1:
        start, end = found[0].span(1)
        return raw[: start - 1] + orjson.dumps(model) + raw[end + 1 :]
    return orjson.dumps({**request, "model": model})


def _rewritten(
    raw: bytes, request: Mapping[str, Any], engine: Engine, error_marker: str
) -> dict[str, Any] | None:
    if engine == "anthropic":
        return _without_our_thinking(request) if b'"lsm1.' in raw else None
    changed: dict[str, Any] | None = None
    if _MARK in raw and (system := without_attribution(request.get("system"))) is not request.get("system"):
        changed = {**request, "system": system}
    if engine in BLIND_TO_ERRORS and b'"is_error"' in raw and "is_error" in features_of(request):
        changed = {**(changed or request), "messages": [_marked(m, error_marker) for m in request["messages"]]}
    return changed


def _without_our_thinking(request: Mapping[str, Any]) -> dict[str, Any]:
    return {**request, "messages": [_foreign_only(m) for m in request["messages"]]}


def _foreign_only(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(message["content"], list):
        return message
    kept = [b for b in message["content"] if not (b["type"] == "thinking" and is_ours(b.get("signature")))]
    return {**message, "content": kept}


def _marked(message: Mapping[str, Any], marker: str) -> Mapping[str, Any]:
    if not isinstance(message["content"], list):
        return message
    return {**message, "content": [_marked_result(b, marker) for b in message["content"]]}


def _marked_result(block: Mapping[str, Any], marker: str) -> Mapping[str, Any]:
    if block["type"] != "tool_result" or not block.get("is_error"):
        return block
    content = block.get("content") or ""
    if isinstance(content, str):
        return {**block, "content": marker + content}
    return {**block, "content": [{"type": "text", "text": marker.rstrip()}, *content]}
