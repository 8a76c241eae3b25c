"""What a request tells a model, as texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from typing import Any, Literal

from llama_stack_messages_provider.shields.parts import parts_of

__all__ = ["CALLS", "MAX_UNREAD", "Part", "Said", "parts_in", "said_in", "text_of_call"]

CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
"""Blocks of calls, whose arguments are judged."""

MAX_UNREAD = 40
"""Images and files of a request that are named."""

_RESULT = "_tool_result"
# What is no text of a block, or is encrypted. Exactly so written: for an engine that ignores case, `Text` is a text.
_NO_TEXTS = frozenset(
    {"type", "id", "tool_use_id", "name", "tool_id", "file_id", "media_type", "cache_control", "signature"}
    | {"encrypted_content", "encrypted_index", "encrypted_stdout"}
)
# In this order; whatever else there is comes after them.
_TEXTS = ("title", "context", "text", "stdout", "stderr", "content", "source")
_FILES = {"image": "image", **dict.fromkeys(("base64", "url", "file"), "file")}  # the latter are sources of documents
# The field of such blocks that is read otherwise, or not at all.
_PASSED = {
    "image": "source",
    "base64": "data",
    "url": "url",
    "redacted_thinking": "data",
    "compaction": "tool_changes",
    **dict.fromkeys(CALLS, "input"),
}
_OF_MESSAGE = frozenset({"role", "content"})

type _Speaker = Literal["system", "user", "begun", "model"]


@dataclass(frozen=True, slots=True)
class Said:
    """One text of a request.

    Args:
        path: Where it stands, as clients are told it.
        text: The text.
        unread: What there is that is no text, such as `image`.
    """

    path: str
    text: str
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A text that a shield is given.

    Args:
        text: The text.
        digest: By which it is known again.
    """

    text: str
    digest: bytes


def parts_in(
    request: Mapping[str, Any], *, system: bool, characters: int, overlap: int
) -> tuple[list[Part], list[str]]:
    """All that is to be judged of a request, in parts, and the places of what cannot be read, `MAX_UNREAD` at most.

    Args:
        request: As of `said_in`.
        system: As of `said_in`.
        characters: As of `parts_of`.
        overlap: As of `parts_of`.
    """
    parts: list[Part] = []
    unread: list[str] = []
    for said in said_in(request, system=system):
        parts += [Part(text, _digest(text)) for text in parts_of(said.text, characters, overlap) if text.strip()]
        unread += [f"{said.path} ({kind})" for kind in said.unread]
    return parts, unread[:MAX_UNREAD]


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def said_in(request: Mapping[str, Any], *, system: bool) -> Iterator[Said]:
    """What users and tools say: turns of the user, results of tools, summaries, an answer that the client has begun.

    What a model said before was judged when it said it. Of what is not as documented every text counts. Messages of
    the user that follow each other are one text, as they are one turn for a model.

    Args:
        request: A request, as clients send it or as it was prepared: on the native route nobody has checked its turns.
        system: Whether its system prompts count too.
    """
    if system and request.get("system"):
        yield _said("system", request["system"])
    if instructions := _instructions(request):
        yield Said("context_management", "\n".join(instructions))
    messages = request["messages"]
    last = len(messages) - 1
    for speaker, turn in groupby(enumerate(messages), lambda each: _speaker(each[1], is_last=each[0] == last)):
        if speaker == "system" and not system:
            continue
        numbered = [(f"messages.{n}", message) for n, message in turn]
        if speaker != "model":
            yield from _joined([_said(path, _own(message)) for path, message in numbered])
        for path, message in numbered:
            yield from _results(path, _content(message))


def _instructions(request: Mapping[str, Any]) -> list[str]:
    """What a client wants of a summary that the upstream itself makes."""
    management = request.get("context_management")
    edits = management.get("edits") if isinstance(management, Mapping) else None
    asked = [edit.get("instructions") for edit in edits if isinstance(edit, Mapping)] if isinstance(edits, list) else []
    return [each for each in asked if isinstance(each, str)]


def _speaker(message: Any, *, is_last: bool) -> _Speaker:
    """Who speaks; the user, unless it is clear, to an engine that ignores the case of names too."""
    if not isinstance(message, Mapping):
        return "user"
    if any(name.casefold() in _OF_MESSAGE for name in message if name not in _OF_MESSAGE):
        return "user"
    if message.get("role") == "system":
        return "system"
    if message.get("role") != "assistant":
        return "user"
    return "begun" if is_last else "model"


def _joined(turn: Sequence[Said]) -> Iterator[Said]:
    first, *others = turn
    yield Said(first.path, "\n".join(said.text for said in turn if said.text), first.unread)
    yield from (Said(said.path, "", said.unread) for said in others if said.unread)


def _own(message: Any) -> list[Any]:
    """What stands in a message itself, and not in a result."""
    others = {} if not isinstance(message, Mapping) else {k: v for k, v in message.items() if k not in _OF_MESSAGE}
    return [*(block for block in _blocks(_content(message)) if not _is_result(block)), others]


def _content(message: Any) -> Any:
    return message.get("content") if isinstance(message, Mapping) else message


def _results(path: str, content: Any) -> Iterator[Said]:
    """Each result of a tool is a text of its own."""
    for n, block in enumerate(_blocks(content)):
        if _is_result(block):
            yield _said(f"{path}.content.{n}", block)


def _blocks(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _is_result(block: Any) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    # A summary is read as the user's word, and came from a client.
    return isinstance(kind, str) and (kind.endswith(_RESULT) or kind in ("tool_result", "compaction"))


def _said(path: str, value: Any) -> Said:
    texts: list[str] = []
    unread: dict[str, None] = {}
    _read(value, texts, unread)
    return Said(path, "\n".join(texts), tuple(unread))


def _read(value: Any, texts: list[str], unread: dict[str, None]) -> None:
    """Add the texts of a block, at any depth, and name what cannot be read."""
    if isinstance(value, str):
        if value:
            texts.append(value)
    elif isinstance(value, list):
        for each in value:
            _read(each, texts, unread)
    elif isinstance(value, dict):
        _read_block(value, texts, unread)


def _read_block(block: Mapping[str, Any], texts: list[str], unread: dict[str, None]) -> None:
    kind = block.get("type")
    passed: str | None = None
    if isinstance(kind, str):
        passed = _PASSED.get(kind)
        if kind in _FILES:
            unread[_FILES[kind]] = None
        if kind in CALLS:
            _read_leaves(block.get("input"), texts)
    others = [name for name in block if name not in _TEXTS and name not in _NO_TEXTS]
    for name in (*_TEXTS, *others):
        if name != passed:
            _read(block.get(name), texts, unread)


def text_of_call(block: Mapping[str, Any]) -> str:
    """The arguments of a call as a shield reads them: texts as they are, without JSON's escapes, one a line."""
    texts: list[str] = []
    _read_leaves(block.get("input"), texts)
    return "\n".join(texts)


def _read_leaves(value: Any, texts: list[str]) -> None:
    if isinstance(value, dict):
        for name, each in value.items():
            texts.append(str(name))
            _read_leaves(each, texts)
    elif isinstance(value, list):
        for each in value:
            _read_leaves(each, texts)
    elif value is not None:
        texts.append(str(value))
