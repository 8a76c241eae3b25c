"""Fingerprints of requests, and where two of them part.

A prompt is made of tools, then system, then messages; it can be read from a cache as far as it begins like an earlier
one. A fingerprint holds digests and sizes and nothing of the text. Marks of caches (`cache_control`) are no part of a
prompt: clients move them at each turn.

Source: https://platform.claude.com/docs/en/build-with-claude/cache-diagnostics
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import orjson

from llama_stack_messages_provider.wire.token_estimate import BYTES_PER_TOKEN, weight_of

__all__ = ["MAX_PREFIXES", "Fingerprint", "cache_miss_reason", "fingerprint", "kept"]

MAX_PREFIXES = 32
"""Beginnings of a conversation that are remembered: between two of them nobody can tell where it changed."""

_DIGEST_BYTES = 16
# What changes a prompt beside its parts, as templates are made.
_OTHERS = ("thinking", "tool_choice", "output_config", "output_format", "context_management", "compaction")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a request is known by.

    Args:
        model: The model that it goes to, and a digest of its speed.
        tools, system, others: Digests of the parts of the prompt, and of other parameters that change it.
        counts: Of each beginning of the messages, how many it has; the last one has all.
        prefixes: Its digest.
        tokens: The tokens up to its end, estimated: of tools, system and the messages.
        tools_tokens, system_tokens: The tokens up to the end of the tools, and of the system prompt.
        place: The replica that read it, where its model has several.
    """

    model: str
    tools: bytes
    system: bytes
    others: bytes
    counts: Sequence[int]
    prefixes: Sequence[bytes]
    tokens: Sequence[int]
    tools_tokens: int
    system_tokens: int
    place: str = ""


def fingerprint(request: Mapping[str, Any], model: str) -> Fingerprint:
    """The fingerprint of a request, with every beginning of its messages.

    Args:
        request: Its JSON, as it came: whether it is valid is for others to say.
        model: The identifier of the model that it goes to.
    """
    tools, system = request.get("tools") or [], request.get("system") or []
    weight = weight_of([tools])
    tools_tokens = _tokens(weight)
    weight += weight_of([system])
    system_tokens = _tokens(weight)
    chain = blake2b(digest_size=_DIGEST_BYTES)
    prefixes, tokens = [], []
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else ():
        chain.update(_bytes_of(_unmarked(message)))
        weight += weight_of([message])
        prefixes.append(chain.digest())
        tokens.append(_tokens(weight))
    return Fingerprint(
        f"{model} {_digest(request.get('speed') or '').hex()}",
        _digest(_unmarked(tools)),
        _digest(_unmarked(system)),
        _digest([request.get(name) for name in _OTHERS]),
        range(1, len(prefixes) + 1),
        prefixes,
        tokens,
        tools_tokens,
        system_tokens,
    )


def kept(whole: Fingerprint) -> Fingerprint:
    """The same with no more beginnings than are remembered, evenly spread; the last one is among them."""
    step = max(1, math.ceil(len(whole.counts) / MAX_PREFIXES))
    # From the end, for the last has to be one of them.
    chosen = range(len(whole.counts) - 1, -1, -step)[::-1]
    return replace(
        whole,
        counts=tuple(whole.counts[n] for n in chosen),
        prefixes=tuple(whole.prefixes[n] for n in chosen),
        tokens=tuple(whole.tokens[n] for n in chosen),
    )


def cache_miss_reason(previous: Fingerprint | None, request: Fingerprint) -> dict[str, Any] | None:
    """Where a request parts from the one before, as `diagnostics` tells it; None where it begins like it.

    Args:
        previous: The one before, as it is `kept`; None if it is not known.
        request: The request, with every beginning of its messages.
    """
    if previous is None:
        return {"type": "previous_message_not_found"}
    total = previous.tokens[-1] if previous.tokens else previous.system_tokens
    if previous.model != request.model:
        return _missed("model_changed", total)
    if previous.tools != request.tools:
        return _missed("tools_changed", total)
    if previous.system != request.system:
        return _missed("system_changed", total - previous.tools_tokens)
    if previous.others != request.others:
        return {"type": "unavailable"}
    read = previous.system_tokens
    for count, prefix, tokens in zip(previous.counts, previous.prefixes, previous.tokens, strict=True):
        if count > len(request.prefixes) or request.prefixes[count - 1] != prefix:
            return _missed("messages_changed", total - read)
        read = tokens
    return None


def _missed(kind: str, tokens: int) -> dict[str, Any]:
    return {"type": kind, "cache_missed_input_tokens": tokens}


def _tokens(weight: int) -> int:
    return math.ceil(weight / BYTES_PER_TOKEN)


def _unmarked(value: Any) -> Any:
    """A value without marks of caches, a text as the block that it stands for."""
    if isinstance(value, list):
        return [_unmarked(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {
        name: [{"type": "text", "text": each}] if name == "content" and isinstance(each, str) else _content(name, each)
        for name, each in value.items()
        if name != "cache_control"
    }


def _content(name: str, value: Any) -> Any:
    """Blocks are within `content` and nowhere else: what a tool is called with may have any names."""
    return _unmarked(value) if name == "content" else value


def _digest(value: Any) -> bytes:
    return blake2b(_bytes_of(value), digest_size=_DIGEST_BYTES).digest()


def _bytes_of(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a number or a text that JSON cannot carry
        return repr(value).encode(errors="surrogatepass")
