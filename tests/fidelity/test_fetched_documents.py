"""Documents given by URL: fetched with limits, never from an address that is not the public internet."""

import asyncio
import base64
import codecs
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

import anthropic
import pytest

from llama_stack_messages_provider.documents.fetch import (
    CHARSETS,
    DocumentFetcher,
    FetchLimits,
    allowing,
    is_public,
)
from llama_stack_messages_provider.documents.lookups import Lookups
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.document_refs import with_sources
from tests.conftest import Fleet
from tests.fidelity.documents import pdf
from tests.fidelity.matching import Has, differences
from tests.support.stack import Stack, openai_provider
from tests.support.upstream import FOREVER, ScriptedUpstream, raw_reply, silent_reply, stream_reply

type Json = dict[str, Any]

LIMITS = FetchLimits(seconds=5, size=100_000)
PUBLIC = "93.184.216.34"


def asks(*urls: str) -> Json:
    blocks = [{"type": "document", "source": {"type": "url", "url": url}} for url in urls]
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": blocks}]}


def source_of(request: Mapping[str, Any], index: int = 0) -> Json:
    source: Json = request["messages"][0]["content"][index]["source"]
    return source


async def here(host: str, port: int) -> Sequence[str]:
    """Every name is this machine."""
    return ["127.0.0.1"]


async def fetched_by(by: DocumentFetcher, request: Json) -> Mapping[str, Any]:
    """The request with what was fetched in it."""
    return with_sources(request, await by.sources(request))


def fetcher(limits: FetchLimits = LIMITS) -> DocumentFetcher:
    """One that may come here, as if this machine were the internet."""
    return DocumentFetcher(limits, resolve=here, allowed=lambda address: address == "127.0.0.1")


# --- what comes back ---


async def test_a_pdf_becomes_a_base64_source() -> None:
    body = pdf(["First page"])
    with ScriptedUpstream() as web:
        web.reply("/a.pdf", raw_reply(body, content_type="application/pdf"))
        fetched = await fetched_by(fetcher(), asks(f"http://docs.example:{web.port}/a.pdf"))
        assert web.last.headers["host"] == f"docs.example:{web.port}"
        assert "authorization" not in web.last.headers
    data = base64.b64encode(body).decode()
    assert source_of(fetched) == {"type": "base64", "media_type": "application/pdf", "data": data}


NO_CHARSETS = ("punycode", "unicode_escape", "raw_unicode_escape", "utf-7", "idna", "base64", "hex", "rot13", "zlib")
"""Python's names for what is no charset, or is decoded in quadratic time: read as UTF-8."""


@pytest.mark.parametrize("charset", sorted(CHARSETS))
async def test_every_charset_is_one_that_python_decodes_piece_by_piece(charset: str) -> None:
    assert "".join(codecs.iterdecode(["words".encode(charset)], charset)) == "words"


async def test_letters_that_are_cut_between_pieces_stay_whole() -> None:
    words = "€" * 200_000  # three bytes each, and pieces of 256 KiB
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(words.encode(), content_type="text/plain"))
        by = fetcher(FetchLimits(seconds=30, size=1_000_000))
        fetched = await fetched_by(by, asks(f"http://docs.example:{web.port}/a"))
    assert source_of(fetched)["data"] == words


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain; charset=latin-1", "Größe".encode("latin-1")),
        ("text/markdown", "Größe".encode()),
        ("text/plain; charset=nonsense", "Größe".encode()),
        ("text/plain; charset=UTF-16LE", "Größe".encode("utf-16le")),
        *((f"text/plain; charset={name}", "Größe".encode()) for name in NO_CHARSETS),
    ],
)
async def test_text_becomes_a_text_source(content_type: str, body: bytes) -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(body, content_type=content_type))
        fetched = await fetched_by(fetcher(), asks(f"http://docs.example:{web.port}/a"))
    assert source_of(fetched) == {"type": "text", "media_type": "text/plain", "data": "Größe"}


