"""What a request tells a model, as texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from llama_stack_messages_provider.shields.parts import parts_of

__all__ = ["MAX_UNREAD", "Part", "Said", "parts_in", "said_in", "text_of_call"]

MAX_UNREAD = 40
"""Images and files of a request that are named."""

_RESULT = "_tool_result"
# Where the text of a block stands. What is encrypted, or stands for something else, is none.
_TEXTS = ("title", "context", "text", "stdout", "stderr", "content", "source")


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
    """What users and tools say: turns of the user, results of tools, and an answer that the client has begun.

    What a model said before was judged when it said it. Of what is not as documented every text counts.

    Args:
        request: A request, as clients send it or as it was prepared: on the native route nobody has checked its turns.
        system: Whether its system prompts count too.
    """
    if system and request.get("system"):
        yield _said("system", request["system"])
    messages = request["messages"]
    for n, message in enumerate(messages):
        path, role = f"messages.{n}", message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else message
        if role == "system" and not system:
            continue
        is_said_by_model = role == "assistant" and n + 1 < len(messages)
        if not is_said_by_model and (own := [block for block in _blocks(content) if not _is_result(block)]):
            yield _said(path, own)
        yield from _results(path, content)


def _results(path: str, content: Any) -> Iterator[Said]:
    """Each result of a tool is a text of its own."""
    for n, block in enumerate(_blocks(content)):
        if _is_result(block):
            yield _said(f"{path}.content.{n}", block)


def _blocks(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _is_result(block: Any) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    return isinstance(kind, str) and (kind == "tool_result" or kind.endswith(_RESULT))


def _said(path: str, value: Any) -> Said:
    unread: dict[str, None] = {}
    return Said(path, "\n".join(_texts(value, unread)), tuple(unread))


def _texts(value: Any, unread: dict[str, None]) -> Iterator[str]:
    """The texts of a block, at any depth; what cannot be read is named."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, unread)
    elif isinstance(value, dict):
        yield from _texts_of_block(value, unread)


def _texts_of_block(block: Mapping[str, Any], unread: dict[str, None]) -> Iterator[str]:
    match block.get("type"):
        case "image":
            unread["image"] = None
        case "base64" | "url" | "file":  # the source of a document
            unread["file"] = None
        case "tool_use":
            yield text_of_call(block)
        case kind:
            for name in (*_TEXTS, "data") if kind == "text" else _TEXTS:
                yield from _texts(block.get(name), unread)


def text_of_call(block: Mapping[str, Any]) -> str:
    """The arguments of a call as a shield reads them: texts as they are, without JSON's escapes, one a line."""
    return "\n".join(_leaves(block.get("input")))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield str(name)
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield str(value)
