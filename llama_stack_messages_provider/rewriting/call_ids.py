"""Ids of tool calls that carry what an upstream wants back with the call.

Some engines have ids of a form that Anthropic's API does not take (Kimi's `functions.NAME:0`), or give each call
something that they want to see again (Gemini's `thought_signature`). Clients bring ids back as they got them, so these
carry it: an id of our own, a mark, and base64. It is not secret and not signed: a client can only spoil its own call.

```
toolu_<message>_<n>_lsi1_<base64url of zlib of {"id": ..., "extra": {...}, "model": <digest>}>
```
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

__all__ = ["MARK", "UpstreamCall", "carries_extra", "decode_call_id", "encode_call_id", "is_plain_id", "plain_call_id"]

MARK = "_lsi1_"
"""What stands between our own id and what it carries; a later version has another one."""

# Anthropic's own pattern for tool_use ids: what does not match could not be sent to Anthropic in a later turn.
_TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]+")
# Fields of a call that are wanted back: Gemini's own, and LiteLLM's in front of it.
_EXTRA = ("extra_content", "provider_specific_fields")
# What an id carries at the most, in bytes of JSON: thought signatures of long thoughts have tens of kilobytes.
_MAX_CARRIED = 65_536


class UpstreamCall(NamedTuple):
    """What the upstream calls a call, and what it wants back with it."""

    id: str
    extra: dict[str, Any]


def is_plain_id(upstream_id: str) -> bool:
    """Whether an upstream's id can be told to a client as it is."""
    return _TOOL_USE_ID.fullmatch(upstream_id) is not None and MARK not in upstream_id


def carries_extra(call: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an upstream's call that it wants back."""
    return {name: call[name] for name in _EXTRA if isinstance(call.get(name), Mapping) and call[name]}


def encode_call_id(own_id: str, upstream_id: str | None, extra: Mapping[str, Any], model: str) -> str:
    """An id that carries what the upstream wants back; the plain one if that is too much."""
    carried = {"id": upstream_id, "extra": dict(extra), "model": _digest(model)}
    try:
        data = orjson.dumps({name: value for name, value in carried.items() if value})
    except TypeError:  # a number or a text that JSON cannot carry
        return own_id
    if len(data) > _MAX_CARRIED:
        return own_id
    return f"{own_id}{MARK}{base64.urlsafe_b64encode(zlib.compress(data)).decode().rstrip('=')}"


def decode_call_id(client_id: str, model: str) -> UpstreamCall:
    """What an id of a request stands for: itself, if it was not made here.

    Args:
        client_id: The `id` of a `tool_use`, or the `tool_use_id` of its result.
        model: The model that is asked; another one gets a plain id.
    """
    _, mark, code = client_id.partition(MARK)
    carried = _carried(code) if mark else None
    if carried is None:
        return UpstreamCall(client_id, {})
    if carried.get("model") != _digest(model):
        return UpstreamCall(plain_call_id(client_id), {})
    upstream_id, extra = carried.get("id"), carried.get("extra")
    if not isinstance(upstream_id, str) or not upstream_id:
        upstream_id = plain_call_id(client_id)
    return UpstreamCall(upstream_id, carries_extra(extra) if isinstance(extra, dict) else {})


def plain_call_id(client_id: str) -> str:
    """The id without what it carries: for Anthropic itself, and for models that it is not meant for."""
    own_id, mark, _ = client_id.partition(MARK)
    return own_id if mark and own_id else client_id


def _carried(code: str) -> dict[str, Any] | None:
    try:
        data = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
        reader = zlib.decompressobj()
        value = orjson.loads(reader.decompress(data, _MAX_CARRIED))
    except (ValueError, zlib.error):
        return None
    return value if isinstance(value, dict) else None


def _digest(model: str) -> str:
    return hashlib.sha256(model.encode(errors="replace")).hexdigest()[:8]