async def test_a_pdf_is_known_by_its_first_bytes() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(pdf(["x"]), content_type="application/octet-stream"))
        assert source_of(await fetched_by(fetcher(), asks(f"http://docs.example:{web.port}/a")))["type"] == "base64"


async def test_documents_in_results_are_fetched_and_all_else_stays_as_it_was() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(b"words", content_type="text/plain"))
        by_url = {"type": "document", "title": "T", "source": {"type": "url", "url": f"http://a.example:{web.port}/a"}}
        others = [
            {"type": "text", "text": "x"},
            {"type": "image", "source": {"type": "url", "url": "http://b.example"}},
        ]
        result = {"type": "tool_result", "tool_use_id": "t", "content": [*others, by_url]}
        request = {
            "model": "m",
            "messages": [{"role": "user", "content": [result, *others]}, {"role": "user", "content": "x"}],
        }
        fetched = await fetched_by(fetcher(), request)
    source = {"type": "text", "media_type": "text/plain", "data": "words"}
    expected = {**result, "content": [*others, {**by_url, "source": source}]}
    assert fetched == {
        **request,
        "messages": [{"role": "user", "content": [expected, *others]}, request["messages"][1]],
    }
    assert by_url["source"] == {"type": "url", "url": f"http://a.example:{web.port}/a"}


async def test_a_document_that_is_named_twice_is_fetched_once() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(b"words", content_type="text/plain"))
        url = f"http://docs.example:{web.port}/a"
        fetched = await fetched_by(fetcher(), asks(url, url))
        assert len(web.requests) == 1
    assert source_of(fetched, 0) == source_of(fetched, 1)


async def test_a_request_without_such_documents_is_left_alone() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}, {"role": "system"}]}
    assert await fetcher().sources(request) == {}


async def test_redirects_are_followed() -> None:
    with ScriptedUpstream() as web:
        moved = raw_reply(b"", content_type="text/plain", status=302, headers={"location": "/b"})
        web.reply("/a", moved)
        web.reply("/b", raw_reply(b"words", content_type="text/plain"))
        assert source_of(await fetched_by(fetcher(), asks(f"http://docs.example:{web.port}/a")))["data"] == "words"


async def test_redirects_may_be_in_utf8() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(b"", content_type="text/plain", status=302, headers={"location": "/über"}))
        web.reply("/über", raw_reply(b"words", content_type="text/plain"))
        assert source_of(await fetched_by(fetcher(), asks(f"http://docs.example:{web.port}/a")))["data"] == "words"


# --- what is refused ---


async def refusal(url: str, by: DocumentFetcher) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        await fetched_by(by, asks(url))
    start = "messages.0.content.0.source.url: the document could not be fetched: "
    assert caught.value.message.startswith(start)
    return caught.value.message.removeprefix(start)


NOT_THE_INTERNET = "its address is not one that documents are fetched from"

INSIDE = (
    "127.0.0.1",
    "127.8.8.8",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("address", INSIDE)
def test_these_are_not_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_these_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "0x7f000001", "017700000001", "[::ffff:127.0.0.1]"],
)
async def test_this_machine_is_refused_however_it_is_spelled(host: str) -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(b"secret", content_type="text/plain"))
        assert await refusal(f"http://{host}:{web.port}/a", DocumentFetcher(LIMITS)) == NOT_THE_INTERNET
        assert web.requests == []


@pytest.mark.parametrize("address", ["10.20.3.4", "::ffff:10.20.3.4", "fd12::1", PUBLIC])
def test_networks_can_be_allowed(address: str) -> None:
    assert allowing([ip_network("10.20.0.0/16"), ip_network("fd12::/16")])(address)


@pytest.mark.parametrize("address", [*INSIDE, "10.21.0.1"])
def test_all_others_stay_refused(address: str) -> None:
    assert not allowing([ip_network("10.20.0.0/16"), ip_network("fd12::/16")])(address)


async def test_a_name_is_refused_if_any_of_its_addresses_is_inside() -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return [PUBLIC, "10.0.0.1"]

    assert await refusal("http://docs.example/a", DocumentFetcher(LIMITS, resolve=both)) == NOT_THE_INTERNET


