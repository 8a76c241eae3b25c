"""A request while passes rewrite it.

Blocks and tools keep the path at which the client put them, whatever is put before them or taken away, so that what a
pass drops is named where it stood. A turn that no pass changes stays the client's own object, and so does the request.
What has not the documented shape is no block of any type: of a native request its upstream is the judge.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.wire.token_estimate import BYTES_PER_TOKEN

__all__ = [
    "Block",
    "Change",
    "Draft",
    "Place",
    "Placed",
    "RewriteOptions",
    "Turn",
    "is_text",
    "kind_of",
    "text_block",
]

Block = Mapping[str, Any]
Place = Literal["user", "assistant", "system", "result"]
"""Whose content a block is in: a turn's by its role, or a tool result's."""

_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class RewriteOptions:
    """What is decided outside of the passes.

    Args:
        tool_error_marker: Put before a tool result whose `is_error` is true.
        system_turns: Where system turns of mid-conversation go: into the system prompt, or into users' turns.
        tool_name: The name by which the model knows a tool.
        files: Whether PDFs of users stay as they are.
        signer: The model's: reads what signatures and ids of calls carry; None where nobody may have it.
        reasoning_details: Whether what the signatures carry beside text has a place in the plainer request.
        bytes_per_token: What a token of the model has, in bytes, where tokens are estimated.
        descriptions: Texts that stand for images which the model cannot see, by the images' digests.
    """

    tool_error_marker: str = "[tool error] "
    system_turns: Literal["head", "user"] = "head"
    tool_name: Callable[[str], str] = str
    files: bool = False
    signer: Signer | None = None
    reasoning_details: bool = False
    bytes_per_token: float = BYTES_PER_TOKEN
    descriptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Placed:
    """A block or a tool, and where the client put it.

    Args:
        path: `messages.0.content.1`, for example; of what a pass made, the path of what it was made of.
        value: The block or the tool.
        made: Whether a pass made it.
        inner: The blocks of a tool result, once a pass has changed them.
    """

    path: str
    value: Any
    made: bool = False
    inner: "list[Placed] | None" = None


@dataclass(slots=True)
class Turn:
    """A message of the request.

    Args:
        path: `messages.0.content`, for example.
        message: As the client sent it, without its content if a pass made it.
        blocks: Its content, once it has been looked at as blocks.
        changed: Whether a pass changed the content.
    """

    path: str
    message: Mapping[str, Any]
    blocks: list[Placed] = field(default_factory=list)
    changed: bool = False

    @property
    def role(self) -> Any:
        """`user`, `assistant` or `system`."""
        return self.message.get("role") if isinstance(self.message, Mapping) else None

    @classmethod
    def of(cls, index: int, message: Any) -> "Turn":
        """A turn of the request; a string is one block of text."""
        path = f"messages.{index}.content"
        content = message.get("content") if isinstance(message, Mapping) else None
        given = [text_block(content)] if isinstance(content, str) else content if isinstance(content, list) else []
        return cls(path, message, [Placed(f"{path}.{place}", block) for place, block in enumerate(given)])

    def finished(self) -> Mapping[str, Any]:
        """The message."""
        if not self.changed:
            return self.message
        return {**self.message, "content": [*(self._spaced() if self.role == "assistant" else self._plain())]}

    def _plain(self) -> Iterator[Any]:
        return (placed.value for placed in self.blocks)

    def _spaced(self) -> Iterator[Any]:
        """A model's text is cut into blocks at any place; what a pass made of something else stands apart from it."""
        before: Placed | None = None
        for placed in self.blocks:
            block = placed.value
            if before is not None and is_text(block) and is_text(before.value) and (placed.made or before.made):
                block = {**block, "text": _BETWEEN + block["text"]} if block["text"] else block
            yield block
            before = placed if not is_text(block) or block["text"] else before


Change = Callable[[Block, str, Place], "Iterable[tuple[str, Block]] | None"]
"""What becomes of a block at a path: other blocks with their paths, or None if it stays."""


