"""Tool calls as upstreams send them: fragments keyed by index, by id, by name, or by nothing.

| the fragment has | and the call at its index is | it belongs to |
| --- | --- | --- |
| an id that is known | any | the call of that id; a new index with a name begins a call all the same |
| another id and a name | another's | a new call |
| another id, no name | not complete | the call at the index: ids change within a call |
| no id | there | the call at the index |
| no id, no name | none | the last call, unless its arguments are complete |
| a name, no id and no index | - | a new call; the last one if it has that name and its arguments are not complete |
| anything, after complete arguments | - | a new call, of the same name if it brings none |

Other quirks that are met here, each a fixture under `tests/fixtures/chunks`: a name in two pieces or repeated with each
fragment, `arguments` that are null, parsed already, encoded twice, or two objects in one string.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.rewriting.call_ids import carries_extra, encode_call_id, is_plain_id
from llama_stack_messages_provider.translation.text import join_halves, mended

__all__ = ["Call", "ToolCallAccumulator", "parse_arguments"]

_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')


class _JsonScanner:
    """Finds the end of a JSON object or string that comes in pieces."""

    __slots__ = ("_depth", "_escaped", "_quoted", "complete", "first")

    def __init__(self) -> None:
        self.first = ""
        self.complete = False
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def feed(self, text: str) -> int:
        """Take a piece; the place in it where the value ends, or its length."""
        place = 0
        if not self.first:
            stripped = text.lstrip()
            self.first, place = stripped[:1], len(text) - len(stripped)
        if self.first not in ("{", '"'):  # nothing, or no value that could be an object
            return len(text)
        if self._escaped and place < len(text):
            self._escaped, place = False, place + 1
        while not self.complete and (found := (_IN_STRING if self._quoted else _OUTSIDE).search(text, place)):
            place = self._step(found[0], found.end(), len(text))
        return min(place, len(text)) if self.complete else len(text)

    def _step(self, mark: str, place: int, end: int) -> int:
        if mark == "\\":
            self._escaped = place == end
            return place + 1
        if mark == '"':
            self._quoted = not self._quoted
        else:
            self._depth += 1 if mark in "{[" else -1
        self.complete = not self._quoted and self._depth <= 0
        return place


class Call:
    """One upstream tool call.

    Args:
        upstream_id: Its id as the upstream told it, if it did.
        fallback_id: An id that no other call of its message has, whatever the upstream says.

    Attributes:
        id: The id that the client is told; settled when the call is started.
        started: Whether the client has been told of the call.
        extra: What the upstream wants back with the call, such as Gemini's thought signature.
    """

    __slots__ = (
        "_half",
        "_pending",
        "_scanner",
        "_text",
        "extra",
        "fallback_id",
        "id",
        "name",
        "started",
        "upstream_id",
    )

    def __init__(self, upstream_id: str | None, fallback_id: str) -> None:
        self.id = self.fallback_id = fallback_id
        self.upstream_id = upstream_id
        self.name = ""
        self.started = False
        self.extra: dict[str, Any] = {}
        self._half = ""
        self._pending: list[str] = []
        self._text: list[str] = []
        self._scanner = _JsonScanner()

    @property
    def complete(self) -> bool:
        """Whether the arguments so far are a whole JSON object, after which no more of them can come."""
        return self._scanner.complete

    @property
    def begun(self) -> bool:
        """Whether any arguments have come."""
        return bool(self._text)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments so far are a complete JSON text, or nothing."""
        return self.complete or not self._text

    def add_name(self, name: str) -> None:
        """Take a name: in pieces until the first argument, and once only if it is repeated."""
        if not self.begun and name != self.name:
            self.name += name

    def add_arguments(self, arguments: Any) -> str:
        """Take arguments, and give back what belongs to another call: an object behind the whole one."""
        if isinstance(arguments, Mapping):  # whole and already parsed, against the API's word
            arguments = json.dumps(arguments, ensure_ascii=False)
        if not (isinstance(arguments, str) and arguments):
            return ""
        # "null" in one piece is how some upstreams spell "no arguments".
        if not self.begun and arguments.strip() == "null":
            return ""
        end = self._scanner.feed(arguments) if not self.complete else 0
        rest = arguments[end:] if self.complete and arguments[end:].lstrip()[:1] == "{" else ""
        taken = arguments[: len(arguments) - len(rest)]
        if taken:
            self._text.append(taken)
            self._pending.append(taken)
        return rest

    def repeats(self, arguments: Any) -> bool:
        """Whether arguments are all those that have come, once more."""
        return isinstance(arguments, str) and arguments == "".join(self._text)

    def drain(self, *, last: bool = True) -> str:
        """The arguments that have not been drained yet.

        Args:
            last: Whether no more will come. Until then, a string waits: it may be an object that was encoded twice.
        """
        if self._scanner.first == '"' and not (self.complete or last):
            return ""
        pending, self._pending = "".join(self._pending), []
        if self._half or not pending.isascii():
            pending, self._half = join_halves(self._half, pending)
            if last and self._half:
                pending, self._half = pending + mended(self._half), ""
        return _decoded_twice(pending) if self._scanner.first == '"' and pending else pending


