"""Which URLs stand in a conversation: a model has no others fetched, so that what it read cannot leave in one.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-fetch-tool
"""

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Literal

__all__ = ["stands_in"]

type _Kind = Literal["user_input", "client_tool_results", "server_tool_results"]
type _Sources = Mapping[_Kind, tuple[str, frozenset[Any]]]
_KINDS: tuple[_Kind, ...] = ("user_input", "client_tool_results", "server_tool_results")

_OF_SERVER = "srvtoolu_"
_SERVERS = {"web_search_tool_result": "web_search", "web_fetch_tool_result": "web_fetch"}
_MOST_DEPTH = 20
# What goes on after a URL that ends here, and what would make it another one.
_END = re.compile(r"/?(?:#[^\s<>\"')\]]{0,300})?[.,;:!?'*_)\]}]{0,9}(?=[\s<>\"'`)\]}|\\]|$)")
_BEFORE = re.compile(r"(?:^|https?://|[\s<>\"'`(\[|])\Z")
_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def stands_in(url: str, request: Mapping[str, Any], sources: Mapping[str, Any]) -> bool:
    """Whether a URL stands in the conversation of a plain request.

    Args:
        url: The URL.
        request: The request.
        sources: The tool's `url_sources`: whose words count.
    """
    counted = {kind: _counted(sources.get(kind) or {"type": "all"}) for kind in _KINDS}
    needle = _SCHEME.sub("", url, count=1).partition("#")[0].rstrip("/")
    needles = {needle, escape(needle)}  # results have some as attributes
    return bool(needle) and any(_has(text, each) for text in _texts(request, counted) for each in needles)


def _has(text: str, needle: str) -> bool:
    place = text.find(needle)
    while place >= 0:
        end = place + len(needle)
        if _BEFORE.search(text, max(0, place - 8), place) and _END.match(text, end):
            return True
        place = text.find(needle, end)
    return False


def _texts(request: Mapping[str, Any], sources: _Sources) -> Iterator[str]:
    names: dict[str, Any] = {}
    for message, block in _blocks(request.get("messages")):
        kind = block.get("type")
        if kind == "tool_use":
            names[str(block.get("id"))] = block.get("name")
        elif kind == "tool_result":
            if _counts_result(block, names, sources):
                yield from _strings(block.get("content"))
        elif kind in _SERVERS:  # of a server that ran it itself
            if _counts(sources, "server_tool_results", _SERVERS[kind]):
                yield from _strings(block.get("content"))
        elif message.get("role") == "user" and _counts(sources, "user_input"):
            yield from _strings(block)


def _blocks(messages: Any) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Messages with each of their blocks; what has another shape is passed over."""
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks if isinstance(blocks, list) else ():
            if isinstance(block, Mapping) and isinstance(block.get("type"), str):
                yield message, block


def _counts_result(block: Mapping[str, Any], names: Mapping[str, Any], sources: _Sources) -> bool:
    ident = str(block.get("tool_use_id"))
    name = names.get(ident)
    name = name if isinstance(name, str) else None
    if ident.startswith(_OF_SERVER):
        return name in _SERVERS.values() and _counts(sources, "server_tool_results", name)
    return _counts(sources, "client_tool_results", name)


def _counted(source: Mapping[str, Any]) -> tuple[str, frozenset[Any]]:
    return source["type"], frozenset(each.get("name") for each in source.get("tools") or ())


def _counts(sources: _Sources, kind: _Kind, name: Any = None) -> bool:
    """Whether a source contributes: all of it unless the tool says otherwise."""
    how, named = sources[kind]
    return how == "all" or (how == "only" and name in named) or (how == "except" and name not in named)


def _strings(value: Any, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _MOST_DEPTH:
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        for each in inner:
            yield from _strings(each, depth + 1)