class Draft:
    """A request that is being rewritten.

    Args:
        request: The client's request, validated.
        lacks: What the engine does not know.
        options: What is decided outside.
        dropped: Takes what cannot be carried.

    Attributes:
        fields: The request's fields, to be replaced by passes; `messages` and `tools` are made of `turns` and `tools`.
        restored: For the name of a function that a pass made, the fields of the `tool_use` block that the client is
            to get: its `name`, and its `toolset_name`.
    """

    def __init__(
        self, request: Mapping[str, Any], lacks: Collection[str], options: RewriteOptions, dropped: DroppedFields
    ) -> None:
        self._request = request
        self.lacks = lacks
        self.options = options
        self.dropped = dropped
        self.fields: dict[str, Any] = dict(request)
        self.restored: dict[str, dict[str, str]] = {}
        self.applied_edits: list[dict[str, Any]] | None = None

    @cached_property
    def turns(self) -> list[Turn]:
        """The messages."""
        return [Turn.of(index, message) for index, message in enumerate(_listed(self._request.get("messages")))]

    @cached_property
    def tools(self) -> list[Placed]:
        """The tools."""
        return [Placed(f"tools.{index}", tool) for index, tool in enumerate(_listed(self._request.get("tools")))]

    def change_blocks(self, changes: Mapping[str, Change]) -> None:
        """Change the blocks of some types, in turns."""
        for turn in self.turns:
            if (found := _changed(turn.blocks, changes, turn.role)) is not None:
                turn.blocks, turn.changed = found, True

    def change_results(self, changes: Mapping[str, Change]) -> None:
        """Change the blocks of some types, in the content of tool results."""
        for turn in self.turns:
            for placed in turn.blocks:
                if kind_of(placed.value) == "tool_result" and _change_content(placed, changes):
                    turn.changed = True

    def change_everywhere(self, changes: Mapping[str, Change]) -> None:
        """Change the blocks of some types, in turns and in tool results."""
        self.change_blocks(changes)
        self.change_results(changes)

    def note_edit(self, applied: dict[str, Any]) -> None:
        """Note an edit of the context, as the client is told it."""
        self.applied_edits = [*(self.applied_edits or ()), applied]

    def choose_from_nothing(self) -> None:
        """Take a choice among tools away, of which none are left.

        Raises:
            InvalidRequestError: One of them is to be called.
        """
        choice: Any = self.fields.pop("tool_choice", None)
        self.fields.pop("tools", None)
        if choice and choice["type"] == "any":
            raise InvalidRequestError("tool_choice: there is no tool to call")
        if choice and choice["type"] == "tool":
            raise InvalidRequestError(f"tool_choice.name: there is no tool named {choice['name']}")

    def finished(self) -> Mapping[str, Any]:
        """The plainer request; the client's own object if nothing was changed."""
        looked_at = vars(self)  # what no pass has looked at is as it was
        if "turns" in looked_at:
            self._finish_turns()
        if "tools" in looked_at:
            self._finish_tools()
        same = self.fields.keys() == self._request.keys()
        unchanged = same and all(self.fields[name] is value for name, value in self._request.items())
        return self._request if unchanged else self.fields

    def _finish_turns(self) -> None:
        # A turn of which nothing is left would be refused for being empty.
        messages = [turn.finished() for turn in self.turns if turn.blocks or not turn.changed]
        given = _listed(self._request.get("messages"))
        if len(messages) != len(given) or any(new is not old for new, old in zip(messages, given, strict=True)):
            self.fields["messages"] = messages

    def _finish_tools(self) -> None:
        tools = [placed.value for placed in self.tools]
        if any(placed.made for placed in self.tools) or len(tools) != len(_listed(self._request.get("tools"))):
            self.fields["tools"] = tools


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_block(text: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": text}


def kind_of(block: Any) -> str:
    """The type of a block; nothing if it has none of the documented shape."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    return kind if isinstance(kind, str) else ""


def is_text(block: Any) -> bool:
    """Whether it is a block of text."""
    return kind_of(block) == "text" and isinstance(block.get("text"), str)


def _changed(blocks: list[Placed], changes: Mapping[str, Change], place: Place) -> list[Placed] | None:
    """The blocks after a change; None if all of them stay."""
    found: list[Placed] = []
    any_changed = False
    for placed in blocks:
        change = changes.get(kind_of(placed.value))
        made = change(placed.value, placed.path, place) if change is not None else None
        if made is None:
            found.append(placed)
        else:
            found += [Placed(path, block, made=True) for path, block in made]
            any_changed = True
    return found if any_changed else None


def _change_content(result: Placed, changes: Mapping[str, Change]) -> bool:
    content = result.value.get("content")
    if not isinstance(content, list):
        return False
    inner = result.inner or [Placed(f"{result.path}.content.{index}", block) for index, block in enumerate(content)]
    if (found := _changed(inner, changes, "result")) is None:
        return False
    result.inner = found
    result.value = {**result.value, "content": [placed.value for placed in found]}
    return True
