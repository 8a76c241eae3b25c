"""Pages that models have fetched: whose URLs count, what a request may say, and what comes of a page."""

from collections.abc import Callable, Hashable
from typing import Any

import pytest
from anthropic.types import WebFetchToolResultBlock
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.config import WebFetchConfig
from llama_stack_messages_provider.documents.fetch import DocumentFetcher, FetchLimits
from llama_stack_messages_provider.documents.html import HtmlError, HtmlLimits, HtmlReader
from llama_stack_messages_provider.documents.pages import WebPages
from llama_stack_messages_provider.documents.pdf import PdfLimits, PdfReader
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.server_tools.fetch_runtime import WebFetch
from llama_stack_messages_provider.server_tools.plain import plain_request
from llama_stack_messages_provider.server_tools.prior_urls import stands_in
from llama_stack_messages_provider.server_tools.registry import ServerTools
from tests.fidelity.documents import pdf
from tests.strategies import json_values
from tests.support.upstream import Reply, ScriptedUpstream, Wait, raw_reply, stream_reply
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_result, tool_use, user

TOOL: Json = {"type": "web_fetch_20250910", "name": "web_fetch"}
URL = "https://otters.test/a?x=1&y=2"


# --- whose URLs count ---


def asked(*messages: Json) -> Json:
    return {"messages": [*messages]}


@pytest.mark.parametrize(
    "words",
    [
        URL,
        f"Read {URL}.",
        f"({URL})",
        f"[it]({URL})",
        f"<{URL}>",
        f'{{"url":"{URL}"}}',
        f"{URL}/",
        f"{URL}#part, please",
        f"http://{URL.removeprefix('https://')}",
        "otters.test/a?x=1&y=2 is good",
        '<search_result source="https://otters.test/a?x=1&amp;y=2" title="Otters">',
    ],
)
def test_a_url_stands_in_words(words: str) -> None:
    for url in (URL, f"{URL}#other"):
        assert stands_in(url, asked(user(words)), {})


@pytest.mark.parametrize(
    "words",
    [
        "",
        "https://otters.test/a?x=1&y=23",
        "https://otters.test/a?x=1",
        "https://evil.test/otters.test/a?x=1&y=2",
        "xotters.test/a?x=1&y=2",
    ],
)
def test_another_url_is_another_url(words: str) -> None:
    assert not stands_in(URL, asked(user(words)), {})


@pytest.mark.parametrize("url", ["", "https://", "http:///", "#", "https://#x"])
def test_no_url_stands_nowhere(url: str) -> None:
    assert not stands_in(url, asked(user("Hi https:// there")), {})


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_can_be_looked_through(url: str, words: str) -> None:
    stands_in(url, asked(user(words)), {})


@given(json_values())
def test_any_json_can_be_looked_through(messages: Any) -> None:
    odd = [
        {"type": kind, "id": messages, "name": messages, "tool_use_id": messages}
        for kind in ("tool_use", "tool_result")
    ]
    stands_in("https://a.test", asked(assistant(*odd), user(*odd), user({"type": messages})), {})
    stands_in("https://a.test", {"messages": messages}, {})
    stands_in("https://a.test", asked({"role": "user", "content": [messages]}, messages), {})


