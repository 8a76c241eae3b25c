"""The edits that `context_management` asks for, read from a request.

Sources: the SDK's `BetaContextManagementConfigParam`;
https://platform.claude.com/docs/en/build-with-claude/context-editing, which has the defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from llama_stack_messages_provider.errors import InvalidRequestError

__all__ = [
    "FIELD",
    "ClearThinking",
    "ClearToolUses",
    "Compact",
    "ContextEdits",
    "changes_nothing",
    "compaction_of",
    "edits_of",
]

FIELD = "context_management"

_CLEAR_TOOL_USES, _CLEAR_THINKING = "clear_tool_uses_20250919", "clear_thinking_20251015"
_KEEP_ALL = ("all", {"type": "all"})
_TRIGGER_TOKENS = 100_000
_KEEP_TOOL_USES = 3
_MOST_EDITS = 64


@dataclass(frozen=True, slots=True)
class ClearThinking:
    """Older turns lose their thinking.

    Args:
        keep: The turns with thinking that keep it, from the last one; None if all do.
    """

    keep: int | None


@dataclass(frozen=True, slots=True)
class ClearToolUses:
    """Older tool uses lose their results.

    Args:
        unit: What the trigger counts.
        trigger: How many of them there may be.
        keep: The last tool uses, which stay.
        at_least: Tokens that a step must clear.
        inputs: Whether the inputs of calls are cleared as well; of which tools.
        excluded: Tools whose uses stay.
    """

    unit: Literal["input_tokens", "tool_uses"] = "input_tokens"
    trigger: int = _TRIGGER_TOKENS
    keep: int = _KEEP_TOOL_USES
    at_least: int = 0
    inputs: bool | frozenset[str] = False
    excluded: frozenset[str] = frozenset()

    def clears_input(self, tool: str) -> bool:
        """Whether the inputs of a tool's calls are cleared."""
        return self.inputs if isinstance(self.inputs, bool) else tool in self.inputs


@dataclass(frozen=True, slots=True)
class Compact:
    """The conversation is summarised.

    Args:
        trigger: Tokens of the prompt from which on it is; None if nothing is said.
        instructions: The client's words about the summary.
        replaces_prompt: Whether these are the whole prompt.
        pauses: Whether the message ends with the summary.
        always: Whether it is whatever the prompt has.
    """

    TYPE: ClassVar[str] = "compact_20260112"
    trigger: int | None = None
    instructions: str | None = None
    replaces_prompt: bool = False
    pauses: bool = False
    always: bool = False


