"""Web searches of messages, run by the stack's own tool runtime: Llama Stack's Brave, Bing and Tavily providers, or any
provider that has a tool of that name.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
from llama_stack.log import get_logger

from llama_stack_messages_provider.config import WebSearchConfig
from llama_stack_messages_provider.server_tools.loop import Rounds
from llama_stack_messages_provider.server_tools.web_search import SearchTool, error_block, hits_of, result_block

__all__ = ["WebSearch"]

logger = get_logger(name=__name__, category="providers")

_AT_ONCE = 8
_TOO_MANY_REQUESTS = 429


class WebSearch:
    """The stack's web search.

    Args:
        tools: The stack's tool runtime API; None if it has none.
        config: Which tool, and its bounds.
    """

    def __init__(self, tools: Any, config: WebSearchConfig) -> None:
        self._tools = tools
        self._config = config

    @property
    def rounds(self) -> int:
        """Upstream turns after which a message is paused."""
        return self._config.rounds

    @property
    def exists(self) -> bool:
        """Whether the stack can search: the host knows the tools of its providers from its start on."""
        return self._tools is not None and self._config.tool in self._tools.routing_table.tool_to_toolgroup

    async def available(self) -> bool:
        """Whether the current user may search."""
        table = self._tools.routing_table
        return (
            await table.get_object_by_identifier("tool_group", table.tool_to_toolgroup[self._config.tool]) is not None
        )

    async def results(self, rounds: Rounds, stop_reason: str) -> list[dict[str, Any]]:
        """The `web_search_tool_result` blocks for the searches of a round, some at the same time."""
        due = rounds.due(stop_reason)
        made = [call for call, refusal in due if refusal is None]
        turn = asyncio.Semaphore(_AT_ONCE)
        found = iter(await asyncio.gather(*(self._result(rounds.search, call, turn) for call in made)))
        return [refusal or next(found) for _, refusal in due]

    async def _result(self, search: SearchTool, call: Mapping[str, Any], turn: asyncio.Semaphore) -> dict[str, Any]:
        """What a search found; a failure is a result with an error code."""
        try:
            async with turn, asyncio.timeout(self._config.seconds):
                answer = await self._tools.invoke_tool(
                    self._config.tool, {"query": search.asked(call["input"]["query"])}
                )
            if answer.error_message or answer.error_code:
                return _failed(call, answer.error_message, answer.error_code == _TOO_MANY_REQUESTS)
            hits = [hit for hit in hits_of(_text(answer.content)) if search.takes(hit)][: self._config.results]
        except Exception as exc:  # a search service may answer anything, and no search ends a message
            return _failed(call, exc, _is_busy(exc))
        return result_block(call["id"], hits, most_characters=self._config.characters)


def _failed(call: Mapping[str, Any], why: object, busy: bool) -> dict[str, Any]:
    logger.warning("A web search failed", error=repr(why))
    return error_block(call["id"], "too_many_requests" if busy else "unavailable")


def _is_busy(exc: Exception) -> bool:
    return isinstance(exc, httpx.HTTPStatusError) and exc.response.status_code == _TOO_MANY_REQUESTS


def _text(content: Any) -> str:
    """The text of a tool's answer: a string, an item, or a list of them."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(_text, content))
    return str(getattr(content, "text", "") or "")
