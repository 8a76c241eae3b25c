"""A whole chat completion as a chunk of a stream, and the other way round: upstreams that answer in the other shape."""

from collections.abc import Iterable
from typing import Any

__all__ = ["chunks_as_completion", "completion_as_chunk"]

type Json = dict[str, Any]


def completion_as_chunk(completion: Json) -> Json:
    """The only chunk of a stream that says what a whole completion does."""
    choices = [{**choice, "delta": _with_indexes(choice.get("message") or {})} for choice in completion["choices"]]
    return {**completion, "choices": choices}


def _with_indexes(message: Json) -> Json:
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]}


def chunks_as_completion(chunks: Iterable[Json]) -> Json:
    """The completion that a stream's chunks make: its first choice."""
    completion: Json = {"choices": []}
    message, ends, end = _Message(), False, None
    for chunk in chunks:
        completion |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for choice in chunk.get("choices") or []:
            if choice.get("index", 0) == 0:
                message.add(choice.get("delta") or {})
                end, ends = choice.get("finish_reason") or end, True
    if ends:
        completion["choices"] = [{"index": 0, "message": message.whole(), "finish_reason": end}]
    return completion


class _Message:
    """A message that grows by deltas: texts are joined, calls by their index, of all else the last holds."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._others: Json = {}
        self._calls: dict[Any, _Message] = {}

    def add(self, delta: Json) -> None:
        for name, value in delta.items():
            if name == "tool_calls":
                for position, call in enumerate(value or []):
                    self._calls.setdefault(call.get("index", position), _Message()).add(call)
            elif name == "function":
                self._calls.setdefault(name, _Message()).add(value)
            elif isinstance(value, str) and name not in ("role", "id", "type", "name"):
                self._texts.setdefault(name, []).append(value)
            elif value is not None:
                self._others[name] = value

    def whole(self) -> Json:
        whole = {**self._others, **{name: "".join(parts) for name, parts in self._texts.items()}}
        if function := self._calls.pop("function", None):
            whole["function"] = function.whole()
        if self._calls:
            whole["tool_calls"] = [call.whole() for call in self._calls.values()]
        return whole
