"""Anthropic's web fetch for models that know nothing of it: a function that is offered, and the page that it found.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-fetch-tool
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_stack_messages_provider.rewriting.documents import encodable
from llama_stack_messages_provider.server_tools.one_name import check_definition, custom_tool, is_of_kind
from llama_stack_messages_provider.server_tools.web_search import Domain, domains_of
from llama_stack_messages_provider.wire.types import wire_type

__all__ = ["NAME", "RESULT", "FetchTool", "error_block", "failure_of", "is_fetch_tool", "result_block", "url_of"]

NAME = "web_fetch"
RESULT = "web_fetch_tool_result"

_KIND = "web_fetch_"
_NEWEST = wire_type("WebFetchTool20260318Param")
# Anthropic's own limit.
_MOST_URL = 250
_TOKEN_CHARACTERS = 4


@dataclass(frozen=True, slots=True)
class FetchTool:
    """A request's `web_fetch_*` tool.

    Args:
        max_uses: Pages in one message; None is any number.
        allowed_domains: Only pages of these.
        blocked_domains: No page of these.
        characters: Text of a page that the client wants at most; None is any.
        url_sources: Whose words say which URLs may be fetched.
        strict: Whether calls are to keep to the schema.
    """

    max_uses: int | None = None
    allowed_domains: tuple[Domain, ...] = ()
    blocked_domains: tuple[Domain, ...] = ()
    characters: int | None = None
    url_sources: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any], path: str) -> "FetchTool":
        """The tool that a request defines at `path`.

        Raises:
            InvalidRequestError: A field is not as Anthropic documents it.
        """
        # A version that is not known yet has not been looked at.
        check_definition(_NEWEST, {**given, "type": "web_fetch_20260318", "name": NAME}, path)
        tokens = given.get("max_content_tokens")
        return cls(
            given.get("max_uses"),
            *domains_of(given, path),
            None if tokens is None else max(0, tokens) * _TOKEN_CHARACTERS,
            given.get("url_sources") or {},
            given.get("strict") is True,
        )

    @property
    def definition(self) -> dict[str, Any]:
        """The custom tool that is offered to the model."""
        about = "The address of the page. It has to stand in the conversation: in the user's words, or in a result."
        text = "Fetches a page of the web, or a PDF, and returns its text."
        url = {"type": "string", "description": about}
        return custom_tool(NAME, text, {"url": url}, required=["url"], strict=self.strict)

    def permits(self, url: str) -> bool:
        """Whether a page is of a domain that the client wants."""
        if self.allowed_domains and not any(domain.matches(url) for domain in self.allowed_domains):
            return False
        return not any(domain.matches(url) for domain in self.blocked_domains)


def is_fetch_tool(tool: Any) -> bool:
    """Whether a tool is Anthropic's web fetch, of any version."""
    return isinstance(tool, Mapping) and is_of_kind(tool, _KIND)


def url_of(block: Mapping[str, Any]) -> str:
    """The URL that a `server_tool_use` block asks for; nothing if it asks for none."""
    given = block["input"].get("url") if isinstance(block.get("input"), Mapping) else None
    url = given.strip() if isinstance(given, str) else ""
    return url if "://" in url or not url else f"https://{url}"


def failure_of(block: Mapping[str, Any]) -> str | None:
    """Why the page of a `server_tool_use` block cannot be fetched: an error code of Anthropic's, or None."""
    url = url_of(block)
    if not url:
        return "invalid_tool_input"
    return "url_too_long" if len(url) > _MOST_URL else None


def result_block(tool_use_id: str, url: str, title: str, text: str, retrieved_at: str) -> dict[str, Any]:
    """The block that holds a page; its text is plain, whatever it was made of."""
    source = {"type": "text", "media_type": "text/plain", "data": encodable(text)}
    document = {"type": "document", "source": source, "title": encodable(title) or None, "citations": None}
    page = {"type": "web_fetch_result", "url": url, "retrieved_at": retrieved_at, "content": document}
    return _block(tool_use_id, page)


def error_block(tool_use_id: str, error_code: str) -> dict[str, Any]:
    """The block that says why a page was not fetched; the codes are `anthropic.types.WebFetchToolResultErrorCode`."""
    return _block(tool_use_id, {"type": "web_fetch_tool_result_error", "error_code": error_code})


def _block(tool_use_id: str, content: Any) -> dict[str, Any]:
    return {"type": RESULT, "tool_use_id": tool_use_id, "content": content, "caller": {"type": "direct"}}
