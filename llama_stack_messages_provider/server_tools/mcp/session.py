"""A session with an MCP server, by the client of the `mcp` package: streamable HTTP, or server-sent events as before.

`mcp` opens cancel scopes that belong to the task that opened them. So each session has a task of its own, which opens
and closes it; others call through it and never enter its scopes. A session ends with the message that it was opened
for, or is ended by its task when that is late.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from mcp import ClientSession, McpError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED, CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest

from llama_stack_messages_provider.server_tools.mcp.guarded_http import Resolve, http_client

__all__ = ["Endpoint", "McpSession", "ServerFailedError", "listed"]

_PAGES = 50
_CLOSE_SECONDS = 2.0
# Of a session that nobody closed.
_LONGEST_SECONDS = 3600.0
# A server of the older transport has no such endpoint.
_OLDER = frozenset({400, 404, 405, 406, 415})


class ServerFailedError(Exception):
    """A server that cannot be used; the text says why, without a word of the request.

    Attributes:
        status: The HTTP status that it answered with; 0 for none.
        lost: Whether the session is of no more use.
    """

    def __init__(self, reason: str, status: int = 0, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is, and how it is reached.

    Args:
        url: Its URL.
        token: Goes with each request.
        resolve: Says where its host may be connected to; None: anywhere.
        most_bytes: Its largest answer.
        seconds: For one answer to begin, or to go on.
    """

    url: str
    token: str | None = field(repr=False)
    resolve: Resolve | None
    most_bytes: int
    seconds: float

    def client(self) -> Any:
        """An HTTP client for it."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return http_client(headers, self.resolve, most_bytes=self.most_bytes, seconds=self.seconds)


class McpSession:
    """A session with a server, opened when it is needed, and anew where it was lost.

    Args:
        endpoint: The server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: asyncio.Future[ClientSession] | None = None
        self._closing = asyncio.Event()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a tool answers, as a `CallToolResult` of MCP in JSON.

        Raises:
            ServerFailedError: It does not.
        """
        try:
            with _failures():
                session = await self._session()
                # `call_tool` holds the answer against a schema of the server's own choice, with its patterns and links.
                params = CallToolRequestParams(name=tool, arguments=dict(arguments))
                result = await session.send_request(ClientRequest(CallToolRequest(params=params)), CallToolResult)
        except ServerFailedError as exc:
            if exc.lost:  # others may still wait for its answers
                self._ready = None
            raise
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def tools(self, *, most: int) -> list[dict[str, Any]]:
        """The tools of the server, as blocks list them.

        Args:
            most: As many are listed.

        Raises:
            ServerFailedError: It lists none, or too many.
        """
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        with _failures():
            session = await self._session()
            for _ in range(_PAGES):
                page = await session.list_tools(cursor)
                found += [_tool(tool) for tool in page.tools]
                cursor = page.nextCursor
                if not cursor or len(found) > most:
                    break
        if cursor or len(found) > most:
            raise ServerFailedError(f"it lists more than {most} tools")
        return found

    async def close(self) -> None:
        """Let the session end: its task sees to it."""
        self._closing.set()
        for task in self._tasks:
            asyncio.get_running_loop().call_later(_CLOSE_SECONDS, task.cancel)

    async def _session(self) -> ClientSession:
        if self._ready is None or self._tasks[-1].done():
            self._ready = asyncio.get_running_loop().create_future()
            self._tasks.append(asyncio.create_task(self._live(self._ready)))
        return await asyncio.shield(self._ready)

    async def _live(self, ready: "asyncio.Future[ClientSession]") -> None:
        try:
            async with _opened(self._endpoint) as session:
                ready.set_result(session)
                async with asyncio.timeout(_LONGEST_SECONDS):
                    await self._closing.wait()
        except Exception as exc:
            if not ready.done():
                ready.set_exception(exc)
        finally:
            if not ready.done():
                ready.set_exception(ServerFailedError("the session has ended"))
            ready.exception()  # whoever wanted it may be gone


@asynccontextmanager
async def _opened(endpoint: Endpoint) -> AsyncGenerator[ClientSession]:
    """A session by whichever transport the server speaks."""
    try:
        async with _by_streamable_http(endpoint) as session:
            yield session
            return
    except* McpError as group:
        if not any(_status(exc) in _OLDER for exc in _leaves(group)):
            raise
    async with _by_events(endpoint) as session:
        yield session


@asynccontextmanager
async def _by_streamable_http(endpoint: Endpoint) -> AsyncGenerator[ClientSession]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(endpoint.client())
        read, write, _ = await stack.enter_async_context(streamable_http_client(endpoint.url, http_client=client))
        session = await stack.enter_async_context(ClientSession(read, write))
        await session.initialize()
        yield session


@asynccontextmanager
async def _by_events(endpoint: Endpoint) -> AsyncGenerator[ClientSession]:
    async with AsyncExitStack() as stack:
        transport = sse_client(endpoint.url, httpx_client_factory=lambda *_, **__: endpoint.client())
        read, write = await stack.enter_async_context(transport)
        session = await stack.enter_async_context(ClientSession(read, write))
        await session.initialize()
        yield session


async def listed(endpoint: Endpoint, *, most: int, seconds: float) -> list[dict[str, Any]]:
    """The tools of a server, in a session for that alone.

    Args:
        endpoint: The server.
        most: As many are listed.
        seconds: As long it may take.

    Raises:
        ServerFailedError: It lists none.
    """
    session = McpSession(endpoint)
    try:
        async with asyncio.timeout(seconds):
            return await session.tools(most=most)
    except TimeoutError:
        raise ServerFailedError(f"it took longer than {seconds:g} s") from None
    finally:
        await session.close()


def _tool(tool: Any) -> dict[str, Any]:
    description = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **description, "input_schema": dict(tool.inputSchema or {})}


@contextmanager
def _failures() -> Iterator[None]:
    """Whatever a server's failure is told by becomes a `ServerFailedError`."""
    try:
        yield
    except (TimeoutError, ServerFailedError):
        raise
    except Exception as error:
        exc = next(_leaves(error))
        raise ServerFailedError(_reason(exc), _status(exc), lost=_is_lost(exc)) from exc


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _leaves(each)
    else:
        yield exc


def _is_lost(exc: BaseException) -> bool:
    """Whether a session ended: the server does not know it any more, or its stream of events is closed."""
    if isinstance(exc, anyio.ClosedResourceError | anyio.BrokenResourceError) or _status(exc) == httpx.codes.NOT_FOUND:
        return True
    return isinstance(exc, McpError) and exc.error.code == CONNECTION_CLOSED and exc.error.data is None


def _reason(exc: BaseException) -> str:
    if isinstance(exc, McpError):
        return exc.error.message
    if isinstance(exc, httpx.HTTPStatusError):
        return f"it answered with status {exc.response.status_code}"
    if isinstance(exc, httpx.HTTPError):
        return "no connection"
    return f"its answer is not understood ({type(exc).__name__})"


def _status(exc: BaseException) -> int:
    if isinstance(exc, httpx.HTTPStatusError):
        return exc.response.status_code
    data = exc.error.data if isinstance(exc, McpError) else None
    status = data.get("status") if isinstance(data, dict) else None
    return status if isinstance(status, int) else 0
