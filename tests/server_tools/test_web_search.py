"""Web searches: what search services answer, and the tool as a request defines it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.documents import found_text
from llama_stack_messages_provider.server_tools.web_search import (
    SearchResult,
    SearchTool,
    hits_of,
    is_search_tool,
    result_block,
)
from tests.support.wire import Json

TOOL: Json = {"type": "web_search_20250305", "name": "web_search"}
OTTERS = SearchResult("https://otters.test/a", "Otters", "They swim.")


def found(*hits: SearchResult, ident: str = "srvtoolu_1") -> Json:
    return result_block(ident, hits, most_characters=1000)


# --- what search services answer ---

TAVILY = {
    "query": "otters",
    "top_k": [{"url": OTTERS.url, "title": OTTERS.title, "content": OTTERS.text, "raw_content": None, "score": 0.9}],
}
BING = {
    "query": "otters",
    "top_k": [
        {"name": "<b>Otters</b> &amp; co", "url": "https://a.test", "snippet": "They <b>swim</b>, 1 < 2 > 0."},
        [{"name": "News", "url": "https://b.test", "description": "An otter won."}],
    ],
}
BRAVE = "\n".join(
    str(each)
    for each in (
        {
            "type": "search_result",
            "title": "It's",
            "url": "https://a.test",
            "description": "x",
            "extra_snippets": ["y"],
        },
        [{"type": "faq", "question": "Why?", "answer": "So.", "title": None, "url": "https://f.test"}],
        "",
    )
)
PLAIN = "1. Otters\nhttps://otters.test/a\nThey swim."

ANSWERS: dict[str, tuple[str, list[SearchResult]]] = {
    "Tavily": (json.dumps(TAVILY), [OTTERS]),
    "Bing": (
        json.dumps(BING),
        [
            SearchResult("https://a.test", "Otters & co", "They swim, 1 < 2 > 0."),
            SearchResult("https://b.test", "News", "An otter won."),
        ],
    ),
    "Brave": (BRAVE, [SearchResult("https://a.test", "It's", "x\ny"), SearchResult("https://f.test", "Why?", "So.")]),
    "a page twice": (json.dumps([TAVILY, TAVILY]), [OTTERS]),
    "a page with nothing but its address": (
        '{"url": "https://a.test"}',
        [SearchResult("https://a.test", "https://a.test")],
    ),
    "an age": ('{"url": "u", "title": "t", "page_age": "2 days"}', [SearchResult("u", "t", "", "2 days")]),
    "nothing": ('{"query": "otters", "top_k": []}', []),
    "a list of nothing": ("[]", []),
    "nothing, deep down": ('{"web": {"results": []}}', []),
    "other names": (
        '[{"link": "u", "name": "a", "text": "x"}, {"href": "v"}]',
        [SearchResult("u", "a", "x"), SearchResult("v", "v")],
    ),
    "an address with signs": (
        '{"url": "u?a=1&copy=2", "title": "&copy; <b>x</b>"}',
        [SearchResult("u?a=1&copy=2", "\N{COPYRIGHT SIGN} x")],
    ),
    "an answer without pages": (
        '{"answer": "Otters swim."}',
        [SearchResult("", "Search results", '{"answer": "Otters swim."}')],
    ),
    "an answer beside no pages": (
        '{"query": "?", "results": [], "answer": "Yes."}',
        [SearchResult("", "Search results", '{"query": "?", "results": [], "answer": "Yes."}')],
    ),
    "lines of little": ("[1]\nOtters swim.", [SearchResult("", "Search results", "[1]\nOtters swim.")]),
    "a string": ('"Otters swim."', [SearchResult("", "Search results", '"Otters swim."')]),
    "text with brackets": ("[1] Otters\n[2] x", [SearchResult("", "Search results", "[1] Otters\n[2] x")]),
    "nothing that Python reads": ("{[]: 1}", [SearchResult("", "Search results", "{[]: 1}")]),
    "lone surrogates": (
        '{"url": "u\\ud800", "title": "t\\ud800", "text": "x\\ud800", "age": "\\ud800"}',
        [SearchResult("u?", "t?", "x?", "?")],
    ),
    "an empty answer": ("", []),
    "plain text": (PLAIN, [SearchResult("https://otters.test/a", "Search results", PLAIN)]),
    "plain text without an address": ("Otters swim.", [SearchResult("", "Search results", "Otters swim.")]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_pages_are_found_in_what_search_services_answer(name: str) -> None:
    answer, hits = ANSWERS[name]
    assert hits_of(answer) == hits


@given(st.text() | st.recursive(st.none() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)).map(repr))
def test_no_answer_of_a_search_service_breaks_anything(answer: str) -> None:
    assert all(isinstance(hit.url, str) and hit.title for hit in hits_of(answer))


@given(st.lists(st.builds(SearchResult, st.text(), st.text(), st.text(), st.none() | st.text()), max_size=4))
def test_what_was_found_comes_back_with_the_conversation(hits: list[SearchResult]) -> None:
    block = found(*hits)
    assert all(page["encrypted_content"] for page in block["content"])
    read, is_error = found_text(json.loads(json.dumps(block))["content"], "here", DroppedFields(strict=True))
    assert not is_error
    for hit in hits:
        assert hit.text.encode(errors="replace").decode() in read


@pytest.mark.parametrize(
    "content", ["EqgfCioIARgBIiQ3YTAwMjY1", "lst1.\N{LATIN SMALL LETTER E WITH ACUTE}", "lst1.A", "lst1./w=="]
)
def test_what_another_server_found_is_named(content: str) -> None:
    page = {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": content}
    dropped = DroppedFields()
    assert found_text([page], "here", dropped) == ('<search_result source="u" title="t">\n\n</search_result>', False)
    assert dropped.names == ["here"]


def test_a_page_s_text_has_a_limit() -> None:
    block = result_block("srvtoolu_1", [SearchResult("u", "t", "otter " * 100)], most_characters=11)
    assert found_text(block["content"], "here", DroppedFields(strict=True))[0].splitlines()[1] == "otter otter"


# --- the tool ---


def test_the_definition_says_where_the_user_is() -> None:
    place = {"type": "approximate", "city": "Bergen", "country": "NO", "region": None, "timezone": "Europe/Oslo"}
    definition = search(user_location=place).definition
    assert definition["name"] == "web_search"
    assert definition["description"].endswith("The user is in Bergen, NO.")
    assert definition["input_schema"]["required"] == ["query"]


DOMAINS: list[tuple[str, str, bool]] = [
    ("otters.test", "https://otters.test/a", True),
    ("otters.test", "https://www.otters.test:8443/a", True),
    ("otters.test", "https://otters.test./a", True),
    ("otters.test", "https://notters.test/a", False),
    ("OTTERS.test", "https://Otters.Test/", True),
    ("https://otters.test/", "http://otters.test/a", True),
    ("m\N{LATIN SMALL LETTER U WITH DIAERESIS}nchen.test", "https://xn--mnchen-3ya.test/a", True),
    ("xn--mnchen-3ya.test", "https://m\N{LATIN SMALL LETTER U WITH DIAERESIS}nchen.test/a", True),
    ("otters.test/blog", "https://otters.test/blog", True),
    ("otters.test/blog", "https://otters.test/blog/1", True),
    ("otters.test/blog", "https://otters.test/blogger", False),
    ("otters.test/blog", "https://otters.test/shop", False),
    ("otters.test/blog/*", "https://otters.test/blog/1", True),
    ("otters.test/*/articles", "https://otters.test/2026/articles/1", True),
    ("otters.test/*/articles", "https://otters.test/articles", False),
    ("otters.test/a.b", "https://otters.test/axb", False),
    ("otters.test", "", False),
    ("otters.test", "https://[bad", False),
    ("otters.test.", "https://otters.test/a", True),
    ("otters.test/a*b*", "https://otters.test/a/b/", True),
    ("otters.test/a*b", "https://otters.test/axbc", False),
    ("otters.test/" + "*" * 40 + "Z", "https://otters.test/" + "a" * 400, False),
]


@pytest.mark.parametrize(("domain", "url", "taken"), DOMAINS)
def test_pages_of_other_domains_are_left_out(domain: str, url: str, taken: bool) -> None:
    assert search(allowed_domains=[domain]).allows(SearchResult(url, "t")) is taken
    assert search(blocked_domains=[domain]).allows(SearchResult(url, "t")) is not taken


def search(**bounds: Any) -> SearchTool:
    return SearchTool.of({**TOOL, **bounds}, "tools.0")


def test_where_no_domains_are_named_all_pages_are_taken() -> None:
    assert search(allowed_domains=None, blocked_domains=[]).allows(SearchResult("https://otters.test/a", "t"))


BAD: list[tuple[Json, str]] = [
    ({"allowed_domains": ["*.otters.test"]}, "tools.0.allowed_domains.0: not a domain"),
    ({"blocked_domains": ["a.test", "[x"]}, "tools.0.blocked_domains.1: not a domain"),
    ({"allowed_domains": [""]}, "tools.0.allowed_domains.0: not a domain"),
    *(({"allowed_domains": [name]}, "tools.0.allowed_domains.0: not a domain") for name in (".", "..", "a..b", ".a")),
    ({"allowed_domains": ["x" * 64 + ".test"]}, "tools.0.allowed_domains.0: not a domain"),
    ({"allowed_domains": ["e." * 300 + "test"]}, "tools.0.allowed_domains.0: not a domain"),
    ({"blocked_domains": ["a.test"] * 501}, "tools.0.blocked_domains: at most 500 domains"),
    ({"allowed_domains": ["a.test"], "blocked_domains": ["b.test"]}, "tools.0: only one of allowed_domains and"),
    ({"allowed_domains": 5}, "tools.0.allowed_domains: "),
    ({"user_location": "Bergen"}, "tools.0.user_location: "),
    ({"user_location": {"type": "approximate", "city": 7}}, "tools.0.user_location.city: "),
    ({"max_uses": "many"}, "tools.0.max_uses: "),
    ({"max_uses": 0}, "tools.0.max_uses: "),
]


@pytest.mark.parametrize(("bounds", "told"), BAD)
def test_a_tool_that_is_not_as_documented_is_refused_in_any_version(bounds: Json, told: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        SearchTool.of({**TOOL, "type": "web_search_20991231", **bounds}, "tools.0")
    assert refused.value.message.startswith(told)


def test_calls_can_be_held_to_the_schema() -> None:
    assert search(strict=True).definition["strict"] is True
    assert "strict" not in search().definition


def test_search_services_are_told_the_domains() -> None:
    assert (
        search(allowed_domains=["a.test", "b.test/x/*"]).build_query("otters") == "otters site:a.test OR site:b.test/x/"
    )
    assert search().build_query("otters") == "otters"
    assert search(allowed_domains=["a.test"] * 9).build_query("otters") == "otters"


@pytest.mark.parametrize(
    ("tool", "is_one"),
    [
        (TOOL, True),
        ({"type": "web_search_20991231", "name": "web_search"}, True),
        ({"name": "web_search", "input_schema": {}}, False),
        ({**TOOL, "input_schema": {}}, False),
        ({"type": 7}, False),
        ("web_search_20250305", False),
        (None, False),
    ],
)
def test_a_search_tool_is_known_in_any_version(tool: Any, is_one: bool) -> None:
    assert is_search_tool(tool) is is_one