CONVERSATION = asked(
    user("https://user.test"),
    assistant(text("https://model.test"), tool_use("c1", "look"), tool_use("srvtoolu_1", "web_search", query="x")),
    user(
        tool_result("c1", [text("https://client.test")]),
        tool_result("srvtoolu_1", "https://search.test"),
        tool_result("mcptoolu_1", "https://mcp.test"),
        tool_result("srvtoolu_2", "https://unknown.test"),
    ),
    assistant({"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "https://history.test"}]}),
)
ALL = {"user", "client", "search", "mcp", "history"}
LOOK = [{"type": "tool_reference", "name": "look"}]
SEARCH = [{"type": "tool_reference", "name": "web_search"}]


@pytest.mark.parametrize(
    ("sources", "allowed"),
    [
        ({}, ALL),
        ({"user_input": {"type": "none"}}, ALL - {"user"}),
        ({"user_input": {"type": "all"}, "client_tool_results": {"type": "none"}}, {"user", "search", "history"}),
        ({"client_tool_results": {"type": "only", "tools": LOOK}}, ALL - {"mcp"}),
        ({"client_tool_results": {"type": "except", "tools": LOOK}}, ALL - {"client"}),
        ({"server_tool_results": {"type": "none"}}, {"user", "client", "mcp"}),
        ({"server_tool_results": {"type": "only", "tools": SEARCH}}, ALL),
        ({"server_tool_results": {"type": "except", "tools": SEARCH}}, {"user", "client", "mcp"}),
    ],
)
def test_the_client_says_whose_words_count(sources: Json, allowed: set[str]) -> None:
    hosts = ("user", "model", "client", "search", "mcp", "unknown", "history")
    assert {host for host in hosts if stands_in(f"https://{host}.test", CONVERSATION, sources)} == allowed


# --- a page ---

PDF_LIMITS = PdfLimits(processes=1, waiting=1, seconds=20, memory_bytes=128 * 2**20, pages=10, characters=100_000)


async def here(host: str, port: int) -> list[str]:
    return ["10.0.0.1" if host == "private.test" else "127.0.0.1"]


def pages(size: int = 100_000, seconds: float = 20) -> WebPages:
    """Pages of this machine, as if it were the internet."""
    fetcher = DocumentFetcher(FetchLimits(seconds, size), resolve=here, allowed=lambda address: address == "127.0.0.1")
    return WebPages(fetcher, HtmlReader(HtmlLimits(seconds=seconds)), PdfReader(PDF_LIMITS))


async def opened(definition: Json, by: WebPages | None, dropped: DroppedFields | None = None, **config: Any) -> Any:
    request = {"model": "m", "messages": [user("Hi")], "tools": [{**TOOL, **definition}, tool("look")]}
    kinds = ServerTools([WebFetch(by, WebFetchConfig(**config))])
    return request, await kinds.open(request, dropped or DroppedFields())


async def fetched(url: str, by: WebPages | None = None, words: str | None = None, **definition: Any) -> Json:
    _, tools = await opened(definition, by or pages())
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_fetch", "input": {"url": url}}
    [fetch] = tools.values()
    result = fetch.refusal(call, 0) or await fetch.run(call, asked(user(words or f"Read {url}")))
    WebFetchToolResultBlock.model_validate(result)
    return dict(result)


def code(result: Json) -> str:
    assert result["content"]["type"] == "web_fetch_tool_result_error"
    return str(result["content"]["error_code"])


HTML = b"""<html><head><title>Otters &amp; seals</title></head><body><nav>Menu</nav><h1>Otters</h1>
<p>They <b>swim</b>, see <a href="/more">more</a>.</p><script>alert(1)</script></body></html>"""


async def test_html_becomes_markdown_with_links_that_can_be_fetched() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(HTML, content_type="text/html; charset=utf-8"))
        url = f"http://otters.test:{web.port}/a"
        page = (await fetched(url))["content"]
    assert page["url"] == url
    assert page["retrieved_at"].endswith("Z")
    assert page["content"]["title"] == "Otters & seals"
    words = page["content"]["source"]["data"]
    assert words == f"# Otters\n\nThey **swim**, see [more](http://otters.test:{web.port}/more)."


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("text/plain", b"They swim.", "They swim."),
        ("application/json", b'{"a": 1}', '{"a": 1}'),
        ("application/pdf", pdf(["They swim."]), '<page number="1">\nThey swim.\n</page>'),
    ],
)
async def test_text_and_pdfs_are_text(kind: str, body: bytes, words: str) -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(body, content_type=kind))
        page = await fetched(f"http://otters.test:{web.port}/a")
    assert page["content"]["content"]["source"] == {"type": "text", "media_type": "text/plain", "data": words}


async def test_a_page_is_cut_as_the_client_wants_and_as_the_operator_does() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(b"x" * 1000, content_type="text/plain"))
        url = f"http://otters.test:{web.port}/a"
        page = await fetched(url, max_content_tokens=10)
        assert len(page["content"]["content"]["source"]["data"]) == 40
        _, tools = await opened({}, pages(), characters=50)
        call = {"type": "server_tool_use", "id": "s", "name": "web_fetch", "input": {"url": url}}
        page = await tools["tools.0"].run(call, asked(user(url)))
    assert len(page["content"]["content"]["source"]["data"]) == 50


