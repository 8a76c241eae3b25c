"""What `host/` relies on is there; each test says in a sentence what breaks when it is not."""

import asyncio
import inspect
import logging
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI
from llama_stack.core.server.auth import AuthenticationMiddleware
from llama_stack.core.server.routes import initialize_route_impls
from llama_stack.core.server.server import create_app
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from llama_stack_messages_provider.host.app import PUBLIC, has_authentication, put_first, wrap_middlewares
from llama_stack_messages_provider.host.uvicorn import (
    ServerSend,
    abort_connections,
    bound_exit,
    bound_heads,
    find_server,
    on_disconnect,
)


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """An app."""


def test_the_server_is_found_by_the_handler_of_its_signals() -> None:
    server = uvicorn.Server(uvicorn.Config(_nothing))
    assert find_server() is None
    with server.capture_signals():
        assert find_server() is server, "uvicorn's signal handler is no method of its server: no graceful shutdown"
        assert signal.getsignal(signal.SIGINT) == server.handle_exit
    assert find_server() is None


def test_a_server_asks_its_configuration_for_the_protocol_of_each_connection() -> None:
    source = inspect.getsource(uvicorn.Server.startup)
    assert "config.http_protocol_class(" in source, "uvicorn no longer reads http_protocol_class: heads have no limit"
    source = inspect.getsource(uvicorn.Server.shutdown)
    assert "self.config.timeout_graceful_shutdown" in source, "uvicorn's own timeout at its exit cannot be set any more"


def test_it_can_be_seen_whether_the_host_asks_who_its_users_are() -> None:
    app = FastAPI()
    assert not has_authentication(app)
    app.add_middleware(AuthenticationMiddleware, auth_config=None, impls={})
    assert has_authentication(app), "the host's auth is not seen among the app's middlewares: the status page is off"
    source = inspect.getsource(create_app)
    assert "add_middleware(AuthenticationMiddleware" in source, "the host's auth is another middleware by now"


def test_a_route_can_be_public() -> None:
    source = inspect.getsource(initialize_route_impls)
    assert "PUBLIC_ROUTE_KEY" in source, "the host knows no public routes: the status page cannot ask for a key"
    assert PUBLIC == {"x-public": True}


def test_a_server_says_how_many_processes_it_has() -> None:
    assert uvicorn.Config(_nothing, workers=3).workers == 3, "the status page does not know of other processes"


async def test_the_protocol_has_what_bounding_it_takes() -> None:
    config = uvicorn.Config(_nothing)
    config.load()
    server = uvicorn.Server(config)
    assert bound_heads(server, 100, lambda start, status, message: None), "uvicorn does not choose httptools"
    protocol = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})
    assert isinstance(protocol, HttpToolsProtocol)
    for name in ("cycle", "transport", "loop", "parser"):
        assert hasattr(protocol, name), f"uvicorn's protocol has no `{name}`: heads have no limit"
    for name in ("on_headers_complete", "on_body", "on_message_complete", "send_400_response", "data_received"):
        assert callable(getattr(HttpToolsProtocol, name, None)), f"uvicorn's protocol has no `{name}`"


async def test_a_piece_that_is_written_past_uvicorn_arrives_as_one_that_is_sent() -> None:
    """Over a real connection: the chunks of the body, and that uvicorn's own end follows them."""
    written = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        server = ServerSend(send)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"sent ", "more_body": True})
        written.append(server.write(b"written"))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve([listening]))
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{listening.getsockname()[1]}")
        server.should_exit = True
        await serving
    assert answer.content == b"sent written"
    assert written == [True], "uvicorn's cycle is not what it was: each streamed event costs a quarter more"