async def test_a_redirect_to_the_inside_is_refused() -> None:
    async def by_name(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"] if host == "docs.example" else ["169.254.169.254"]

    by = DocumentFetcher(LIMITS, resolve=by_name, allowed=lambda address: address == "127.0.0.1")
    with ScriptedUpstream() as web:
        inside = "http://metadata.internal/latest/meta-data"
        web.reply("/a", raw_reply(b"", content_type="text/plain", status=302, headers={"location": inside}))
        assert await refusal(f"http://docs.example:{web.port}/a", by) == NOT_THE_INTERNET


async def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    """A name server that answers differently the second time is not asked a second time."""
    asked = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    by = DocumentFetcher(LIMITS, resolve=rebinding, allowed=lambda address: address == "127.0.0.1")
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(b"words", content_type="text/plain"))
        assert source_of(await fetched_by(by, asks(f"http://rebind.example:{web.port}/a")))["data"] == "words"
    assert asked == ["rebind.example"]


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedUpstream() as web, ScriptedUpstream() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        web.reply("/a", raw_reply(b"words", content_type="text/plain"))
        await fetched_by(fetcher(), asks(f"http://docs.example:{web.port}/a"))
        assert proxy.requests == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://docs.example/a", "gopher://docs.example/", "/a", "http:///a"]
)
async def test_only_the_web_is_fetched_from(url: str) -> None:
    assert await refusal(url, fetcher()) == "only http and https URLs are fetched"


async def test_a_document_that_is_too_large_is_not_read_to_its_end() -> None:
    def endless() -> Any:
        while True:
            yield b"x" * 10_000

    with ScriptedUpstream() as web:
        web.reply("/a", stream_reply(endless, content_type="text/plain"))
        reason = await refusal(f"http://docs.example:{web.port}/a", fetcher())
        assert reason == "it is larger than 100000 bytes"


async def test_the_documents_of_a_request_are_counted_together() -> None:
    with ScriptedUpstream() as web:
        paths = [f"/{n}" for n in range(3)]
        for path in paths:
            web.reply(path, raw_reply(b"x" * 40_000, content_type="text/plain"))
        urls = [f"http://docs.example:{web.port}{path}" for path in paths]
        by = fetcher(FetchLimits(seconds=30, size=100_000, total=100_000))
        await by.sources(asks(*urls[:2]))
        with pytest.raises(InvalidRequestError, match=r"larger than 100000 bytes together$"):
            await by.sources(asks(*urls))


async def test_names_that_nobody_answers_for_take_no_thread_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(*args: object, **more: object) -> list[object]:
        asked.append(threading.current_thread().name)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert await refusal("http://slow.example/a", DocumentFetcher(LIMITS)) == "its server could not be reached"
    assert [name.startswith("documents-dns") for name in asked] == [True]


async def test_a_document_that_is_too_slow_is_given_up() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", stream_reply([b"x", FOREVER], content_type="text/plain"))
        by = fetcher(FetchLimits(seconds=0.2, size=100))
        assert await refusal(f"http://docs.example:{web.port}/a", by) == "it took longer than 0.2 s"


