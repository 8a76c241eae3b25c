"""The model's reasoning as upstreams tell it, and as they want it back."""

from collections.abc import Mapping
from typing import Any

__all__ = ["ReasoningDetails", "reasoning_of", "text_of"]

# Fields of an item of `reasoning_details` that come in pieces: https://openrouter.ai/docs (reasoning tokens).
_IN_PIECES = ("text", "summary", "data")


class ReasoningDetails:
    """The `reasoning_details` of an answer, which OpenRouter and its like want back unchanged with the next turn."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []
        self._pieces: list[dict[str, list[str]]] = []

    def add(self, delta: Mapping[str, Any]) -> None:
        """Take those of a delta or of a message: pieces of one item have its index and type."""
        given = delta.get("reasoning_details")
        for item in given if isinstance(given, list) else ():
            if isinstance(item, Mapping):
                self._add(item)

    def _add(self, item: Mapping[str, Any]) -> None:
        last = self._items[-1] if self._items else None
        if last is None or item.get("index") is None or any(last.get(k) != item.get(k) for k in ("index", "type")):
            self._items.append({})
            self._pieces.append({})
        for name, value in item.items():
            if name in _IN_PIECES and isinstance(value, str):
                self._items[-1].setdefault(name, "")
                self._pieces[-1].setdefault(name, []).append(value)
            elif value is not None or name not in self._items[-1]:
                self._items[-1][name] = value

    def take(self) -> list[dict[str, Any]]:
        """The items so far, once."""
        joined = ({name: "".join(texts) for name, texts in pieces.items()} for pieces in self._pieces)
        items = [item | texts for item, texts in zip(self._items, joined, strict=True)]
        self._items, self._pieces = [], []
        return items


def reasoning_of(delta: Mapping[str, Any]) -> str:
    """The reasoning text of a delta or message: `reasoning_content` (DeepSeek's name, most servers) or `reasoning`, or
    the `thinking` parts of Mistral's content.
    """
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := delta.get(key), str) and text:
            return text
    parts = content if isinstance(content := delta.get("content"), list) else ()
    return "".join(_joined(part.get("thinking")) for part in parts if isinstance(part, Mapping))


def text_of(delta: Mapping[str, Any]) -> str:
    """The text of a delta or message: its content, or the `text` parts of Mistral's."""
    return _joined(delta.get("content"))


def _joined(content: Any) -> str:
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in content if isinstance(part, Mapping)) if isinstance(content, list) else ()
    return "".join(text for text in texts if isinstance(text, str))