@asynccontextmanager
async def _connected(app: Any, log_level: str = "error") -> AsyncIterator[tuple[asyncio.StreamReader, Any]]:
    """A connection to a server of an app, which has ended afterwards."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, log_level=log_level, lifespan="off"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        serving = asyncio.create_task(server.serve([listening]))
        yield await asyncio.open_connection(*listening.getsockname())
        server.should_exit = True
        await serving


async def _raw_answer(app: Any, request: bytes, log_level: str = "error") -> bytes:
    """All that a server of an app writes for a request, until it closes the connection."""
    async with _connected(app, log_level) as (reader, writer):
        writer.write(request)
        answer = await reader.read()
        writer.close()
    return answer


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("length", [[], [(b"content-length", b"4")]], ids=["chunks", "a length"])
async def test_an_answer_that_is_begun_with_its_body_is_the_one_that_is_sent(
    method: str, length: list[tuple[bytes, bytes]]
) -> None:
    async def answer(begin: Any, send: Any) -> None:
        await begin({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"body"})

    async def held(scope: Any, receive: Any, send: Any) -> None:
        await answer(ServerSend(send).begin, send)

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, send)

    request = b"%b / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % method.encode()
    got, expected = await _raw_answer(held, request), await _raw_answer(plain, request)
    lines = [[line for line in each.split(b"\r\n") if not line.startswith(b"date:")] for each in (got, expected)]
    assert lines[0] == lines[1]


async def test_an_answer_that_is_begun_and_breaks_off_has_its_head() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await ServerSend(send).begin({"type": "http.response.start", "status": 200, "headers": []})

    answer = await _raw_answer(app, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_request_s_log_line_follows_the_answer_s_first_bytes(caplog: pytest.LogCaptureFixture) -> None:
    lines_before_the_end = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        server = ServerSend(send)
        await server.begin({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        lines_before_the_end.extend(caplog.messages)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    with caplog.at_level(logging.INFO, "uvicorn.access"):
        caplog.clear()
        await _raw_answer(app, b"GET /path HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", log_level="info")
    lines = [line for line in caplog.messages if '"GET /path HTTP/1.1" 200' in line]
    assert len(lines) == 1, "uvicorn's log of requests is elsewhere: the client waits for its line"
    assert lines[0] not in lines_before_the_end


async def _left(app: Any, body: bytes = b"") -> None:
    """A client sends a request, waits for the answer's first byte, and goes away."""
    async with _connected(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await reader.readexactly(1)
        writer.transport.abort()


async def _begin(receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})


@pytest.mark.parametrize("size", [0, 1_000_000], ids=["no body", "a body that pauses the reading"])
async def test_a_client_that_goes_away_is_told_without_a_task(size: int) -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.Event()

        def leave() -> None:
            told.append("once")
            gone.set()

        await _begin(receive, send)
        before = len(asyncio.all_tasks())
        stop = on_disconnect(receive, leave)
        assert stop is not None, "uvicorn's cycle is not what it was: each stream takes 2 KB more"
        assert len(asyncio.all_tasks()) == before
        async with asyncio.timeout(10):
            assert (await receive())["type"] == "http.disconnect"  # for others it is as it was
            await gone.wait()
        stop()

    await _left(app, b"x" * size)
    assert told == ["once"], "uvicorn does not set `message_event` when a client is gone: its upstream works on"


async def test_a_client_that_is_gone_already_is_told_unless_nobody_listens() -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await _begin(receive, send)
        assert (await receive())["type"] == "http.disconnect"
        for name, waits in (("late", True), ("stopped", False)):
            stop = on_disconnect(receive, partial(told.append, name))
            assert stop is not None
            if waits:
                await asyncio.sleep(0)
            stop()
            await asyncio.sleep(0)

    await _left(app)
    assert told == ["late"]


def test_connections_are_listed_and_can_be_dropped() -> None:
    dropped: list[str] = []

    class Transport:
        def abort(self) -> None:
            dropped.append("it")

    class Connection:
        transport = Transport()

    server = uvicorn.Server(uvicorn.Config(_nothing))
    server.server_state.connections.add(Connection())  # type: ignore[arg-type]
    abort_connections(server)
    assert dropped == ["it"], "uvicorn keeps its connections elsewhere: clients that do not read are waited for"


def test_the_host_s_own_timeout_of_the_exit_is_left_alone() -> None:
    for given, expected in ((None, 25), (7, 7)):
        server = uvicorn.Server(uvicorn.Config(_nothing, timeout_graceful_shutdown=given))
        bound_exit(server, 25.0)
        assert server.config.timeout_graceful_shutdown == expected


def test_middlewares_that_are_built_can_be_wrapped() -> None:
    app = FastAPI()
    assert not wrap_middlewares(app, lambda inner: inner)
    app.middleware_stack = app.build_middleware_stack()
    assert wrap_middlewares(app, lambda inner: _nothing), "FastAPI has no middleware_stack: x-api-key is not read"
    assert app.middleware_stack is _nothing


def test_the_routes_of_a_router_can_be_told_and_put_first() -> None:
    app, ours, others = FastAPI(), APIRouter(), APIRouter()
    for router in (others, ours):
        router.add_api_route("/a", lambda: None)
        app.include_router(router)
    put_first(app, ours)
    first = app.router.routes[0]
    assert getattr(first, "original_router", None) is ours, (
        "included routes do not name their router: requests are slower"
    )
