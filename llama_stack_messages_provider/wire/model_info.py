"""Models as Anthropic's `GET /v1/models` tells them.

Source: https://platform.claude.com/docs/en/api/models/list and the `anthropic` SDK's `ModelInfo`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.wire.base import JsonObject

__all__ = ["capabilities", "model_info", "model_page"]

_UNKNOWN_DATE = "1970-01-01T00:00:00Z"
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_THINKING = ("adaptive", "between_tools", "disabled", "enabled")
_EDITS = ("clear_thinking_20251015", "clear_tool_uses_20250919", "compact_20260112")


def model_info(
    ident: str,
    display_name: str,
    *,
    max_input_tokens: int | None,
    max_tokens: int | None,
    capabilities: Mapping[str, Any],
) -> JsonObject:
    """A model.

    Args:
        ident: The name that requests use.
        display_name: The name that people read.
        max_input_tokens: Its window, where that is known.
        max_tokens: The most output that can be asked for, where that is known.
        capabilities: What it can be asked for.
    """
    return {
        "type": "model",
        "id": ident,
        "display_name": display_name,
        "created_at": _UNKNOWN_DATE,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": max_input_tokens,
        "max_tokens": max_tokens,
        "capabilities": capabilities,
    }


def capabilities(
    *, batch: bool, efforts: Sequence[str], images: bool, schemas: bool, thinks: bool, searches: bool
) -> JsonObject:
    """What a model can be asked for; nothing here cites or runs code, and contexts are edited for every model.

    Args:
        batch: Batches are served.
        efforts: The efforts that are told apart.
        images: Its engine takes images.
        schemas: Its engine keeps to a schema.
        thinks: Its engine can be told to think.
        searches: The web can be searched for it.
    """
    return {
        "batch": _said(batch),
        "citations": _said(False),
        "code_execution": _said(False),
        "compaction": {**_said(True), "summarize": _said(True)},
        "context_management": {**_said(True), **{name: _said(True) for name in _EDITS}},
        "effort": {**_said(bool(efforts)), **{name: _said(name in efforts) for name in _EFFORTS}},
        "image_input": _said(images),
        "pdf_input": _said(True),
        "server_tools": {**_said(searches), "code_execution": _said(False), "web_search": _said(searches)},
        "structured_outputs": _said(schemas),
        # None of them is ever refused.
        "thinking": {**_said(thinks), "types": {name: _said(True) for name in _THINKING}},
    }


def _said(supported: bool) -> JsonObject:
    return {"supported": supported}


def model_page(data: Sequence[JsonObject], *, has_more: bool) -> JsonObject:
    """A page of models."""
    ends = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": list(data), "has_more": has_more, "first_id": ends[0], "last_id": ends[1]}