@dataclass(frozen=True, slots=True)
class ContextEdits:
    """What is edited.

    Args:
        thinking: The edit of thinking, which comes first.
        tool_uses: The edits of tool uses, in their order.
        compact: The summary that is wanted; it is made above the routes.
        others: Paths and types of edits that are not made here.
    """

    thinking: ClearThinking | None = None
    compact: "Compact | None" = None
    tool_uses: tuple[ClearToolUses, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


def changes_nothing(request: Mapping[str, Any]) -> bool:
    """Whether a request asks for no edit, or for the one that Claude Code always asks for: to keep all thinking."""
    asked = request.get(FIELD)
    if not asked:
        return asked is None or asked == {}
    edits = asked.get("edits") if isinstance(asked, Mapping) else None
    return edits == [] or (
        isinstance(edits, list)
        and len(edits) == 1
        and isinstance(edits[0], Mapping)
        and edits[0].get("type") == _CLEAR_THINKING
        and edits[0].get("keep") in _KEEP_ALL
    )


def edits_of(request: Mapping[str, Any]) -> ContextEdits:
    """The edits that a request asks for.

    Raises:
        InvalidRequestError: They are not of the documented shape.
    """
    asked = request.get(FIELD)
    if asked is None:
        return ContextEdits()
    edits = _object(asked, FIELD).get("edits")
    if edits is None:
        return ContextEdits()
    if not isinstance(edits, list):
        raise InvalidRequestError(f"{FIELD}.edits: Input should be a valid list")
    if len(edits) > _MOST_EDITS:
        raise InvalidRequestError(f"{FIELD}.edits: List should have at most {_MOST_EDITS} items")
    thinking, compact, tool_uses, others = None, None, [], []
    for index, edit in enumerate(edits):
        path = f"{FIELD}.edits.{index}"
        match kind := _object(edit, path).get("type"):
            case "clear_thinking_20251015":
                thinking = ClearThinking(_kept_thinking(edit.get("keep"), f"{path}.keep"))
            case "clear_tool_uses_20250919":
                tool_uses.append(_clear_tool_uses(edit, path))
            case Compact.TYPE:
                compact = _compact(edit, path)
            case str():
                others.append((path, kind))
            case _:
                raise InvalidRequestError(f"{path}.type: Input should be a valid string")
    return ContextEdits(thinking, compact, tuple(tool_uses), tuple(others))


def compaction_of(request: Mapping[str, Any]) -> Compact | None:
    """The summary that a request asks for, by its own parameter or as an edit of its context; raises as `edits_of`.

    Anthropic refuses both in one request; here the parameter goes first.
    """
    asked = request.get("compaction")
    if asked is None:
        return None if changes_nothing(request) else edits_of(request).compact
    if _object(asked, "compaction").get("type") != "summarize":
        raise InvalidRequestError("compaction.type: Input should be 'summarize'")
    instructions = _text(asked.get("instructions"), "compaction.instructions")
    return Compact(instructions=instructions, replaces_prompt=True, pauses=True, always=True)


def _compact(edit: Mapping[str, Any], path: str) -> Compact:
    trigger = None
    if (given := edit.get("trigger")) is not None:
        _, trigger = _amount(given, f"{path}.trigger", ("input_tokens",), least=1)
    pauses = edit.get("pause_after_compaction")
    if pauses is not None and not isinstance(pauses, bool):
        raise InvalidRequestError(f"{path}.pause_after_compaction: Input should be a valid boolean")
    return Compact(trigger, _text(edit.get("instructions"), f"{path}.instructions"), pauses=bool(pauses))


def _text(value: Any, path: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"{path}: Input should be a valid string")
    return (value or "").strip() or None


def _kept_thinking(keep: Any, path: str) -> int | None:
    if keep is None:
        return 1
    if keep in _KEEP_ALL:
        return None
    return _amount(keep, path, ("thinking_turns",), least=1)[1]


def _clear_tool_uses(edit: Mapping[str, Any], path: str) -> ClearToolUses:
    unit, trigger = "input_tokens", _TRIGGER_TOKENS
    if (given := edit.get("trigger")) is not None:
        unit, trigger = _amount(given, f"{path}.trigger", ("input_tokens", "tool_uses"), least=1)
    keep, at_least = _KEEP_TOOL_USES, 0
    if (given := edit.get("keep")) is not None:
        _, keep = _amount(given, f"{path}.keep", ("tool_uses",))
    if (given := edit.get("clear_at_least")) is not None:
        _, at_least = _amount(given, f"{path}.clear_at_least", ("input_tokens",))
    inputs = edit.get("clear_tool_inputs")
    return ClearToolUses(
        "tool_uses" if unit == "tool_uses" else "input_tokens",
        trigger,
        keep,
        at_least,
        inputs if isinstance(inputs, bool) else _names(inputs, f"{path}.clear_tool_inputs"),
        _names(edit.get("exclude_tools"), f"{path}.exclude_tools"),
    )


def _amount(value: Any, path: str, types: tuple[str, ...], least: int = 0) -> tuple[str, int]:
    """The type and the value of `{type, value}`."""
    kind, number = _object(value, path).get("type"), value.get("value")
    if kind not in types:
        raise InvalidRequestError(f"{path}.type: Input should be {' or '.join(map(repr, types))}")
    if type(number) is not int:
        raise InvalidRequestError(f"{path}.value: Input should be a valid integer")
    if number < least:
        raise InvalidRequestError(f"{path}.value: Input should be greater than or equal to {least}")
    return str(kind), number


def _names(value: Any, path: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    if not isinstance(value, list):
        raise InvalidRequestError(f"{path}: Input should be a valid list")
    for index, name in enumerate(value):
        if not isinstance(name, str):
            raise InvalidRequestError(f"{path}.{index}: Input should be a valid string")
    return frozenset(value)


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{path}: Input should be an object")
    return value
