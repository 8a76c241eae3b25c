"""Anthropic's web search for models that know nothing of it: a function that is offered, and what it found.

A search stands in a message as a `server_tool_use` block and a `web_search_tool_result` block. A later turn brings
both back, so that what was found travels in the result's `encrypted_content`, as it does with Anthropic.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool
"""

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlsplit

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.documents import encodable
from llama_stack_messages_provider.rewriting.encrypted_content import encode_encrypted_content
from llama_stack_messages_provider.server_tools.one_name import check_definition, custom_tool, is_of_kind
from llama_stack_messages_provider.wire.types import wire_type

__all__ = [
    "NAME",
    "RESULT",
    "Domain",
    "SearchResult",
    "SearchTool",
    "domains_of",
    "error_block",
    "failure_of",
    "hits_of",
    "is_search_tool",
    "result_block",
]

NAME = "web_search"
RESULT = "web_search_tool_result"

_KIND = "web_search_"
_NEWEST = wire_type("WebSearchTool20260318Param")
_MOST_SITES = 8
# Bounds on what a client may have compared with each page: names have 253 characters at the most.
_MOST_DOMAINS, _MOST_DOMAIN = 500, 500
_MOST_QUERY = 1000
_DOMAIN = re.compile(
    r"(?:https?://)?(?P<host>(?:[^\s/*?#\[\]@:.]{1,63}\.)*[^\s/*?#\[\]@:.]{1,63})\.?(?::\d+)?(?P<path>/[^\s?#]*)?"
)
_URL = re.compile(r"https?://[^\s<>\"')\]]+")
_EMPHASIS = re.compile(r"</?(?:b|strong|em|i)>")
# What search services call the same thing, best first.
_URLS = ("url", "link", "href")
_TITLES = ("title", "name", "question")
_TEXTS = ("content", "raw_content", "text", "snippet", "description", "long_desc", "answer")
_AGES = ("page_age", "age", "published_date", "date")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A page that was found. `text` is what the search service tells of it."""

    url: str
    title: str
    text: str = ""
    page_age: str | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain with its subdomains, or the part of it under a path, in which `*` stands for anything."""

    host: str
    path: str

    @classmethod
    def of(cls, text: str) -> "Domain | None":
        """The domain that a client wrote, such as `example.com` or `example.com/blog/*/2026`; None if it is none."""
        found = _DOMAIN.fullmatch(text) if len(text) <= _MOST_DOMAIN else None
        return cls(_host(found["host"]), (found["path"] or "").rstrip("/")) if found else None

    def matches(self, url: str) -> bool:
        """Whether an address is of the domain."""
        try:
            parts = urlsplit(url)
            host = _host(parts.hostname or "")
        except ValueError:
            return False
        return (host == self.host or host.endswith(f".{self.host}")) and self._is_above(f"{parts.path}/")

    def _is_above(self, path: str) -> bool:
        first, *others = f"{self.path}/".split("*")
        if not path.startswith(first):
            return False
        place = len(first)
        for piece in others:  # the first place of each leaves the most for those after it
            place = path.find(piece, place) + len(piece)
            if place < len(piece):
                return False
        return True


def _host(name: str) -> str:
    """A host's name as the domain name system writes it."""
    name = name.rstrip(".").lower()
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


@dataclass(frozen=True, slots=True)
class SearchTool:
    """A request's `web_search_*` tool.

    Args:
        max_uses: Searches in one message; None is any number.
        allowed_domains: Only pages of these.
        blocked_domains: No page of these.
        location: Where the user is, in words.
        strict: Whether calls are to keep to the schema.
    """

    max_uses: int | None = None
    allowed_domains: tuple[Domain, ...] = ()
    blocked_domains: tuple[Domain, ...] = ()
    location: str = ""
    strict: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any], path: str) -> "SearchTool":
        """The tool that a request defines at `path`.

        Raises:
            InvalidRequestError: A field is not as Anthropic documents it.
        """
        # A version that is not known yet has not been looked at.
        check_definition(_NEWEST, {**given, "type": "web_search_20260318", "name": "web_search"}, path)
        where = given.get("user_location") or {}
        return cls(
            given.get("max_uses"),
            *domains_of(given, path),
            ", ".join(filter(None, (where.get(name) for name in ("city", "region", "country")))),
            given.get("strict") is True,
        )

    @property
    def definition(self) -> dict[str, Any]:
        """The custom tool that is offered to the model."""
        text = "Searches the web and returns pages with their titles, addresses and text."
        if self.location:
            text += f" The user is in {self.location}."
        query = {"type": "string", "description": "What to search for."}
        return custom_tool(NAME, text, {"query": query}, required=["query"], strict=self.strict)

    def build_query(self, query: str) -> str:
        """The query that a search service gets: with the domains in the words that most of them know."""
        if not 0 < len(self.allowed_domains) <= _MOST_SITES:
            return query
        sites = (f"site:{domain.host}{domain.path.partition('*')[0]}" for domain in self.allowed_domains)
        return f"{query} {' OR '.join(sites)}"

    def allows(self, hit: SearchResult) -> bool:
        """Whether a page is of a domain that the client wants."""
        if self.allowed_domains and not any(domain.matches(hit.url) for domain in self.allowed_domains):
            return False
        return not any(domain.matches(hit.url) for domain in self.blocked_domains)