class ToolCallAccumulator:
    """All calls of a message, in order of appearance; finds the one that a fragment belongs to.

    Args:
        id_prefix: Beginning of the ids made for calls that come without a usable one.
        model: The model that gets back what it wants back.
    """

    def __init__(self, id_prefix: str, model: str = "") -> None:
        self._id_prefix = id_prefix
        self._model = model
        self._by_index: dict[int, Call] = {}
        self._by_id: dict[str, Call] = {}
        self._ids: set[str] = set()
        self._last: Call | None = None
        self.calls: list[Call] = []

    def __bool__(self) -> bool:
        return any(call.name or call.begun for call in self.calls)

    @property
    def are_whole(self) -> bool:
        """Whether the arguments of all calls are complete."""
        return all(call.is_whole for call in self.calls)

    def add(self, fragment: Mapping[str, Any]) -> Call:
        """Record a fragment (an item of `delta.tool_calls`) and return its call."""
        function = fragment.get("function")
        function = function if isinstance(function, Mapping) else {}
        name, arguments = function.get("name"), function.get("arguments")
        name = name if isinstance(name, str) and name else None
        upstream_id = str(fragment.get("id") or "") or None
        index = fragment.get("index")
        call = self._find(index if isinstance(index, int) else None, upstream_id, name)
        if call.complete and self._begins_another(call, upstream_id, name, arguments):
            call = self._open(upstream_id if upstream_id != call.upstream_id else None, name or call.name)
        elif call.complete and upstream_id and call.repeats(arguments):
            arguments = None
        if isinstance(index, int):
            self._by_index[index] = call
        if extra := carries_extra(fragment):
            call.extra |= extra
        if name:
            call.add_name(name)
        while rest := call.add_arguments(arguments):
            call, arguments = self._open(None, call.name), rest
            if isinstance(index, int):
                self._by_index[index] = call
        self._last = call
        return call

    def start(self, call: Call) -> None:
        """Settle the id that the client is told.

        Raises:
            UpstreamError: Nobody said which tool is called.
        """
        if not call.name:
            raise UpstreamError("The upstream called a tool without naming it")
        call.started = True
        call.id = self._client_id(call)
        self._ids.add(call.id)

    def _find(self, index: int | None, upstream_id: str | None, name: str | None) -> Call:
        current = None if index is None else self._by_index.get(index)
        known = self._by_id.get(upstream_id) if upstream_id else None
        if index is not None and current is None and name:
            return self._open(upstream_id, "")
        if known is not None:
            return known
        if current is not None:
            return self._at_index(current, upstream_id, name)
        if upstream_id:
            return self._open(upstream_id, "")
        return self._without_id(name)

    def _at_index(self, current: Call, upstream_id: str | None, name: str | None) -> Call:
        if upstream_id is None:
            return current
        if current.upstream_id is not None and (name or current.complete):
            return self._open(upstream_id, "")
        self._by_id[upstream_id] = current
        if current.upstream_id is None and not current.complete:
            current.upstream_id = upstream_id
        return current

    def _without_id(self, name: str | None) -> Call:
        last = self._last
        if last is None or (name and not (name == last.name and last.begun and not last.complete)):
            return self._open(None, "")
        return last

    @staticmethod
    def _begins_another(call: Call, upstream_id: str | None, name: str | None, arguments: Any) -> bool:
        says_something = bool(arguments) and not (isinstance(arguments, str) and not arguments.strip())
        if upstream_id and upstream_id == call.upstream_id:
            return says_something and not call.repeats(arguments)
        return says_something or bool(name and name != call.name)

    def _open(self, upstream_id: str | None, name: str) -> Call:
        call = Call(upstream_id, f"{self._id_prefix}{len(self.calls)}")
        call.name = name
        self.calls.append(call)
        if upstream_id:
            self._by_id[upstream_id] = call
        return call

    def _client_id(self, call: Call) -> str:
        upstream_id = call.upstream_id
        if call.extra or (upstream_id and not is_plain_id(upstream_id)):
            return encode_call_id(call.fallback_id, upstream_id, call.extra, self._model)
        return upstream_id if upstream_id and upstream_id not in self._ids else call.fallback_id


def parse_arguments(arguments: str) -> dict[str, Any]:
    """The `input` of a call: an object always; of JSON that was cut off, the part that came.

    The SDK reads streamed arguments the same way, so that both forms of an answer agree.
    """
    import jiter  # half a megabyte that the native route has no use for

    if not arguments.strip():
        return {}
    try:
        value = jiter.from_json(arguments.encode(errors="replace"), partial_mode=True)
    except ValueError:
        return {"_unparsed": arguments}
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"_unparsed": arguments}


def _decoded_twice(arguments: str) -> str:
    """The object in a string of JSON; the arguments as they are if there is none."""
    try:
        inner = json.loads(arguments)
        return inner if isinstance(inner, str) and isinstance(json.loads(inner), dict) else arguments
    except (ValueError, RecursionError):
        return arguments
