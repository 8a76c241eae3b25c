"""What goes to MCP servers, and what becomes of their answers, without a server."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import httpx
import orjson
import pytest

from llama_stack_messages_provider.documents.fetch import is_public
from llama_stack_messages_provider.server_tools.mcp.guarded_http import GuardedTransport, Resolve, public_addresses
from tests.support.wire import Json

CALL: Json = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {}}
EVENT = b'event: message\ndata: {"jsonrpc": "2.0", "id": 7, "result": {}}\n\n'
EVENTS = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}


class Pieces(httpx.AsyncByteStream):
    """A body in pieces, that may break."""

    def __init__(self, *pieces: bytes, broken: bool = False) -> None:
        self._pieces = pieces
        self._broken = broken

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._broken:
            raise httpx.ReadError("gone")


def answers(*pieces: bytes, broken: bool = False, status: int = 200, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers={**EVENTS, **named}, stream=Pieces(*pieces, broken=broken))


def client(
    answer: Callable[[httpx.Request], httpx.Response], resolve: Resolve | None = None, most: int = 1000
) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=GuardedTransport(httpx.MockTransport(answer), resolve, most))


async def read(response: httpx.Response, *, most: int = 1000, call: Json = CALL) -> Json:
    """The last message of JSON-RPC that the client of a server is given."""
    async with client(lambda _: response, most=most) as http:
        body = await (await http.post("http://a.test/mcp", json=call)).aread()
    last = body.strip().split(b"\n\n")[-1].split(b"data: ")[-1]
    return dict(orjson.loads(last))


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (answers(status=500), "it answered with status 500"),
        (answers(content_type="text/html"), "it answered with status 200 and content of type 'text/html'"),
        (answers(b"{", **{"content-type": "application/json"}), "its answer is not JSON"),
        (answers(b"x" * 1001, **{"content-type": "application/json"}), "larger than 1000 bytes"),
        (answers(b'{"a": ', broken=True, **{"content-type": "application/json"}), "the connection broke: gone"),
        (answers(content_encoding="gzip"), "the server sends its answer compressed"),
        (answers(), "it ended its answer without a result"),
        (answers(EVENT[:20]), "it ended its answer without a result"),
        (answers(EVENT[:20], broken=True), "the connection broke: gone"),
        (answers(b": hi\n\n", b"data: " + b"x" * 1000), "larger than 1000 bytes"),
    ],
)
async def test_every_call_is_answered(response: httpx.Response, words: str) -> None:
    message = await read(response)
    assert (message["id"], words in message["error"]["message"]) == (7, True)


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_events_go_through_whole(size: int) -> None:
    for body in (EVENT, EVENT.replace(b"\n", b"\r\n"), EVENT.replace(b"\n", b"\r")):
        response = answers(*(body[at : at + size] for at in range(0, len(body), size)))
        async with client(lambda _, given=response: given) as http:  # type: ignore[misc]
            given_on = await (await http.post("http://a.test/mcp", json=CALL)).aread()
        assert given_on.startswith(body)


async def test_answers_that_can_be_gone_on_with_are_not_failures() -> None:
    async with client(lambda _: answers(b"id: 1\ndata:\n\n")) as http:
        assert await (await http.post("http://a.test/mcp", json=CALL)).aread() == b"id: 1\ndata:\n\n"


async def test_what_is_no_call_is_handed_on() -> None:
    async with client(lambda _: answers(status=405)) as http:
        assert (await http.get("http://a.test/mcp")).status_code == 405
        assert (await http.post("http://a.test/mcp", json={"jsonrpc": "2.0", "result": {}})).status_code == 405


async def test_a_connection_goes_to_an_address_that_was_looked_at() -> None:
    seen: list[httpx.Request] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("xn--mnchen-3ya.test", 443)
        return ["192.0.2.1", "2001:db8::1"]

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ConnectError("refused")
        return answers(EVENT)

    async with client(answer, resolve) as http:
        await http.post("https://münchen.test/mcp?key=1", json=CALL)
    assert [str(each.url) for each in seen] == ["https://192.0.2.1/mcp?key=1", "https://[2001:db8::1]/mcp?key=1"]
    assert {each.headers["host"] for each in seen} == {"xn--mnchen-3ya.test"}
    assert {each.extensions["sni_hostname"] for each in seen} == {"xn--mnchen-3ya.test"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
async def test_other_addresses_are_not_connected_to(host: str) -> None:
    with pytest.raises(httpx.ConnectError, match="its address is not one that may be connected to"):
        await partial(public_addresses, is_public)(host, 80)


async def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(httpx.ConnectError, match="its name is not known"):
        await public_addresses(is_public, "no-such.invalid", 80)
