"""Connections to upstreams: pooled, tried again only where nothing was read, and bounded."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from llama_stack_messages_provider.errors import MessagesError, UpstreamError
from llama_stack_messages_provider.upstream.body import Timeouts
from llama_stack_messages_provider.upstream.connections import environment_proxy
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.failures import AnswerTooLargeError, ConnectionFailedError, NamedFailures
from llama_stack_messages_provider.upstream.sessions import ResponseLimits, Sessions, UpstreamResponse
from tests.support.tls import self_signed

TIMEOUTS = Timeouts(5, 5, 5)
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers the requests of each connection by script; what follows the script is good."""

    def __init__(self, *script: list[bytes]) -> None:
        self.script = list(script)
        self.heads: list[str] = []
        self.connections = 0
        self.port = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = self.script[self.connections] if self.connections < len(self.script) else [GOOD] * 9
        self.connections += 1
        with suppress(asyncio.IncompleteReadError):
            for answer in answers:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                await reader.readexactly(int(head.lower().split("content-length: ")[1].split("\r\n")[0]))
                writer.write(answer)
        writer.close()


@asynccontextmanager
async def serving(*script: list[bytes], limits: ResponseLimits | None = None) -> AsyncIterator[tuple[Server, Sessions]]:
    state = Server(*script)
    server = await asyncio.start_server(state.connected, "127.0.0.1", 0)
    state.port = server.sockets[0].getsockname()[1]
    sessions = Sessions(limits)
    try:
        yield state, sessions
    finally:
        await sessions.close()
        server.close()
        await server.wait_closed()


def endpoint(port: int, key: str | None = "sk") -> Endpoint:
    root = f"http://127.0.0.1:{port}"
    return Endpoint("p", root, root, f"{root}/v1", key)


async def post(server: Server, sessions: Sessions) -> UpstreamResponse:
    at = endpoint(server.port)
    return await sessions.fetch("POST", f"{at.root}/v1/x", at, TIMEOUTS, data=b"{}")


async def test_a_used_connection_that_closes_without_a_byte_is_tried_again() -> None:
    async with serving([GOOD, b""]) as (server, sessions):
        for _ in range(2):
            assert (await post(server, sessions)).status == 200
        assert len(server.heads) == 3
        assert server.connections == 2


async def test_a_used_connection_that_closes_within_its_answer_is_not() -> None:
    async with serving([GOOD, b"HTTP/1.1 2"]) as (server, sessions):
        await post(server, sessions)
        with pytest.raises(ConnectionFailedError, match="closed the connection without an answer"):
            await post(server, sessions)
        assert len(server.heads) == 2


async def test_a_fresh_connection_is_never_tried_again() -> None:
    async with serving([b""], [GOOD, b""], [b""]) as (server, sessions):
        with pytest.raises(ConnectionFailedError):
            await post(server, sessions)
        assert len(server.heads) == 1
        await post(server, sessions)
        with pytest.raises(ConnectionFailedError):  # the used one says nothing, then the fresh one says nothing
            await post(server, sessions)
        assert len(server.heads) == 4


async def test_an_upstream_sees_who_asks_and_gets_the_providers_key() -> None:
    async with serving() as (server, sessions):
        await post(server, sessions)
    head = server.heads[0].lower()
    assert "user-agent: llama-stack-messages-provider/" in head
    assert "accept: application/json" in head
    assert "authorization: bearer sk" in head
    assert "accept-encoding" not in head


async def test_a_netrc_beside_a_proxy_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine elsewhere.invalid login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving() as (server, sessions):
        monkeypatch.setenv("http_proxy", f"http://user:pw@127.0.0.1:{server.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        environment_proxy.cache_clear()
        root = "http://elsewhere.invalid"
        at = Endpoint("p", root, root, f"{root}/v1", "sk")
        response = await sessions.fetch("POST", f"{root}/v1/x", at, TIMEOUTS, data=b"{}")
    environment_proxy.cache_clear()
    assert response.status == 200
    head = server.heads[0].lower()
    assert "authorization: bearer sk" in head
    assert "proxy-authorization: basic " in head
    assert "host: elsewhere.invalid" in head


async def test_a_whole_answer_is_bounded() -> None:
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000
    async with serving([long], limits=ResponseLimits(answer=4000)) as (server, sessions):
        with pytest.raises(AnswerTooLargeError, match="longer than 4000 bytes"):
            await post(server, sessions)


async def test_what_came_while_the_loop_was_busy_came_in_time() -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"fir")
        time.sleep(0.5)  # others of this loop, who take longer than the limit
        await asyncio.sleep(0.1)
        writer.write(b"st.")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        sessions, at = Sessions(), endpoint(server.sockets[0].getsockname()[1])
        answer = await sessions.fetch("GET", f"{at.root}/x", at, Timeouts(5, 0.3, 0.3))
        await sessions.close()
    assert answer.body == b"first."


async def test_a_proxy_with_a_certificate_that_nobody_vouches_for_is_told(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
    async with server:
        sessions, root = Sessions(), "http://somewhere.invalid"
        at = Endpoint("p", root, root, root, proxy=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(ConnectionFailedError, match="its proxy: its TLS certificate is not trusted"):
            await sessions.fetch("GET", f"{root}/x", at, TIMEOUTS)
        await sessions.close()


def test_sessions_of_loops_that_are_gone_are_forgotten() -> None:
    sessions = Sessions()

    async def once() -> None:
        sessions.pool()

    for _ in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(once())
        loop.close()
    assert len(sessions._pools) == 1


@pytest.mark.parametrize(
    ("root", "reason"),
    [
        ("http://nobody.invalid", "its host name is not known"),
        ("http://127.0.0.1:1", "Connection refused"),
        ("http://", "its address, or its proxy's, is not one that can be used"),
    ],
)
async def test_what_cannot_be_reached_is_told_by_provider_and_reason(root: str, reason: str) -> None:
    sessions = Sessions()
    at = Endpoint("my-provider", root, root, root)
    with pytest.raises(MessagesError) as caught:
        await sessions.fetch("POST", f"{root}/x", at, TIMEOUTS)
    await sessions.close()
    assert isinstance(caught.value, UpstreamError)
    assert caught.value.message == f"The upstream of provider 'my-provider' could not be reached: {reason}"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("The upstream's answer broke off", "The answer of provider 'p' broke off"),
        ("The upstream answered with status 502", "The upstream of provider 'p' answered with status 502"),
        ("The upstream of provider 'q' could not be reached", "The upstream of provider 'q' could not be reached"),
        ("CUDA out of memory", "CUDA out of memory"),
    ],
)
def test_a_failure_names_the_provider_whose_it_is(said: str, told: str) -> None:
    with pytest.raises(UpstreamError) as caught, NamedFailures("p"):
        raise UpstreamError(said)
    assert caught.value.message == str(caught.value) == told