def domains_of(definition: Mapping[str, Any], path: str) -> tuple[tuple[Domain, ...], tuple[Domain, ...]]:
    """The domains that a tool allows, and those that it blocks.

    Raises:
        InvalidRequestError: It does both; or one is none, or they are too many.
    """
    allowed, blocked = definition.get("allowed_domains"), definition.get("blocked_domains")
    if allowed and blocked:
        raise InvalidRequestError(f"{path}: only one of allowed_domains and blocked_domains can be used")
    return _domains(allowed, f"{path}.allowed_domains"), _domains(blocked, f"{path}.blocked_domains")


def _domains(given: Sequence[str] | None, path: str) -> tuple[Domain, ...]:
    """The domains that a request names at a path.

    Raises:
        InvalidRequestError: One is none, or they are too many.
    """
    if given and len(given) > _MOST_DOMAINS:
        raise InvalidRequestError(f"{path}: at most {_MOST_DOMAINS} domains can be named")
    domains = []
    for index, text in enumerate(given or ()):
        if (domain := Domain.of(text)) is None:
            raise InvalidRequestError(f"{path}.{index}: not a domain, such as example.com or example.com/blog/*")
        domains.append(domain)
    return tuple(domains)


def is_search_tool(tool: Any) -> bool:
    """Whether a tool is Anthropic's web search, of any version."""
    return isinstance(tool, Mapping) and is_of_kind(tool, _KIND)


def failure_of(block: Mapping[str, Any]) -> str | None:
    """Why the search of a `server_tool_use` block cannot be made: an error code of Anthropic's, or None."""
    query = block["input"].get("query") if isinstance(block["input"], Mapping) else None
    if not isinstance(query, str) or not query.strip():
        return "invalid_tool_input"
    return "query_too_long" if len(query) > _MOST_QUERY else None


def hits_of(text: str) -> list[SearchResult]:
    """The pages in what a search tool answered: JSON of any nesting, an object on each line, or plain text."""
    try:
        values = [json.loads(text)]
        says_something = any(map(_says_something, values))
    except ValueError:
        values = list(_lines(text))
        says_something = bool(text.strip())
    hits = [hit for value in values for hit in _hits(value)]
    if not hits and says_something:
        text = encodable(text.strip())
        found = _URL.search(text)
        hits = [SearchResult(found[0] if found else "", "Search results", text)]
    return list({(hit.url, hit.title): hit for hit in hits}.values())


def result_block(tool_use_id: str, hits: Sequence[SearchResult], *, most_characters: int) -> dict[str, Any]:
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
            "encrypted_content": encode_encrypted_content(hit.text[:most_characters]),
            "page_age": hit.page_age,
        }
        for hit in hits
    ]
    return _block(tool_use_id, content)


def error_block(tool_use_id: str, error_code: str) -> dict[str, Any]:
    """The block that says why a search failed; the codes are `anthropic.types.WebSearchToolResultErrorCode`."""
    return _block(tool_use_id, {"type": "web_search_tool_result_error", "error_code": error_code})


def _block(tool_use_id: str, content: Any) -> dict[str, Any]:
    caller = {"type": "direct"}
    return {"type": RESULT, "tool_use_id": tool_use_id, "content": content, "caller": caller}


def _lines(text: str) -> Iterator[Any]:
    for line in text.splitlines():
        if line.startswith(("{", "[")):
            yield from _value(line)


def _value(line: str) -> Iterator[Any]:
    # Llama Stack's Brave provider writes Python's notation.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for read in (json.loads, ast.literal_eval):
            try:
                yield read(line)
                return
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                continue


def _says_something(value: Any) -> bool:
    """Whether an answer without pages has any words, the question aside."""
    if isinstance(value, Mapping):
        return any(_says_something(each) for name, each in value.items() if name != "query")
    return any(map(_says_something, value)) if isinstance(value, list) else isinstance(value, str) and bool(value)


def _hits(value: Any) -> Iterator[SearchResult]:
    if isinstance(value, list):
        for each in value:
            yield from _hits(each)
    elif isinstance(value, Mapping):
        if url := encodable(_first(value, _URLS)):
            title, age = _clean(_first(value, _TITLES)), encodable(_first(value, _AGES))
            yield SearchResult(url, title or url, _page_text(value), age or None)
        else:
            yield from _hits(list(value.values()))


def _page_text(value: Mapping[str, Any]) -> str:
    more = value.get("extra_snippets")
    snippets = [_clean(text) for text in more if isinstance(text, str)] if isinstance(more, list) else []
    return "\n".join(filter(None, [_clean(_first(value, _TEXTS)), *snippets]))


def _first(value: Mapping[str, Any], names: Sequence[str]) -> str:
    texts = (text for name in names if isinstance(text := value.get(name), str) and text)
    return next(texts, "")


def _clean(text: str) -> str:
    """Text without HTML's marks of emphasis and entities, which some services leave in it."""
    return encodable(unescape(_EMPHASIS.sub("", text)))
