"""Tool calls as upstreams send them: fragments keyed by index, by id, or by neither.

Quirks that are met here, each a fixture under `tests/fixtures/chunks`: two calls that share an index, a call without
an id, a name in two pieces or repeated with each fragment, `arguments` that are null, calls that interleave.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import jiter

__all__ = ["Call", "ToolCallAccumulator", "parse_arguments"]

# Anthropic's own pattern for tool_use ids: what does not match could not be sent to Anthropic in a later turn.
_TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]+")


class Call:
    """One upstream tool call: its id and name, and the `arguments` that were received but not yet sent on. `own_id` is
    one that no other call of its message has, whatever the upstream says.
    """

    __slots__ = ("_arguments", "buffered", "given_id", "id", "name", "own_id", "started")

    def __init__(self, call_id: str, given_id: str | None, own_id: str) -> None:
        self.id = call_id
        self.own_id = own_id
        self.given_id = given_id
        self.name = ""
        self.buffered = ""
        self.started = False
        self._arguments: list[str] = []

    @property
    def is_whole(self) -> bool:
        """Whether the arguments so far are a complete JSON text, or nothing."""
        arguments = "".join(self._arguments)
        try:
            json.loads(arguments or "{}")
        except ValueError:
            return False
        return True

    def add(self, name: str | None, arguments: Any) -> None:
        """Take a fragment. A name is taken in pieces until the first argument, and once only if it is repeated."""
        if name and not self.started and not self.buffered and name != self.name:
            self.name += name
        if isinstance(arguments, Mapping):  # whole and already parsed, against the API's word
            arguments = _dump(arguments)
        # "null" in one piece is how some upstreams spell "no arguments".
        if isinstance(arguments, str) and (self.buffered or self.started or arguments.strip() != "null"):
            self.buffered += arguments
            self._arguments.append(arguments)

    def take(self) -> str:
        """What is buffered, once."""
        buffered, self.buffered = self.buffered, ""
        return buffered


class ToolCallAccumulator:
    """All calls of a message, in order of appearance; finds the one that a fragment belongs to.

    Args:
        id_prefix: Beginning of the ids made for calls that come without a usable one.
    """

    def __init__(self, id_prefix: str) -> None:
        self._id_prefix = id_prefix
        self._by_index: dict[int, Call] = {}
        self._last: Call | None = None
        self.calls: list[Call] = []

    def __bool__(self) -> bool:
        return bool(self.calls)

    @property
    def are_whole(self) -> bool:
        """Whether the arguments of all calls are complete."""
        return all(call.is_whole for call in self.calls)

    def add(self, fragment: Mapping[str, Any]) -> Call:
        """Record a fragment (an item of `delta.tool_calls`) and return its call."""
        function = fragment.get("function") or {}
        call = self._find(fragment, function.get("name"))
        call.add(function.get("name"), function.get("arguments"))
        self._last = call
        return call

    def _find(self, fragment: Mapping[str, Any], name: str | None) -> Call:
        index, given_id = fragment.get("index"), str(fragment.get("id") or "") or None
        call = self._by_index.get(index) if isinstance(index, int) else self._unindexed(given_id, name)
        if call is None and name and isinstance(index, int):
            call = self._open(given_id)
        elif call is None or (given_id and call.given_id and call.given_id != given_id):
            # An earlier call of that id that lost its index to another one is still the same call.
            call = self._by_given_id(given_id) or self._open(given_id)
        elif given_id and call.given_id is None:
            call.given_id = given_id
            if not call.started:
                call.id = self._usable(given_id)
        if isinstance(index, int):
            self._by_index[index] = call
        return call

    def _unindexed(self, given_id: str | None, name: str | None) -> Call | None:
        if given_id:
            return self._by_given_id(given_id)
        return None if name else self._last

    def _by_given_id(self, given_id: str | None) -> Call | None:
        return next((c for c in self.calls if given_id and c.given_id == given_id), None)

    def _open(self, given_id: str | None) -> Call:
        call = Call(self._usable(given_id), given_id, self._own_id())
        self.calls.append(call)
        return call

    def _usable(self, given_id: str | None) -> str:
        if given_id and _TOOL_USE_ID.fullmatch(given_id) and all(c.id != given_id for c in self.calls):
            return given_id
        return self._own_id()

    def _own_id(self) -> str:
        return f"{self._id_prefix}{len(self.calls)}"


def parse_arguments(arguments: str) -> dict[str, Any]:
    """The `input` of a call: an object always; of JSON that was cut off, the part that came.

    The SDK reads streamed arguments the same way, so that both forms of an answer agree.
    """
    if not arguments.strip():
        return {}
    try:
        value = jiter.from_json(arguments.encode(), partial_mode=True)
    except ValueError:
        return {"_unparsed": arguments}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"_unparsed": arguments}


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
