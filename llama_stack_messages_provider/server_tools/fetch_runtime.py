"""Pages that models have fetched by this server, where its operator switched that on."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llama_stack_messages_provider.batches.identity import current_identity
from llama_stack_messages_provider.config import WebFetchConfig
from llama_stack_messages_provider.documents.fetch import FetchError
from llama_stack_messages_provider.documents.html import can_read_html
from llama_stack_messages_provider.documents.pages import WebPages
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import OverloadedError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.rewriting.documents import fetched_text
from llama_stack_messages_provider.server_tools.one_name import OneName
from llama_stack_messages_provider.server_tools.prior_urls import stands_in
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult
from llama_stack_messages_provider.server_tools.web_fetch import (
    NAME,
    RESULT,
    FetchTool,
    error_block,
    failure_of,
    is_fetch_tool,
    result_block,
    url_of,
)

__all__ = ["WebFetch"]

logger = get_logger(name=__name__, category="providers")


class WebFetch:
    """The server's web fetch: a `ServerToolType`.

    Args:
        pages: Fetches pages; None where that is switched off.
        config: Its bounds.
    """

    def __init__(self, pages: WebPages | None, config: WebFetchConfig) -> None:
        self._pages = pages
        self._config = config

    @property
    def run_by(self) -> str | None:
        """Who fetches pages, in words; None where nobody does."""
        if self._pages is None:
            return None
        return "this provider" if can_read_html() else "this provider, but no HTML: the extra `web` is not installed"

    def defines(self, definition: Block) -> bool:
        """Whether a tool of a request is Anthropic's web fetch, of any version."""
        return is_fetch_tool(definition)

    async def available(self) -> bool:
        """Whether pages are fetched."""
        return self._pages is not None

    async def open(self, definition: Block, path: str, dropped: DroppedFields) -> "_Fetches":
        """The pages of a request."""
        assert self._pages is not None
        tool = FetchTool.of(definition, path)
        if (definition.get("citations") or {}).get("enabled"):
            dropped.drop(f"{path}.citations", "models that are run here do not cite")
        return _Fetches(self._pages, tool, self._config.characters)


class _Fetches(OneName):
    """The web fetch of one request: a `ServerTool`."""

    name = NAME
    usage_field = "web_fetch_requests"

    def __init__(self, pages: WebPages, tool: FetchTool, characters: int) -> None:
        self._pages = pages
        self._tool = tool
        self._characters = characters if tool.characters is None else min(characters, tool.characters)

    @property
    def definitions(self) -> Sequence[dict[str, Any]]:
        """The custom tool that the model is offered."""
        return [self._tool.definition]

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """The result of a fetch that is not made."""
        code = failure_of(call)
        if code is None and self._tool.max_uses is not None and uses >= self._tool.max_uses:
            code = "max_uses_exceeded"
        return error_block(call["id"], code) if code else None

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """The page; a failure is a result with an error code."""
        url = url_of(call)
        if not stands_in(url, request, self._tool.url_sources):
            return error_block(call["id"], "url_not_in_prior_context")
        identity = current_identity()
        try:
            page = await self._pages.read(url, self._tool.permits, identity.principal if identity else None)
        except FetchError as exc:
            logger.info("A page was not fetched", code=exc.code, reason=str(exc))
            return error_block(call["id"], exc.code)
        except OverloadedError:
            return error_block(call["id"], "too_many_requests")
        except Exception as exc:  # a page may be anything, and none ends a message
            logger.warning("A page was not fetched", error=repr(exc))
            return error_block(call["id"], "unavailable")
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return result_block(call["id"], page.url, page.title, page.text[: self._characters], now)

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """The page, if a block holds one."""
        content = block.get("content")
        if block.get("type") != RESULT or not isinstance(content, Mapping):
            return None
        if isinstance(code := content.get("error_code"), str):
            return PlainResult(f"The page was not fetched: {code}", is_error=True)
        try:
            return PlainResult(fetched_text(content, f"{path}.content", dropped))
        except (KeyError, TypeError, AttributeError):  # not the documented shape
            return None
