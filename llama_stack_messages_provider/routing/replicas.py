"""Which of several equal replicas of a model a request goes to: the one that has its conversation in its cache.

Each replica has a number for each conversation, by a hash of both, and the highest one has it (rendezvous hashing:
Thaler and Ravishankar, 1998). So every process chooses alike without asking anybody, and a replica that goes takes no
other's conversations along.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from llama_stack_messages_provider.rewriting.attribution import without_attribution

__all__ = ["UNREACHED_SECONDS", "Unreached", "pin_of", "ranked"]

UNREACHED_SECONDS = 10.0
"""How long a replica that could not be reached is asked last; then one request tries it."""

_PIN_BYTES, _SCORE_BYTES = 16, 8
# What tells one conversation from another; two that are alike so far may well have one replica.
_MAX_PARTS, _MAX_CHARACTERS = 64, 4096


def ranked(pin: bytes, names: Sequence[str]) -> list[str]:
    """Names of replicas, the one that a conversation belongs to first, and then those that stand in for it.

    Args:
        pin: What the conversation is known by, at most 64 bytes.
        names: The replicas, in any order.
    """
    return sorted(names, key=lambda name: (blake2b(name.encode(), key=pin, digest_size=_SCORE_BYTES).digest(), name))


def pin_of(session: str | None, request: Mapping[str, Any]) -> bytes:
    """What a request's conversation is known by, 16 bytes: the same at each of its turns.

    Args:
        session: The session that its client names; else its `prompt_cache_key` counts, else how its prompt begins: the
            system prompt, the names of the tools, and the first message of the user.
        request: Its JSON, not validated.
    """
    key = session or request.get("prompt_cache_key")
    named = [key] if isinstance(key, str) and key else None
    chain = blake2b(digest_size=_PIN_BYTES)
    for part in named or _beginning(request):
        text = part[:_MAX_CHARACTERS].encode(errors="replace")
        chain.update(b"%d %d " % (len(part), len(text)) + text)
    return chain.digest()


def _beginning(request: Mapping[str, Any]) -> Iterator[str]:
    # Claude Code's line in the system prompt is another one at each turn.
    yield from _texts(without_attribution(request.get("system")))
    for tool in _objects(request.get("tools")):
        yield _text(tool.get("name"))
    for message in _objects(request.get("messages")):
        if message.get("role") == "user":
            yield from _texts(message.get("content"))
            return


def _texts(content: Any) -> Iterator[str]:
    """What a content says; of an image or a document, its data or where they are."""
    if isinstance(content, str):
        yield content
        return
    for block in _objects(content):
        source = block.get("source")
        given = block.get("text") or (source.get("data") or source.get("url") if isinstance(source, dict) else None)
        yield given if isinstance(given, str) else _text(block.get("type"))


def _text(value: Any) -> str:
    """A value that should be a text, and may be megabytes of something else."""
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """The first objects of an array."""
    if isinstance(value, list):
        yield from (each for each in value[:_MAX_PARTS] if isinstance(each, dict))


class Unreached:
    """The replicas that could not be reached; there are never more than are configured.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def add(self, name: str) -> None:
        """It could not be reached."""
        self._until[name] = self._clock() + UNREACHED_SECONDS

    def discard(self, name: str) -> None:
        """It has answered."""
        if self._until:
            self._until.pop(name, None)

    def passes_over(self, name: str) -> bool:
        """Whether others are asked before it; after a time one request is told no, and those after it wait for that."""
        if name not in self._until:
            return False
        if self._clock() < self._until[name]:
            return True
        self.add(name)
        return False
