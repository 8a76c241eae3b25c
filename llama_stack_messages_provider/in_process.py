"""Transports for the SDK's HTTP client that reach a stack in the same process: the routes answer as over HTTP, streams
event by event. (The transport that comes with the HTTP client joins a whole answer before it gives any of it.)
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import httpx2
from fastapi import FastAPI

from llama_stack_messages_provider.host.library_client import with_provider_data
from llama_stack_messages_provider.http.routes import create_router, model_routes

__all__ = ["AsyncInProcessTransport", "InProcessTransport"]

type App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
type Message = dict[str, Any]

# Pieces of an answer that wait for a reader; a producer that is further ahead waits itself.
_WAITING = 64


def _app_of(messages: Any) -> App:
    app = FastAPI(openapi_url=None)
    app.include_router(create_router(messages))
    app.router.routes.extend(model_routes(messages))
    return app


class _Call:
    """One request to an app, in a task of its own.

    Args:
        app: The app.
        request: The request, without its body.
        body: Its body.
    """

    def __init__(self, app: App, request: httpx2.Request, body: bytes) -> None:
        self._app = app
        self._request = request
        self._incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self._outgoing: asyncio.Queue[Message | None] = asyncio.Queue(_WAITING)
        self._left = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def response(self) -> httpx2.Response:
        """The answer, once its headers are there."""
        try:
            start = await self._outgoing.get()
        except asyncio.CancelledError:
            await self.leave()
            raise
        if start is None:
            self._task.result()
            raise RuntimeError("the app did not answer")
        return httpx2.Response(start["status"], headers=start["headers"], stream=_Body(self), request=self._request)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the answer."""
        while (message := await self._outgoing.get()) is not None:
            if body := message.get("body", b""):
                yield bytes(body)
        self._task.result()

    async def leave(self) -> None:
        """Go away, which cancels what is not done."""
        self._left.set()
        if not self._task.done():
            self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # nobody is left to be told

    async def _run(self) -> None:
        url = self._request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "server": (url.host, url.port),
            "client": ("127.0.0.1", 0),
            "root_path": "",
        }
        try:
            with with_provider_data(self._request.headers):
                await self._app(scope, self._receive, self._outgoing.put)
        finally:
            if not self._left.is_set():
                await self._outgoing.put(None)

    async def _receive(self) -> Message:
        if self._incoming:
            return self._incoming.pop()
        await self._left.wait()
        return {"type": "http.disconnect"}


class _Body(httpx2.AsyncByteStream):
    """The body of an answer; closing it early cancels the request."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._call.pieces()

    async def aclose(self) -> None:
        """Go away."""
        await self._call.leave()


class AsyncInProcessTransport(httpx2.AsyncBaseTransport):
    """Requests to a stack in the running event loop.

    Args:
        messages: The stack's implementation of the Messages API.
    """

    def __init__(self, messages: Any) -> None:
        self._app = _app_of(messages)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        return await _Call(self._app, request, await request.aread()).response()


class InProcessTransport(httpx2.BaseTransport):
    """Requests to a stack in an event loop of its own, in a thread: any thread may send some at any time.

    Args:
        messages: The stack's implementation of the Messages API.
    """

    def __init__(self, messages: Any) -> None:
        self._messages = messages
        self._app = _app_of(messages)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="messages-in-process", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether its loop is gone."""
        return self._loop.is_closed()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        response = self.run(self._send(request, request.read()))
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=_SyncBody(self, response), request=request
        )

    async def _send(self, request: httpx2.Request, body: bytes) -> httpx2.Response:
        return await _Call(self._app, request, body).response()

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives that runs in the transport's loop."""
        if self.closed:
            work.close()
            raise RuntimeError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close the connections to upstreams, and end the thread."""
        if self.closed:
            return
        self.run(self._messages.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _SyncBody(httpx2.SyncByteStream):
    """The body of an answer that another thread's loop produces."""

    def __init__(self, transport: InProcessTransport, response: httpx2.Response) -> None:
        self._transport = transport
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        pieces = self._response.aiter_raw()
        while (piece := self._transport.run(_next(pieces))) is not None:
            yield piece

    def close(self) -> None:
        """Go away."""
        if not self._transport.closed:
            self._transport.run(self._response.aclose())


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)
