"""Anthropic's web search for models that know nothing of it: a function that is offered, and what it found.

A search stands in a message as a `server_tool_use` block and a `web_search_tool_result` block. A later turn brings
both back, so that what was found travels in the result's `encrypted_content`, as it does with Anthropic.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool
"""

import ast
import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlsplit

from llama_stack_messages_provider.translate.documents import tagged

__all__ = [
    "Hit",
    "SearchTool",
    "error_block",
    "failure_of",
    "found_text",
    "hits_of",
    "is_search_tool",
    "result_block",
    "wants_search",
]

_KIND = "web_search_"
_MARK = "text1."
_MOST_DOMAINS = 8
_MOST_QUERY = 1000
_URL = re.compile(r"https?://[^\s<>\"')\]]+")
_EMPHASIS = re.compile(r"</?(?:b|strong|em|i)>")
# What search services call the same thing, best first.
_TITLES = ("title", "name", "question")
_TEXTS = ("content", "raw_content", "text", "snippet", "description", "long_desc", "answer")
_AGES = ("page_age", "age", "published_date", "date")


@dataclass(frozen=True, slots=True)
class Hit:
    """A page that was found. `text` is what the search service tells of it."""

    url: str
    title: str
    text: str = ""
    page_age: str | None = None


@dataclass(frozen=True, slots=True)
class SearchTool:
    """A request's `web_search_*` tool.

    Args:
        max_uses: Searches in one message; None is any number.
        allowed_domains: Only pages of these.
        blocked_domains: No page of these.
        location: Where the user is, in words.
    """

    max_uses: int | None = None
    allowed_domains: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    location: str = ""

    @classmethod
    def of(cls, tool: Mapping[str, Any]) -> "SearchTool":
        """The tool as a request defines it."""
        where = tool.get("user_location") or {}
        places = (where.get(part) for part in ("city", "region", "country"))
        return cls(
            tool.get("max_uses"),
            tuple(tool.get("allowed_domains") or ()),
            tuple(tool.get("blocked_domains") or ()),
            ", ".join(filter(None, places)),
        )

    @property
    def function(self) -> dict[str, Any]:
        """The OpenAI function that is offered to the model."""
        text = "Searches the web and returns pages with their titles, addresses and text."
        if self.location:
            text += f" The user is in {self.location}."
        query = {"type": "string", "description": "What to search for."}
        parameters = {
            "type": "object",
            "properties": {"query": query},
            "required": ["query"],
            "additionalProperties": False,
        }
        return {"type": "function", "function": {"name": "web_search", "description": text, "parameters": parameters}}

    def asked(self, query: str) -> str:
        """The query that a search service gets: with the domains in the words that most of them know."""
        if not 0 < len(self.allowed_domains) <= _MOST_DOMAINS:
            return query
        return f"{query} {' OR '.join(f'site:{domain}' for domain in self.allowed_domains)}"

    def takes(self, hit: Hit) -> bool:
        """Whether a page is of a domain that the client wants."""
        if self.allowed_domains and not any(_is_of(hit.url, domain) for domain in self.allowed_domains):
            return False
        return not any(_is_of(hit.url, domain) for domain in self.blocked_domains)


def is_search_tool(tool: Any) -> bool:
    """Whether a tool is Anthropic's web search, of any version."""
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    return isinstance(kind, str) and kind.startswith(_KIND) and "input_schema" not in tool


def wants_search(request: Mapping[str, Any]) -> bool:
    """Whether a request, valid or not, has Anthropic's web search among its tools."""
    tools = request.get("tools")
    return isinstance(tools, list) and any(map(is_search_tool, tools))


def failure_of(block: Mapping[str, Any]) -> str | None:
    """Why the search of a `server_tool_use` block cannot be made: an error code of Anthropic's, or None."""
    query = block["input"].get("query")
    if not isinstance(query, str) or not query.strip():
        return "invalid_tool_input"
    return "query_too_long" if len(query) > _MOST_QUERY else None