async def test_what_cannot_be_fetched_is_an_error_code() -> None:
    with ScriptedUpstream() as web:
        at = f"http://otters.test:{web.port}"
        web.reply("/private", Reply(302, {"location": "http://private.test/"}))
        web.reply("/elsewhere", Reply(302, {"location": f"http://seals.test:{web.port}/a"}))
        web.reply("/image", raw_reply(b"\x89PNG", content_type="image/png"))
        web.reply("/large", raw_reply(b"x" * 2000, content_type="text/plain"))
        web.reply("/slow", stream_reply([Wait(30)]))
        web.reply("/broken.pdf", raw_reply(b"%PDF-1.4 nonsense", content_type="application/pdf"))
        small, hasty = pages(size=1000), pages(seconds=0.3)
        assert code(await fetched("http://private.test/")) == "url_not_allowed"
        assert code(await fetched(f"{at}/private")) == "url_not_allowed"
        assert code(await fetched(f"{at}/elsewhere", blocked_domains=["seals.test"])) == "url_not_allowed"
        assert code(await fetched(f"{at}/a", allowed_domains=["seals.test"])) == "url_not_allowed"
        assert code(await fetched("ftp://otters.test/a")) == "url_not_allowed"
        assert code(await fetched(f"{at}/image")) == "unsupported_content_type"
        assert code(await fetched(f"{at}/broken.pdf")) == "unsupported_content_type"
        assert code(await fetched(f"{at}/large", by=small)) == "content_too_large"
        assert code(await fetched(f"{at}/slow", by=hasty)) == "url_not_accessible"
        assert code(await fetched(f"{at}/none")) == "url_not_accessible"
        assert code(await fetched("http://[x/")) == "invalid_tool_input"
        assert code(await fetched("https://otters.test/" + "x" * 250)) == "url_too_long"
        assert code(await fetched("")) == "invalid_tool_input"
        assert code(await fetched(f"{at}/a", words="Hi")) == "url_not_in_prior_context"
    _, tools = await opened({"max_uses": 1}, small)
    call = {"type": "server_tool_use", "id": "s", "name": "web_fetch", "input": {"url": at}}
    assert tools["tools.0"].refusal(call, 0) is None
    assert code(tools["tools.0"].refusal(call, 1)) == "max_uses_exceeded"


async def test_a_page_that_takes_too_long_to_read_is_given_up() -> None:
    with pytest.raises(HtmlError, match="too long"):
        await HtmlReader(HtmlLimits(seconds=0.001)).read("<p>x", "http://otters.test/")
    with pytest.raises(HtmlError, match="could not be read"):
        await HtmlReader(HtmlLimits(memory_bytes=2**20)).read("<p>x" * 2_000_000, "http://otters.test/")


# --- in a request ---


async def test_definitions_that_are_not_as_documented_are_refused() -> None:
    for definition, path in (
        ({"max_uses": "x"}, r"tools\.0\.max_uses: "),
        ({"allowed_domains": ["a.test"], "blocked_domains": ["b.test"]}, r"tools\.0: only one"),
        ({"allowed_domains": ["http://"]}, r"tools\.0\.allowed_domains\.0: "),
    ):
        with pytest.raises(InvalidRequestError, match=path):
            await opened(definition, pages())


async def test_citations_are_named_and_nothing_is_fetched_where_it_is_off() -> None:
    dropped = DroppedFields()
    await opened({"citations": {"enabled": True}, "type": "web_fetch_20260318", "use_cache": False}, pages(), dropped)
    assert dropped.names == ["tools.0.citations"]
    assert (await opened({}, None))[1] == {}


async def test_what_was_fetched_comes_back_as_a_call_and_its_result() -> None:
    with ScriptedUpstream() as web:
        web.reply("/a", raw_reply(HTML, content_type="text/html"))
        result = await fetched(f"http://otters.test:{web.port}/a")
    request, tools = await opened({}, pages())
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_fetch", "input": {"url": "x"}}
    error = {"type": "web_fetch_tool_result_error", "error_code": "unavailable"}
    for block, told in ((result, "They **swim**"), ({**result, "content": error}, "not fetched: unavailable")):
        messages = [user("Hi"), assistant(call, block, text("So."))]
        plain = plain_request({**request, "messages": messages}, tools, DroppedFields(strict=True))
        [answer] = plain["messages"][2]["content"]
        assert told in answer["content"]


type Permits = Callable[[str], bool]


class Broken(WebPages):
    """A service that fails as nobody expects."""

    async def read(self, url: str, permits: Permits, client: Hashable | None = None) -> Any:
        raise RuntimeError(url)


async def test_a_failure_of_ours_is_a_result_too() -> None:
    by = Broken(DocumentFetcher(FetchLimits(1, 1)), None, PdfReader(PDF_LIMITS))
    assert code(await fetched("https://otters.test/a", by=by)) == "unavailable"
