"""`McpServer`: a real MCP server of the `mcp` package on 127.0.0.1, in a thread, that may want a token.

```
with McpServer("docs", token="secret") as docs:
    docs.url                     # streamable HTTP; `docs.events_url` is the older transport
    docs.calls                   # the tools that were called, with the tokens that came with them
    docs.listed                  # how often it was asked for its tools
```
"""

import asyncio
import base64
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import orjson
import uvicorn
from mcp.server.fastmcp import Context, FastMCP
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)
from pydantic import AnyUrl

__all__ = ["PIXEL", "McpServer"]

PIXEL = base64.b64encode(b"\x89PNG not quite").decode()
_START_SECONDS = 30.0


class McpServer:
    """A server with tools for each way in which a call can end; a context manager.

    Args:
        name: What its tools say that they are of.
        tokens: The tokens that it takes; none: it takes all requests.
        tells_tokens: Whether it lists other tools for each token: a search, and one that is named for the token.
    """

    def __init__(self, name: str, *tokens: str, tells_tokens: bool = False) -> None:
        self.name = name
        self._tells_tokens = tells_tokens
        self.tokens = tokens
        self.calls: list[tuple[str, str | None]] = []
        self.searches: list[tuple[str, float]] = []
        """What was searched for, and when, by `time.monotonic`."""
        self.sessions: list[int] = []
        self.methods: list[str] = []
        self.listed = 0
        self.away = "http://127.0.0.1:1/mcp"
        """Where `/away` redirects to."""
        self.released = threading.Event()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.events_url = f"http://127.0.0.1:{self.port}/sse"
        self._mcp = FastMCP(name, log_level="ERROR")
        self._add_tools()
        self._add_more()

    def _add_tools(self) -> None:
        @self._mcp.tool(description=f"Searches the {self.name}.")
        async def search(query: str, context: Context[Any, Any, Any]) -> list[TextContent]:
            self.sessions.append(id(context.session))
            self.searches.append((query, time.monotonic()))
            asked = context.request_context.request
            token = asked.headers.get("authorization", "").removeprefix("Bearer ") if asked is not None else ""
            return [TextContent(type="text", text=f"{self.name} on {query}" + (f" for {token}" if token else ""))]

        @self._mcp.tool()
        async def fail(why: str) -> str:
            raise ValueError(why)

        @self._mcp.tool()
        async def stall() -> str:
            while not self.released.is_set():
                await asyncio.sleep(0.05)
            return "late"

        @self._mcp.tool()
        async def large(size: int) -> list[TextContent]:
            return [TextContent(type="text", text="x" * size)]

        @self._mcp.tool()
        async def picture() -> list[TextContent | ImageContent | EmbeddedResource]:
            uri = AnyUrl("file:///notes.txt")
            return [
                TextContent(type="text", text="Look:"),
                ImageContent(type="image", data=PIXEL, mimeType="image/png"),
                EmbeddedResource(
                    type="resource", resource=TextResourceContents(uri=uri, mimeType="text/plain", text="Notes.")
                ),
                EmbeddedResource(
                    type="resource", resource=BlobResourceContents(uri=uri, mimeType="application/zip", blob="AAAA")
                ),
            ]

        @self._mcp.tool()
        async def broken() -> CallToolResult:
            said = TextContent(type="text", text="not what the schema says")
            return CallToolResult(content=[said], structuredContent={"a": 1})

        @self._mcp.tool()
        async def die() -> str:
            """Never gets that far: the connection breaks first."""
            return ""

    def _add_more(self) -> None:
        @self._mcp.prompt()
        def about(topic: str) -> str:
            return f"What of {topic}?"

        @self._mcp.resource("file:///notes.txt", mime_type="text/plain")
        def notes() -> str:
            return f"Notes of the {self.name}."

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._streamable(scope, receive, send)
            return
        self.methods.append(scope["method"])
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        token = headers.get("authorization", "").removeprefix("Bearer ") or None
        if self.tokens and token not in self.tokens:
            await _answer(send, 401, b"{}")
            return
        body = b""
        if scope["method"] == "POST":
            body = await _body(receive)
            receive = _again(body, receive)
        if await self._seen(body, token, send):
            return
        if scope["path"] == "/away":
            location = [(b"location", self.away.encode()), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 307, "headers": location})
            await send({"type": "http.response.body", "body": b""})
            return
        app = self._events if scope["path"].startswith(("/sse", "/messages")) else self._streamable
        await app(scope, receive, send)

    async def _seen(self, body: bytes, token: str | None, send: Any) -> bool:
        """Remember a request; whether it has been answered."""
        message = orjson.loads(body) if body.startswith(b"{") else {}
        if message.get("method") == "tools/list":
            self.listed += 1
            if self._tells_tokens:
                tools = [_listed("search", "A search."), _listed(f"search_{token}", f"Only for {token}.")]
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"tools": tools}}
                await _answer(send, 200, orjson.dumps(answer))
                return True
        if message.get("method") == "tools/call":
            self.calls.append((message["params"]["name"], token))
            if message["params"]["name"] == "die":
                await _start(send, 200, b"text/event-stream")
                await send({"type": "http.response.body", "body": b"event: mess", "more_body": True})
                raise ConnectionAbortedError
        return False

    def forget(self) -> None:
        """What was called, and listed."""
        self.calls.clear()
        self.searches.clear()
        self.sessions.clear()
        self.methods.clear()
        self.listed = 0

    def forget_sessions(self) -> None:
        """As a server that was started anew."""
        self._mcp.session_manager._server_instances.clear()

    def __enter__(self) -> Self:
        self._streamable: Any = self._mcp.streamable_http_app()
        self._events: Any = self._mcp.sse_app()
        config = uvicorn.Config(
            self._app, "127.0.0.1", self.port, log_level="critical", lifespan="on", interface="asgi3"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = threading.Event()
        for _ in range(int(_START_SECONDS / 0.02)):
            if self._server.started:
                return self
            deadline.wait(0.02)
        raise TimeoutError("the MCP server did not start")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.should_exit = True
        self._thread.join(10)


def _listed(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"query": {"type": "string"}}}
    return {"name": name, "description": description, "inputSchema": schema}


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Any) -> Any:
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Any:
        return pieces.pop() if pieces else await receive()

    return read


async def _start(send: Any, status: int, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})


async def _answer(send: Any, status: int, body: bytes) -> None:
    await _start(send, status, b"application/json")
    await send({"type": "http.response.body", "body": body})