def hits_of(text: str) -> list[Hit]:
    """The pages in what a search tool answered: JSON of any nesting, an object on each line, or plain text."""
    values = list(_values(text))
    hits = [hit for value in values for hit in _hits(value)]
    if not hits and not values and text.strip():
        found = _URL.search(text)
        hits = [Hit(found[0] if found else "", "Search results", text.strip())]
    return list({(hit.url, hit.title): hit for hit in hits}.values())


def result_block(tool_use_id: str, hits: Sequence[Hit], *, most_characters: int) -> dict[str, Any]:
    """The block that answers a search.

    Args:
        tool_use_id: Id of its `server_tool_use` block.
        hits: The pages.
        most_characters: Text of one page that is kept.
    """
    content = [
        {
            "type": "web_search_result",
            "url": hit.url,
            "title": hit.title,
            "encrypted_content": _packed(hit.text[:most_characters]),
            "page_age": hit.page_age,
        }
        for hit in hits
    ]
    return _block(tool_use_id, content)


def error_block(tool_use_id: str, error_code: str) -> dict[str, Any]:
    """The block that says why a search failed; the codes are `anthropic.types.WebSearchToolResultErrorCode`."""
    return _block(tool_use_id, {"type": "web_search_tool_result_error", "error_code": error_code})


def found_text(content: Any) -> tuple[str, bool]:
    """What the model reads of a `web_search_tool_result`'s content, and whether it is an error."""
    if isinstance(content, Mapping):
        return f"The search failed: {content.get('error_code')}", True
    pages = (
        tagged(
            "search_result",
            _unpacked(page.get("encrypted_content")) or "",
            source=page["url"],
            title=page["title"],
            page_age=page.get("page_age"),
        )
        for page in content
    )
    return "\n".join(pages) or "Nothing was found.", False


def _block(tool_use_id: str, content: Any) -> dict[str, Any]:
    caller = {"type": "direct"}
    return {"type": "web_search_tool_result", "tool_use_id": tool_use_id, "content": content, "caller": caller}


def _packed(text: str) -> str:
    return _MARK + base64.b64encode(zlib.compress(text.encode(errors="replace"))).decode()


def _unpacked(content: Any) -> str | None:
    """The text that was packed here; None of what another server packed."""
    if not isinstance(content, str) or not content.startswith(_MARK):
        return None
    unpacker = zlib.decompressobj()
    try:  # a client may send anything, small things that grow large among it
        return unpacker.decompress(base64.b64decode(content.removeprefix(_MARK)), _MOST_UNPACKED).decode()
    except (ValueError, zlib.error):
        return None


_MOST_UNPACKED = 1 << 20


def _is_of(url: str, domain: str) -> bool:
    """Whether an address is of a domain or a subdomain, and under the domain's path if it has one."""
    wanted = urlsplit(domain if "//" in domain else f"//{domain}")
    try:
        host, path = urlsplit(url).hostname or "", urlsplit(url).path
    except ValueError:
        return False
    name = (wanted.hostname or "").removeprefix("*.")
    return (host == name or host.endswith(f".{name}")) and path.startswith(wanted.path.rstrip("*"))


def _values(text: str) -> Iterator[Any]:
    try:
        yield json.loads(text)
    except ValueError:
        for line in text.splitlines():
            if line.startswith(("{", "[")):
                yield from _value(line)


def _value(line: str) -> Iterator[Any]:
    # Llama Stack's Brave provider writes Python's notation.
    for read in (json.loads, ast.literal_eval):
        try:
            yield read(line)
            return
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue


def _hits(value: Any) -> Iterator[Hit]:
    if isinstance(value, list):
        for each in value:
            yield from _hits(each)
    elif isinstance(value, Mapping):
        if isinstance(url := value.get("url"), str):
            title, age = _first(value, _TITLES), _first(value, _AGES)
            yield Hit(url, title or url, _page_text(value), age or None)
        else:
            yield from _hits(list(value.values()))


def _page_text(value: Mapping[str, Any]) -> str:
    more = value.get("extra_snippets")
    texts = [_first(value, _TEXTS), *(more if isinstance(more, list) else ())]
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _first(value: Mapping[str, Any], names: Sequence[str]) -> str:
    texts = (text for name in names if isinstance(text := value.get(name), str) and text)
    return unescape(_EMPHASIS.sub("", next(texts, "")))
