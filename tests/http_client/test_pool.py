"""Requests over pooled connections: whose answer is whose, what is bounded, and what becomes of a connection."""

import asyncio
import gc
import gzip
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from llama_stack_messages_provider.http_client.failures import (
    ConnectTimeoutError,
    DisconnectedError,
    HeadTimeoutError,
    NotHttpError,
    ProxyError,
)
from llama_stack_messages_provider.http_client.pool import DIRECT, Pool, Route
from llama_stack_messages_provider.http_client.response import Response, media_type
from tests.support.tls import self_signed

type Script = Callable[[Any, bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers requests by a script, which gets this server, the head of a request, and the two ends of its connection.

    Attributes:
        heads: What was asked for.
        connections: How many there were.
        open: How many there are.
        reads_bodies: Whether bodies are read, before the script is asked.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heads: list[str] = []
        self.connections = self.open = 0
        self.reads_bodies = True
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.heads.append(head.decode())
                    body = await reader.readexactly(length_of(head)) if self.reads_bodies else b""
                    await self.script(self, body, reader, writer)
        finally:
            self.open -= 1
            writer.close()


def length_of(head: bytes) -> int:
    _, found, rest = head.decode().lower().partition("content-length: ")
    return int(rest.split("\r\n")[0]) if found else 0


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    state = Server(script)
    server = await asyncio.start_server(state.connected, "127.0.0.1", 0, ssl=tls)
    state.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def pooled(**options: Any) -> AsyncIterator[Pool]:
    pool = Pool(asyncio.get_running_loop(), {"accept": "*/*"}, **options)
    try:
        yield pool
    finally:
        await pool.close()


async def ask(pool: Pool, url: str, body: bytes | None = b"", route: Route = DIRECT, **more: Any) -> Response:
    options: dict[str, Any] = {"headers": {}, "connect_seconds": 5, "head_seconds": 5, **more}
    return await pool.request("POST", url, body=body, route=route, **options)


async def whole(response: Response) -> bytes:
    pieces = []
    while piece := await response.read():
        pieces.append(piece)
    return b"".join(pieces)


def sent(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    named = {"content-length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def echo(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(sent(body))


def writing(*pieces: bytes, closes: bool = False) -> Script:
    async def script(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if closes:
            writer.close()

    return script


# --- connections ---


async def test_each_request_gets_its_own_answer_and_connections_are_used_again() -> None:
    async with serving(echo) as server, pooled() as pool:

        async def client(number: int) -> None:
            for n in range(40):
                body = b"%d of %d " % (n, number) * 50
                assert await whole(await ask(pool, server.url, body)) == body

        await asyncio.gather(*map(client, range(25)))
        assert len(server.heads) == 1000
        assert server.connections <= 25


async def test_who_gives_up_after_an_answer_takes_nobody_else_s_connection() -> None:
    async with serving(echo) as server, pooled() as pool:
        await ask(pool, server.url, b"first")
        first = asyncio.create_task(ask(pool, server.url, b"second"))
        while len(server.heads) < 2:
            await asyncio.sleep(0)
        while not pool._idle[next(iter(pool._idle))]:  # until the answer is there, and its asker not yet awake
            await asyncio.sleep(0)
        first.cancel()
        third = asyncio.create_task(ask(pool, server.url, b"third"))
        await asyncio.wait([first])
        assert await whole(await third) == b"third"
        assert server.connections == 1


async def test_who_gives_up_before_an_answer_closes_the_connection() -> None:
    async def never(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(never) as server, pooled() as pool:
        asking = asyncio.create_task(ask(pool, server.url))
        while not server.heads:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        async with asyncio.timeout(5):
            while server.open:
                await asyncio.sleep(0.01)


async def test_a_response_that_is_closed_half_way_closes_its_connection() -> None:
    async with serving(writing(b"HTTP/1.1 200 OK\r\n\r\nhalf")) as server, pooled() as pool:
        response = await ask(pool, server.url)
        assert await response.read() == b"half"
        response.close()
        assert await response.read() == b""
        async with asyncio.timeout(5):
            while server.open:
                await asyncio.sleep(0.01)


async def test_a_connection_that_nobody_uses_is_closed_after_a_time() -> None:
    async with serving(echo) as server, pooled(kept_seconds=0.05) as pool:
        await ask(pool, server.url)
        async with asyncio.timeout(5):
            while server.open:
                await asyncio.sleep(0.01)
        assert not pool._idle
        assert await whole(await ask(pool, server.url, b"again")) == b"again"


@pytest.mark.parametrize(
    "answer",
    [
        sent(b"ok", connection="close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        sent(b"ok") + sent(b"not asked for"),
        sent(b"ok") + b"junk",
    ],
    ids=["close", "HTTP/1.0", "two answers", "junk behind"],
)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(answer: bytes) -> None:
    async with serving(writing(answer)) as server, pooled() as pool:
        for _ in range(3):
            assert await whole(await ask(pool, server.url)) == b"ok"
        assert server.connections == 3


@pytest.mark.parametrize("waits", [False, True], ids=["behind an answer", "later"])
async def test_the_beginning_of_an_answer_that_nobody_asked_for_ends_the_connection(waits: bool) -> None:
    later = asyncio.Event()

    async def script(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unasked = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx: "
        writer.write(sent(b"ok") if waits else sent(b"ok") + unasked)
        if waits:
            await later.wait()
            writer.write(unasked)
        await reader.read()

    async with serving(script) as server, pooled() as pool:
        for _ in range(2):
            assert await whole(await ask(pool, server.url)) == b"ok"
            later.set()
            async with asyncio.timeout(5):
                while server.open:
                    await asyncio.sleep(0.01)


async def test_connections_are_looked_at_when_the_oldest_is_due() -> None:
    async with serving(echo) as server, pooled(kept_seconds=0.2) as pool:
        await asyncio.gather(ask(pool, server.url), ask(pool, server.url))
        await asyncio.sleep(0.1)
        await ask(pool, server.url)
        async with asyncio.timeout(5):
            while server.open == 2:
                await asyncio.sleep(0.01)
        [[younger]] = pool._idle.values()
        assert pool._sweep is not None
        assert pool._sweep.when() == pytest.approx(younger.idle_since + 0.2)


# --- a pool that is closed ---


async def test_a_request_is_not_sent_again_when_its_pool_is_closed() -> None:
    async def script(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(server.heads) == 1:
            writer.write(sent(b"ok"))
        else:
            await reader.read()

    async with serving(script) as server, pooled() as pool:
        await ask(pool, server.url)
        asking = asyncio.create_task(ask(pool, server.url))
        while len(server.heads) < 2:
            await asyncio.sleep(0)
        await pool.close()
        with pytest.raises(DisconnectedError):
            await asking
        assert server.connections == 1


async def test_a_connection_that_was_being_made_is_not_kept_by_a_closed_pool() -> None:
    async with serving(echo) as server, pooled() as pool:
        asking = asyncio.create_task(ask(pool, server.url, b"late"))
        await asyncio.sleep(0)
        await pool.close()
        assert await whole(await asking) == b"late"
        assert not pool._idle


async def test_a_body_that_a_closed_pool_cuts_is_no_whole_one() -> None:
    async with serving(writing(b"HTTP/1.1 200 OK\r\n\r\nhalf")) as server, pooled() as pool:
        response = await ask(pool, server.url)
        assert await response.read() == b"half"
        await pool.close()
        with pytest.raises(DisconnectedError):
            await response.read()


# --- addresses ---


async def test_an_address_that_is_silent_is_passed_over() -> None:
    async with serving(echo) as server, pooled() as pool:
        port = int(server.url.rpartition(":")[2])
        with ExitStack() as opened:
            full = opened.enter_context(socket.socket())
            full.bind(("127.0.0.2", port))
            full.listen(0)
            for _ in range(4):  # the system answers no more than wait already
                waiting = opened.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.2", port))
            route = Route(addresses=("127.0.0.2", "127.0.0.1"))
            assert await whole(await ask(pool, f"http://nobody.invalid:{port}", b"hi", route)) == b"hi"


async def test_a_name_whose_addresses_all_refuse_is_told_by_the_system_s_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both(host: str, port: int, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
    async with pooled() as pool:
        with pytest.raises(ConnectionRefusedError):
            await ask(pool, "http://two.invalid:1")


class FewOptions(asyncio.SelectorEventLoop):
    """Connects with what uvloop's `create_connection` knows."""

    async def create_connection(  # type: ignore[override]
        self,
        make: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: ssl.SSLContext | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
    ) -> Any:
        return await super().create_connection(  # type: ignore[call-overload]
            make, host, port, ssl=ssl, sock=sock, server_hostname=server_hostname
        )


def test_uvloop_will_do() -> None:
    async def asked() -> bytes:
        async with serving(echo) as server, pooled() as pool:
            return await whole(await ask(pool, server.url, b"hi"))

    with asyncio.Runner(loop_factory=FewOptions) as runner:
        assert runner.run(asked()) == b"hi"


async def test_an_answer_before_all_was_read_ends_the_connection() -> None:
    async with serving(writing(sent(b"too large", "413 Payload Too Large"))) as server, pooled() as pool:
        server.reads_bodies = False
        response = await ask(pool, server.url, b"x" * 30_000_000)
        assert (response.status, await whole(response)) == (413, b"too large")
        assert not any(pool._idle.values())


# --- heads and bodies ---


async def test_answers_before_the_answer_are_passed_over() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"
    async with serving(writing(early, sent(b"ok", x="1"))) as server, pooled() as pool:
        response = await ask(pool, server.url)
        assert (response.status, await whole(response)) == (200, b"ok")
        assert response.headers == {"content-length": "2", "x": "1"}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3;x=y\r\ncde\r\n0\r\ntrailer: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5  \r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nabcde",
        b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nabcde",
    ],
    ids=["chunked", "spaces and capitals", "line feeds", "no reason"],
)
@pytest.mark.parametrize("cut", [1, 1000])
async def test_a_body_is_read_however_it_is_cut(answer: bytes, cut: int) -> None:
    pieces = [answer[start : start + cut] for start in range(0, len(answer), cut)]
    async with serving(writing(*pieces)) as server, pooled() as pool:
        for _ in range(2):
            assert await whole(await ask(pool, server.url)) == b"abcde"
        assert server.connections == 1


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async with serving(writing(b"HTTP/1.1 200 OK\r\n\r\nall", closes=True)) as server, pooled() as pool:
        assert await whole(await ask(pool, server.url)) == b"all"


async def test_a_body_that_ends_before_all_of_the_request_was_read_is_whole() -> None:
    async def script(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Payload Too Large\r\n\r\ntoo large")
        writer.write_eof()
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1)
        writer.transport.abort()

    async with serving(script) as server, pooled() as pool:
        server.reads_bodies = False
        response = await ask(pool, server.url, b"x" * 30_000_000)
        assert (response.status, await whole(response)) == (413, b"too large")


async def test_chunks_that_stop_are_no_whole_body_whatever_else_is_said() -> None:
    twice = b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc"
    async with serving(writing(twice, closes=True)) as server, pooled() as pool:
        with pytest.raises(DisconnectedError):
            await whole(await ask(pool, server.url))


async def test_a_server_that_changes_the_protocol_ends_the_connection() -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    switching = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nx"
    async with serving(writing(switching)) as server, pooled() as pool:
        response = await ask(pool, server.url)
        assert (response.status, await whole(response)) == (101, b"")
        assert not pool._idle
    assert not failures


async def test_encodings_are_known_in_capitals() -> None:
    async with serving(writing(sent(gzip.compress(b"words"), content_encoding="GZip"))) as server, pooled() as pool:
        assert await whole(await ask(pool, server.url)) == b"words"


async def test_others_have_their_turn_while_much_is_unpacked() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(writing(sent(gzip.compress(b"x") * 5000, content_encoding="gzip"))) as server, pooled() as pool:
        response = await ask(pool, server.url)
        while not response.ended:
            await asyncio.sleep(0)
        running = asyncio.create_task(others())
        assert await whole(response) == b"x" * 5000
        running.cancel()
    assert turns > 10


async def test_a_body_that_is_too_short_is_no_whole_one() -> None:
    short = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"
    async with serving(writing(short, closes=True)) as server, pooled() as pool:
        response = await ask(pool, server.url)
        assert await response.read() == b"half"
        with pytest.raises(DisconnectedError):
            await response.read()
        assert response.read_whole() is None


async def test_what_nobody_reads_is_not_fetched() -> None:
    size, step = 64_000_000, 64_000
    written = 0

    async def script(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // step):
            writer.write(b"x" * step)
            written += step
            await writer.drain()

    async with serving(script) as server, pooled() as pool:
        response = await ask(pool, server.url)
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.2)
        assert response.unread < 1_000_000
        assert written < size // 2
        assert len(await whole(response)) == size


@pytest.mark.parametrize(
    "endless",
    [
        [b"HTTP/1.1 200 OK\r\nx: ", b"x" * 10_000],
        [b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 2000],
        [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 500],
    ],
    ids=["a header", "headers", "hints"],
)
async def test_a_head_without_an_end_is_no_answer(endless: list[bytes]) -> None:
    async with serving(writing(endless[0], *[endless[1]] * 20)) as server, pooled() as pool:
        with pytest.raises(NotHttpError):
            await ask(pool, server.url)


@pytest.mark.parametrize("endless", [b"trailer: 1\r\n" * 1000, b"x" * 10_000], ids=["trailers", "a trailer"])
async def test_what_follows_a_body_without_an_end_breaks_it_off(endless: bytes) -> None:
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    async with serving(writing(chunks, *[endless] * 20)) as server, pooled() as pool:
        with pytest.raises(NotHttpError):
            await whole(await ask(pool, server.url))


async def test_times_are_limited() -> None:
    async def slow(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await reader.read()

    async with serving(slow) as server, pooled() as pool:
        with pytest.raises(HeadTimeoutError):
            await ask(pool, server.url, head_seconds=0.1)
        with pytest.raises((ConnectTimeoutError, OSError)):  # where no network is, it is not even tried
            await ask(pool, "http://192.0.2.1", connect_seconds=0.1)


# --- what is sent ---


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nx: y", "a\rb", "a\0b"])
async def test_a_header_cannot_become_two(value: str) -> None:
    async with pooled() as pool:
        with pytest.raises(ValueError, match="line break"):
            await ask(pool, "http://127.0.0.1:9", headers={"x-key": value})


async def test_a_request_is_what_was_asked_for() -> None:
    async with serving(echo) as server, pooled() as pool:
        headers = {"Accept": "text/plain", "x-a": "ü"}
        assert await whole(await ask(pool, f"{server.url}/v1/x?a=b%20c#d", b"hi", headers=headers)) == b"hi"
        await ask(pool, server.url, None)
    host = server.url.removeprefix("http://")
    lines = ["POST /v1/x?a=b%20c HTTP/1.1", f"host: {host}", "accept: text/plain", "x-a: ü", "content-length: 2"]
    assert server.heads[0].split("\r\n") == [*lines, "", ""]
    assert "content-length" not in server.heads[1]
    assert server.heads[1].startswith("POST / HTTP/1.1\r\n")


@pytest.mark.parametrize("url", ["ftp://a.test", "http://", "nothing", "http://[::1", "http://a.test:99999"])
async def test_what_is_no_address_is_said(url: str) -> None:
    async with pooled() as pool:
        with pytest.raises(ValueError, match=r".+"):
            await ask(pool, url)


async def test_addresses_stand_for_a_name() -> None:
    async with serving(echo) as server, pooled() as pool:
        port = server.url.rpartition(":")[2]
        route = Route(addresses=("127.0.0.2", "127.0.0.1"))
        assert await whole(await ask(pool, f"http://nobody.invalid:{port}", b"hi", route)) == b"hi"
    assert f"host: nobody.invalid:{port}" in server.heads[0]


def test_media_types_are_read() -> None:
    assert media_type({"content-type": 'Text/HTML; a=b; charset="UTF-8"'}) == ("text/html", "UTF-8")
    assert media_type({"content-type": "text/event-stream"}) == ("text/event-stream", None)
    assert media_type({}) == ("", None)


# --- TLS and proxies ---


def contexts(folder: Path, *hosts: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and that of a client who trusts it."""
    certificate, key = self_signed(folder, *hosts)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


async def test_certificates_are_judged(tmp_path: Path) -> None:
    tls, trusting = contexts(tmp_path)
    async with serving(echo, tls) as server, pooled() as pool:
        for route in (Route(trusting), Route(tls=False)):
            for body in (b"one", b"two"):
                assert await whole(await ask(pool, server.url, body, route)) == body
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(pool, server.url)
        assert server.connections == 2


async def test_a_full_name_is_judged_without_its_dot(tmp_path: Path) -> None:
    tls, trusting = contexts(tmp_path, "api.test")
    async with serving(echo, tls) as server, pooled() as pool:
        port = server.url.rpartition(":")[2]
        route = Route(trusting, addresses=("127.0.0.1",))
        assert await whole(await ask(pool, f"https://api.test.:{port}", b"hi", route)) == b"hi"
    assert f"host: api.test:{port}\r\n" in server.heads[0]


async def hands_on(server: Server, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A proxy that makes tunnels."""
    host, port = server.heads[-1].split()[1].split(":")
    behind, ahead = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    await asyncio.gather(copy(reader, ahead), copy(behind, writer))


async def test_a_proxy_makes_a_tunnel_for_tls(tmp_path: Path) -> None:
    tls, trusting = contexts(tmp_path)
    async with serving(echo, tls) as server, serving(hands_on) as proxy, pooled() as pool:
        route = Route(trusting, proxy.url.replace("://", "://me:p%40ss@"))
        for body in (b"one", b"two" * 100_000):
            assert await whole(await ask(pool, server.url, body, route)) == body
        assert (server.connections, proxy.connections) == (1, 1)
    target = server.url.removeprefix("https://")
    credentials = "proxy-authorization: Basic bWU6cEBzcw=="
    assert proxy.heads[0].split("\r\n") == [f"CONNECT {target} HTTP/1.1", f"host: {target}", credentials, "", ""]
    assert "proxy-authorization" not in server.heads[0]


@pytest.mark.parametrize(
    ("answer", "status"),
    [(sent(b"no", "407 Proxy Authentication Required"), 407), (b"SSH-2.0\r\n\r\n", None), (b"HTTP/1.1 2", None)],
    ids=["refused", "not HTTP", "cut"],
)
async def test_a_proxy_that_makes_no_tunnel_is_said(answer: bytes, status: int | None) -> None:
    async with serving(writing(answer, closes=True)) as proxy, pooled() as pool:
        with pytest.raises(ProxyError) as failure:
            await ask(pool, "https://nobody.invalid", route=Route(proxy=proxy.url))
    assert failure.value.status == status
    assert (failure.value.cause is None) == (status is not None)


async def test_a_proxy_that_is_not_there_is_said() -> None:
    async with pooled() as pool:
        for url in ("http://nobody.invalid", "https://nobody.invalid"):
            with pytest.raises(ProxyError) as failure:
                await ask(pool, url, route=Route(proxy="http://127.0.0.1:1"))
            assert isinstance(failure.value.cause, ConnectionRefusedError)


async def test_a_tunnel_to_an_address_of_ipv6_is_asked_for_in_brackets() -> None:
    async with serving(writing(sent(b"no", "403 Forbidden"), closes=True)) as proxy, pooled() as pool:
        with pytest.raises(ProxyError):
            await ask(pool, "https://[::1]:8443", route=Route(proxy=proxy.url))
    assert proxy.heads[0].startswith("CONNECT [::1]:8443 HTTP/1.1\r\nhost: [::1]:8443\r\n")


# --- memory ---


@pytest.mark.parametrize("is_up", [True, False], ids=["no answer", "refused"])
async def test_a_failure_keeps_nothing_of_its_request(is_up: bool) -> None:
    class Headers(dict[str, str]):
        """Can be watched."""

    async def fails(url: str) -> weakref.ref[Headers]:
        headers = Headers()
        with suppress(DisconnectedError, OSError):
            await ask(pool, url, headers=headers)
        return weakref.ref(headers)

    async with serving(writing(closes=True)) as server, pooled() as pool:
        gc.disable()
        try:
            watched = await fails(server.url if is_up else "http://127.0.0.1:1")
            await asyncio.sleep(0)  # the loop has let go of what woke this
            assert watched() is None
        finally:
            gc.enable()