ANSWERS: Mapping[str, tuple[Any, str]] = {
    "an error": (raw_reply(b"", content_type="text/plain", status=404), "the server answered with status 404"),
    "a picture": (raw_reply(b"", content_type="image/png"), "it is neither a PDF nor text, but image/png"),
    "packed": (
        raw_reply(b"", content_type="text/plain", headers={"content-encoding": "gzip"}),
        "the server sends it compressed",
    ),
    "in a circle": (
        raw_reply(b"", content_type="text/plain", status=307, headers={"location": "/a"}),
        "it was redirected more than 3 times",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_no_document_is_refused(name: str) -> None:
    reply, reason = ANSWERS[name]
    with ScriptedUpstream() as web:
        web.reply("/a", reply)
        assert await refusal(f"http://docs.example:{web.port}/a", fetcher()) == reason


async def test_a_server_that_is_down_is_told() -> None:
    with ScriptedUpstream() as web:
        url = f"http://docs.example:{web.port}/a"
    assert await refusal(url, fetcher()) == "its server could not be reached"


async def test_a_name_that_does_not_exist_is_told() -> None:
    assert await refusal("http://nowhere.invalid/a", DocumentFetcher(LIMITS)) == "its server could not be reached"


async def test_a_request_cannot_have_any_number_of_documents_fetched() -> None:
    with pytest.raises(InvalidRequestError, match="at most 20 documents"):
        await fetched_by(fetcher(), asks(*(f"http://docs.example/{n}" for n in range(21))))


async def test_one_that_fails_ends_the_others() -> None:
    with ScriptedUpstream() as web:
        web.reply("/slow", silent_reply())
        web.reply("/gone", raw_reply(b"", content_type="text/plain", status=410))
        url = f"http://docs.example:{web.port}"
        async with asyncio.timeout(3):
            with pytest.raises(InvalidRequestError, match=r"messages\.0\.content\.1\.source\.url.*status 410"):
                await fetched_by(fetcher(), asks(f"{url}/slow", f"{url}/gone"))


async def test_the_system_s_resolver_is_asked() -> None:
    assert "127.0.0.1" in await Lookups("tests").addresses_of("localhost", 80)


# --- over the server ---


def check_refused(base_url: str, url: str, told: str) -> None:
    request: Any = {**asks(url), "model": "openai/openai-model"}
    with anthropic.Anthropic(base_url=base_url, api_key="any", max_retries=0) as client:
        for stream in (False, True):
            with pytest.raises(anthropic.BadRequestError, match=told):
                client.messages.create(**request, stream=stream)
        del request["max_tokens"]
        with pytest.raises(anthropic.BadRequestError, match=told):
            client.messages.count_tokens(**request)


def test_nothing_is_fetched_unless_it_is_switched_on(fleet: Fleet) -> None:
    with ScriptedUpstream() as web:
        check_refused(fleet.base_url, f"{web.url}/a", r"does not fetch documents \(translation\.fetch_urls\)")
        assert web.requests == []


def test_nothing_is_fetched_from_the_inside_even_where_it_is_switched_on(
    scripted_stack: Callable[..., Stack], fleet: Fleet
) -> None:
    upstream = fleet.upstreams["openai"]
    with ScriptedUpstream() as web:
        stack = scripted_stack(
            inference=[openai_provider(upstream.url)], messages={"translation": {"fetch_urls": True}}
        )
        check_refused(stack.base_url, f"{web.url}/a", NOT_THE_INTERNET)
        assert web.requests == []
    assert upstream.requests_to("/v1/chat/completions") == []


def test_a_document_of_a_network_that_is_allowed_reaches_the_model(
    scripted_stack: Callable[..., Stack], fleet: Fleet
) -> None:
    upstream = fleet.upstreams["openai"]
    with ScriptedUpstream() as web:
        web.reply("/a.pdf", raw_reply(pdf(["Otters swim."]), content_type="application/pdf"))
        web.reply("/b.txt", raw_reply(b"Badgers dig.", content_type="text/plain"))
        stack = scripted_stack(
            inference=[openai_provider(upstream.url)],
            messages={"translation": {"fetch_urls": True, "fetch_allow": ["127.0.0.0/8"]}},
        )
        request: Any = {**asks(f"{web.url}/a.pdf", f"{web.url}/b.txt"), "model": "openai/openai-model"}
        with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
            client.messages.create(**request)
            client.messages.create(**request, stream=True).close()
            del request["max_tokens"]
            assert client.messages.count_tokens(**request).input_tokens > 0
        assert len(web.requests) == 6
    for seen in upstream.requests_to("/v1/chat/completions"):
        [message] = seen.json["messages"]
        assert differences(Has('<page number="1">', "Otters swim.", "Badgers dig."), message["content"]) == []
