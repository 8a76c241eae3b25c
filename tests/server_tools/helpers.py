"""A stack that searches, and the parts of requests that do."""

from types import SimpleNamespace
from typing import Any

from llama_stack_messages_provider.config import (
    AdvisorConfig,
    CodeExecutionConfig,
    McpConfig,
    MessagesConfig,
    WebFetchConfig,
    WebSearchConfig,
)
from llama_stack_messages_provider.documents.pages import WebPages
from llama_stack_messages_provider.documents.resolve import documents_of
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import NotFoundError
from llama_stack_messages_provider.server_tools.advisor import Advisor, Ask
from llama_stack_messages_provider.server_tools.code_execution import CodeExecution
from llama_stack_messages_provider.server_tools.fetch_runtime import WebFetch
from llama_stack_messages_provider.server_tools.mcp.connector import McpConnector
from llama_stack_messages_provider.server_tools.plain import plain_request
from llama_stack_messages_provider.server_tools.registry import ServerTools
from llama_stack_messages_provider.server_tools.search_runtime import WebSearch
from llama_stack_messages_provider.server_tools.tool import ServerTool
from llama_stack_messages_provider.server_tools.tool_search import ToolSearch
from llama_stack_messages_provider.server_tools.web_search import SearchResult, result_block
from tests.support.wire import Json

ALLOWED_SERVER = "https://mcp.test/mcp"
"""Of an MCP server that nobody connects to: its tools are pinned."""
TOOL: Json = {"type": "web_search_20250305", "name": "web_search"}
OTTERS = SearchResult("https://otters.test/a", "Otters", "They swim.")
READ = '<search_result source="https://otters.test/a" title="Otters">\nThey swim.\n</search_result>'


class Runtime:
    """The host's tool runtime, as far as a search needs it; it remembers what was searched for."""

    def __init__(self) -> None:
        self.routing_table = self
        self.tool_to_toolgroup = {"web_search": "websearch", "run_python": "python", "run_bash": "python"}
        self.queries: list[str] = []

    async def get_object_by_identifier(self, kind: str, name: str) -> str:
        return f"{kind}/{name}"

    async def invoke_tool(self, name: str, arguments: Json) -> Any:
        self.queries.append(arguments["query"])
        content = f'{{"url": "{OTTERS.url}", "title": "{OTTERS.title}", "content": "{OTTERS.text}"}}'
        return SimpleNamespace(content=content, error_message=None, error_code=None)


async def no_advice(request: Json) -> Json:
    raise NotFoundError


def server_tools(runtime: Runtime | None = None, ask: Ask | None = None, pages: WebPages | None = None) -> ServerTools:
    servers = McpConnector(McpConfig(allow=[ALLOWED_SERVER]))
    runtime = runtime or Runtime()
    code = CodeExecution(runtime, servers, CodeExecutionConfig(tool="run_python", bash="run_bash"))
    fetch = WebFetchConfig(enabled=True)
    advisor = Advisor(AdvisorConfig())
    advisor.ask = ask or no_advice
    pages = pages or documents_of(MessagesConfig(web_fetch=fetch)).pages
    return ServerTools(
        [WebSearch(runtime, WebSearchConfig()), ToolSearch(), WebFetch(pages, fetch), advisor, code], servers
    )


async def opened(
    request: Json,
    runtime: Runtime | None = None,
    dropped: DroppedFields | None = None,
    ask: Ask | None = None,
    pages: WebPages | None = None,
) -> tuple[Json, list[ServerTool]]:
    """The plain request, and its tools that are run here."""
    dropped = dropped or DroppedFields(strict=True)
    tools = await server_tools(runtime, ask, pages).open(request, dropped)
    return plain_request(request, tools, dropped), [tool for tool in tools.values() if tool is not None]


def searched(query: str = "otters", ident: str = "srvtoolu_1") -> Json:
    return {"type": "server_tool_use", "id": ident, "name": "web_search", "input": {"query": query}}


def found(*hits: SearchResult, ident: str = "srvtoolu_1") -> Json:
    return result_block(ident, hits, most_characters=1000)
