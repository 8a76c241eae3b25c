"""Web searches of messages, run by the stack's own tool runtime: Llama Stack's Brave, Bing and Tavily providers, or any
provider that has a tool of that name.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from llama_stack_messages_provider.config import WebSearchConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tool_runtime import may_use
from llama_stack_messages_provider.rewriting.documents import found_text
from llama_stack_messages_provider.server_tools.one_name import OneName
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult, answer_text
from llama_stack_messages_provider.server_tools.web_search import (
    NAME,
    RESULT,
    SearchTool,
    error_block,
    failure_of,
    hits_of,
    is_search_tool,
    result_block,
)

__all__ = ["WebSearch"]

logger = get_logger(name=__name__, category="providers")

_TOO_MANY_REQUESTS = 429


class WebSearch:
    """The stack's web search: a `ServerToolType`.

    Args:
        tools: The stack's tool runtime API; None if it has none.
        config: Which tool, and its bounds.
    """

    def __init__(self, tools: Any, config: WebSearchConfig) -> None:
        self._tools = tools
        self._config = config

    def defines(self, definition: Block) -> bool:
        """Whether a tool of a request is Anthropic's web search, of any version."""
        return is_search_tool(definition)

    async def available(self) -> bool:
        """Whether the stack can search, and the current user may."""
        return self._tools is not None and await may_use(self._tools, self._config.tool)

    async def open(self, definition: Block, path: str, dropped: DroppedFields) -> "_Searches":
        """The searches of a request."""
        return _Searches(self._tools, self._config, SearchTool.of(definition, path))


class _Searches(OneName):
    """The web search of one request: a `ServerTool`."""

    name = NAME
    usage_field = "web_search_requests"

    def __init__(self, tools: Any, config: WebSearchConfig, search: SearchTool) -> None:
        self._tools = tools
        self._config = config
        self._search = search

    @property
    def definitions(self) -> Sequence[dict[str, Any]]:
        """The custom tool that the model is offered."""
        return [self._search.definition]

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """The result of a search that is not made."""
        code = failure_of(call)
        if code is None and self._search.max_uses is not None and uses >= self._search.max_uses:
            code = "max_uses_exceeded"
        return error_block(call["id"], code) if code else None

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a search found; a failure is a result with an error code."""
        query = self._search.build_query(call["input"]["query"])
        try:
            async with asyncio.timeout(self._config.seconds):
                answer = await self._tools.invoke_tool(self._config.tool, {"query": query})
            if answer.error_message or answer.error_code:
                return _failed(call, answer.error_message, answer.error_code == _TOO_MANY_REQUESTS)
            hits = [hit for hit in hits_of(answer_text(answer.content)) if self._search.allows(hit)][
                : self._config.results
            ]
        except Exception as exc:  # a search service may answer anything, and no search ends a message
            return _failed(call, exc, _is_busy(exc))
        return result_block(call["id"], hits, most_characters=self._config.characters)

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """What was found, if a block says it."""
        if block.get("type") != RESULT:
            return None
        try:
            text, is_error = found_text(block["content"], f"{path}.content", dropped)
        except (KeyError, TypeError, AttributeError):  # not the documented shape
            return None
        return PlainResult(text, is_error)


def _failed(call: Mapping[str, Any], why: object, busy: bool) -> dict[str, Any]:
    logger.warning("A web search failed", error=repr(why))
    return error_block(call["id"], "too_many_requests" if busy else "unavailable")


def _is_busy(exc: Exception) -> bool:
    return isinstance(exc, httpx.HTTPStatusError) and exc.response.status_code == _TOO_MANY_REQUESTS
