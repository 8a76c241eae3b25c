"""Web searches as a function, what search services answer, and a message of several rounds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines.chat import DIALECTS
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.documents import found_text
from llama_stack_messages_provider.server_tools.loop import Rounds
from llama_stack_messages_provider.server_tools.web_search import (
    Hit,
    SearchTool,
    error_block,
    hits_of,
    result_block,
    wants_search,
)
from llama_stack_messages_provider.translation.reasons import Stop, added_usage
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion
from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from tests.support.laws import assert_well_formed, fold
from tests.support.wire import Json, call, chat_chunks, chat_completion, completion_usage
from tests.translation.helpers import assistant, text, tool, tool_result, tool_use, user

TOOL: Json = {"type": "web_search_20250305", "name": "web_search"}
OTTERS = Hit("https://otters.test/a", "Otters", "They swim.")


def searched(query: str = "otters", ident: str = "srvtoolu_1") -> Json:
    return {"type": "server_tool_use", "id": ident, "name": "web_search", "input": {"query": query}}


def found(*hits: Hit, ident: str = "srvtoolu_1") -> Json:
    return result_block(ident, hits, most_characters=1000)


def sent(*messages: Json, tools: list[Json] | None = None, searches: bool = True, **more: Any) -> Json:
    """The parameters of a request with a web search."""
    request = {"model": "m", "max_tokens": 99, "messages": list(messages), "tools": tools or [TOOL], **more}
    options = TranslationOptions(strict=True, searches=searches)
    return to_chat_completion(request, model="m", dialect=DIALECTS["openai"], options=options).params


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

ANSWERS: dict[str, tuple[str, list[Hit]]] = {
    "Tavily": (json.dumps(TAVILY), [OTTERS]),
    "Bing": (
        json.dumps(BING),
        [
            Hit("https://a.test", "Otters & co", "They swim, 1 < 2 > 0."),
            Hit("https://b.test", "News", "An otter won."),
        ],
    ),
    "Brave": (BRAVE, [Hit("https://a.test", "It's", "x\ny"), Hit("https://f.test", "Why?", "So.")]),
    "a page twice": (json.dumps([TAVILY, TAVILY]), [OTTERS]),
    "a page with nothing but its address": ('{"url": "https://a.test"}', [Hit("https://a.test", "https://a.test")]),
    "an age": ('{"url": "u", "title": "t", "page_age": "2 days"}', [Hit("u", "t", "", "2 days")]),
    "nothing": ('{"query": "otters", "top_k": []}', []),
    "a list of nothing": ("[]", []),
    "nothing, deep down": ('{"web": {"results": []}}', []),
    "other names": ('[{"link": "u", "name": "a", "text": "x"}, {"href": "v"}]', [Hit("u", "a", "x"), Hit("v", "v")]),
    "an address with signs": (
        '{"url": "u?a=1&copy=2", "title": "&copy; <b>x</b>"}',
        [Hit("u?a=1&copy=2", "\N{COPYRIGHT SIGN} x")],
    ),
    "an answer without pages": (
        '{"answer": "Otters swim."}',
        [Hit("", "Search results", '{"answer": "Otters swim."}')],
    ),
    "an answer beside no pages": (
        '{"query": "?", "results": [], "answer": "Yes."}',
        [Hit("", "Search results", '{"query": "?", "results": [], "answer": "Yes."}')],
    ),
    "lines of little": ("[1]\nOtters swim.", [Hit("", "Search results", "[1]\nOtters swim.")]),
    "a string": ('"Otters swim."', [Hit("", "Search results", '"Otters swim."')]),
    "text with brackets": ("[1] Otters\n[2] x", [Hit("", "Search results", "[1] Otters\n[2] x")]),
    "nothing that Python reads": ("{[]: 1}", [Hit("", "Search results", "{[]: 1}")]),
    "lone surrogates": (
        '{"url": "u\\ud800", "title": "t\\ud800", "text": "x\\ud800", "age": "\\ud800"}',
        [Hit("u?", "t?", "x?", "?")],
    ),
    "an empty answer": ("", []),
    "plain text": (PLAIN, [Hit("https://otters.test/a", "Search results", PLAIN)]),
    "plain text without an address": ("Otters swim.", [Hit("", "Search results", "Otters swim.")]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_pages_are_found_in_what_search_services_answer(name: str) -> None:
    answer, hits = ANSWERS[name]
    assert hits_of(answer) == hits


@given(st.text() | st.recursive(st.none() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)).map(repr))
def test_no_answer_of_a_search_service_breaks_anything(answer: str) -> None:
    assert all(isinstance(hit.url, str) and hit.title for hit in hits_of(answer))


@given(st.lists(st.builds(Hit, st.text(), st.text(), st.text(), st.none() | st.text()), max_size=4))
def test_what_was_found_comes_back_with_the_conversation(hits: list[Hit]) -> None:
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
    losses = DroppedFields()
    assert found_text([page], "here", losses) == ('<search_result source="u" title="t">\n\n</search_result>', False)
    assert losses.names == ["here"]


def test_a_page_s_text_has_a_limit() -> None:
    block = result_block("srvtoolu_1", [Hit("u", "t", "otter " * 100)], most_characters=11)
    assert found_text(block["content"], "here", DroppedFields(strict=True))[0].splitlines()[1] == "otter otter"


# --- the tool ---


def test_the_function_says_where_the_user_is() -> None:
    place = {"type": "approximate", "city": "Bergen", "country": "NO", "region": None, "timezone": "Europe/Oslo"}
    (function,) = sent(user("Hi"), tools=[{**TOOL, "user_location": place}])["tools"]
    assert function["function"]["name"] == "web_search"
    assert function["function"]["description"].endswith("The user is in Bergen, NO.")
    assert function["function"]["parameters"]["required"] == ["query"]


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
    assert search(allowed_domains=[domain]).takes(Hit(url, "t")) is taken
    assert search(blocked_domains=[domain]).takes(Hit(url, "t")) is not taken


def search(**bounds: Any) -> SearchTool:
    return SearchTool.of({**TOOL, **bounds}, "tools.0")


def test_where_no_domains_are_named_all_pages_are_taken() -> None:
    assert search(allowed_domains=None, blocked_domains=[]).takes(Hit("https://otters.test/a", "t"))


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
        sent(user("Hi"), tools=[{**TOOL, "type": "web_search_20991231", **bounds}])
    assert refused.value.message.startswith(told)


def test_calls_can_be_held_to_the_schema() -> None:
    assert sent(user("Hi"), tools=[{**TOOL, "strict": True}])["tools"][0]["function"]["strict"] is True
    assert "strict" not in sent(user("Hi"))["tools"][0]["function"]


def test_search_services_are_told_the_domains() -> None:
    assert search(allowed_domains=["a.test", "b.test/x/*"]).asked("otters") == "otters site:a.test OR site:b.test/x/"
    assert search().asked("otters") == "otters"
    assert search(allowed_domains=["a.test"] * 9).asked("otters") == "otters"


ADDED: Json = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": TOOL}}


@pytest.mark.parametrize(
    ("messages", "wanted"),
    [
        ([user("Hi"), {"role": "system", "content": [ADDED]}], True),
        ([user("Hi"), {"role": "system", "content": [{"type": "tool_addition", "tool": {"definition": []}}]}], False),
        ([user("Hi"), {"role": "system", "content": [{"type": "tool_addition"}, None]}, None], False),
        ("Hi", False),
    ],
)
def test_a_request_that_adds_a_search_is_known(messages: Any, wanted: bool) -> None:
    assert wants_search({"messages": messages}) is wanted


@pytest.mark.parametrize(
    ("tools", "wanted"),
    [
        ([TOOL], True),
        ([tool("look"), {"type": "web_search_20991231", "name": "web_search"}], True),
        ([tool("web_search")], False),
        ([{**TOOL, "input_schema": {}}], False),
        (["web_search_20250305", {"type": 7}, None], False),
        ("web_search_20250305", False),
        (None, False),
    ],
)
def test_a_request_with_a_search_is_known(tools: Any, wanted: bool) -> None:
    assert wants_search({"tools": tools}) is wanted


def test_a_tool_of_the_client_s_with_the_same_name_is_the_client_s() -> None:
    params = sent(user("Hi"), tools=[tool("web_search"), tool("look")])
    assert [each["function"].get("description") for each in params["tools"]] == [None, None]


def test_a_search_can_be_forced() -> None:
    params = sent(user("Hi"), tool_choice={"type": "tool", "name": "web_search"})
    assert params["tool_choice"] == {"type": "function", "function": {"name": "web_search"}}


# --- searches in the history ---


def role(message: Json) -> tuple[str, ...]:
    calls = tuple(call["id"] for call in message.get("tool_calls", ()))
    ident = (message["tool_call_id"],) if "tool_call_id" in message else ()
    return (message["role"], *calls, *ident, message.get("content") or "")


def roles(*messages: Json) -> list[tuple[str, ...]]:
    return [role(message) for message in sent(*messages, tools=[TOOL, tool("look")])["messages"]]


READ = '<search_result source="https://otters.test/a" title="Otters">\nThey swim.\n</search_result>'


def test_a_search_and_its_result_are_a_call_and_its_answer() -> None:
    turn = assistant(text("Let me look."), searched(), found(OTTERS), text("They swim."))
    assert roles(user("Otters?"), turn, user("Why?")) == [
        ("user", "Otters?"),
        ("assistant", "srvtoolu_1", "Let me look."),
        ("tool", "srvtoolu_1", READ),
        ("assistant", "They swim."),
        ("user", "Why?"),
    ]
    call = sent(user("Otters?"), turn, user("Why?"))["messages"][1]["tool_calls"][0]
    assert call["function"] == {"name": "web_search", "arguments": '{"query":"otters"}'}


def test_searches_at_once_and_one_after_another_keep_their_order() -> None:
    pair = [searched("a", "s1"), searched("b", "s2"), found(ident="s2"), found(ident="s1")]
    turn = assistant(*pair, text("Hm."), searched("c", "s3"), found(ident="s3"), text("So."))
    assert roles(user("?"), turn) == [
        ("user", "?"),
        ("assistant", "s1", "s2", ""),
        ("tool", "s2", "Nothing was found."),
        ("tool", "s1", "Nothing was found."),
        ("assistant", "s3", "Hm."),
        ("tool", "s3", "Nothing was found."),
        ("assistant", "So."),
    ]


def test_a_turn_that_was_paused_ends_with_what_was_found() -> None:
    assert roles(user("?"), assistant(searched(), found()))[-1] == ("tool", "srvtoolu_1", "Nothing was found.")


def test_calls_of_the_client_s_come_behind_the_searches() -> None:
    turn = assistant(tool_use("toolu_1", "look"), searched(), found())
    assert roles(user("?"), turn, user(tool_result("toolu_1", "An otter."))) == [
        ("user", "?"),
        ("assistant", "srvtoolu_1", ""),
        ("tool", "srvtoolu_1", "Nothing was found."),
        ("assistant", "toolu_1", ""),
        ("tool", "toolu_1", "An otter."),
    ]


def test_a_search_that_failed_is_marked() -> None:
    turn = assistant(searched(), error_block("srvtoolu_1", "unavailable"))
    assert roles(user("?"), turn)[-1] == ("tool", "srvtoolu_1", "[tool error] The search failed: unavailable")


def test_a_search_without_a_result_and_a_result_without_a_search_are_told() -> None:
    turn = assistant(found(ident="s9"), searched("a", "s1"), searched("b", "s2"), found(ident="s2"), text("So."))
    told = roles(user("?"), turn)
    assert [each[:-1] for each in told[1:]] == [("assistant", "s2"), ("tool", "s2"), ("assistant",)]
    assert '<server_tool_call name="web_search">' in told[1][-1]
    assert '<server_tool_result type="web_search_tool_result">' in told[1][-1]


def test_ids_that_come_twice_are_calls_once() -> None:
    uses = [searched(ident="s1"), searched(ident="s2"), found(ident="s1"), searched(ident="s1"), found(ident="s1")]
    told = roles(user("?"), assistant(*uses, found(ident="s2")))
    assert [each[:-1] for each in told[1:]] == [("assistant", "s1", "s2"), ("tool", "s1"), ("tool", "s2")]
    told = roles(
        user("?"),
        assistant(tool_use("x", "look")),
        assistant(searched(ident="x"), found(ident="x")),
        user(tool_result("x", "y")),
    )
    assert [each[:-1] for each in told[1:]] == [("assistant", "x"), ("tool", "x")]


def test_without_a_search_in_the_request_it_is_told_as_ever() -> None:
    params = sent(user("?"), assistant(searched(), found(OTTERS)), user("Why?"), tools=[tool("look")])
    assert [message["role"] for message in params["messages"]] == ["user", "assistant", "user"]
    assert READ in params["messages"][1]["content"]


BLOCKS = st.sampled_from(
    [
        text("a"),
        searched(ident="s1"),
        searched(ident="s2"),
        found(ident="s1"),
        found(OTTERS, ident="s2"),
        error_block("s1", "unavailable"),
        tool_use("t1", "look"),
        tool_use("t2", "look"),
    ]
)
TURNS = st.lists(st.lists(BLOCKS, max_size=7), min_size=1, max_size=3)


@given(TURNS, st.booleans())
def test_every_call_has_its_answers_right_behind_it(turns: list[list[Json]], answered: bool) -> None:
    messages: list[Json] = [user("?")]
    for blocks in turns:
        results = [tool_result(b["id"], "x") for b in blocks if b["type"] == "tool_use"] if answered else []
        messages += [assistant(*blocks) if blocks else assistant("b"), user(*results, text("?"))]
    request = {"model": "m", "max_tokens": 9, "messages": messages, "tools": [TOOL, tool("look")]}
    options = TranslationOptions(searches=True)
    waiting: list[str] = []
    for message in to_chat_completion(request, model="m", dialect=DIALECTS["openai"], options=options).params[
        "messages"
    ]:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert waiting == []
        waiting = [call["id"] for call in message.get("tool_calls", ())]
    assert waiting == []


# --- rounds ---

REQUEST: Json = {"model": "m", "max_tokens": 100, "messages": [user("Otters?")], "tools": [TOOL]}


def rounds(request: Json = REQUEST, most: int = 3, **bounds: Any) -> Rounds:
    return Rounds(request, search(**bounds), most)


def test_a_round_with_a_search_is_followed_by_one_that_knows_what_it_found() -> None:
    message = rounds()
    message.take([text("Let me look."), searched()])
    assert message.due("tool_use") == [(searched(), None)]
    assert message.end("tool_use", [found(OTTERS)]) is None
    message.go_on(30)
    assert message.request["messages"] == [
        user("Otters?"),
        {"role": "assistant", "content": [text("Let me look."), searched(), found(OTTERS)]},
    ]
    assert message.request["max_tokens"] == 70
    message.take([text("They swim.")])
    assert message.due("end_turn") == []
    assert message.end("end_turn", []) == "end_turn"
    assert [block["type"] for block in message.content] == [
        "text",
        "server_tool_use",
        "web_search_tool_result",
        "text",
    ]
    assert message.counted({"output_tokens": 9})["server_tool_use"] == {
        "web_search_requests": 1,
        "web_fetch_requests": 0,
    }


def test_a_message_without_a_search_counts_none() -> None:
    assert rounds().counted({"server_tool_use": None}) == {"server_tool_use": None}


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "stop_sequence", "model_context_window_exceeded"])
def test_a_search_that_was_cut_off_is_not_made(reason: str) -> None:
    message = rounds()
    message.take([searched()])
    assert message.due(reason) == []


def test_calls_of_the_client_s_end_the_message() -> None:
    message = rounds()
    message.take([searched(), tool_use("toolu_1", "look")])
    assert message.end("tool_use", [found()]) == "tool_use"


def test_a_message_with_too_many_rounds_is_paused() -> None:
    message = rounds(most=2)
    for number in range(2):
        message.take([searched(ident=f"s{number}")])
        ended = message.end("tool_use", [found(ident=f"s{number}")])
        assert ended == ("pause_turn" if number else None)


def refusals(message: Rounds, *calls: Json) -> list[str | None]:
    message.take(calls)
    return [refusal and refusal["content"]["error_code"] for _, refusal in message.due("tool_use")]


def test_more_searches_than_the_client_allows_are_not_made() -> None:
    message = rounds(max_uses=2)
    assert refusals(message, searched(ident="a"), searched(ident="b"), searched(ident="c")) == [
        None,
        None,
        "max_uses_exceeded",
    ]
    assert message.counted({})["server_tool_use"]["web_search_requests"] == 2


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"query": ""}, "invalid_tool_input"),
        ({"query": 7}, "invalid_tool_input"),
        ({}, "invalid_tool_input"),
        ({"_unparsed": "otters"}, "invalid_tool_input"),
        ({"query": "otter " * 200}, "query_too_long"),
    ],
)
def test_a_search_for_nothing_is_not_made_and_no_use(given: Json, code: str) -> None:
    message = rounds(max_uses=1)
    assert refusals(message, {**searched(), "input": given}, searched(ident="b")) == [code, None]


def test_what_the_client_forced_is_forced_once() -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "web_search", "disable_parallel_tool_use": True}):
        message = rounds({**REQUEST, "tool_choice": choice})
        message.end("tool_use", [found()])
        message.go_on(0)
        assert message.request["tool_choice"] == {**{k: v for k, v in choice.items() if k != "name"}, "type": "auto"}


def test_an_answer_that_the_client_began_goes_on() -> None:
    message = rounds({**REQUEST, "messages": [user("Otters?"), assistant("They")]})
    message.take([text(" swim"), searched()])
    message.end("tool_use", [found()])
    message.go_on(1000)
    assert message.request["messages"][-1] == assistant(text("They"), text(" swim"), searched(), found())
    assert message.request["max_tokens"] == 1


def test_a_stream_s_events_and_whole_blocks_are_the_same_round() -> None:
    blocks = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, text("Let me look."), searched()]
    streamed, whole = rounds(), rounds()
    whole.take(blocks)
    streamed.read([{"type": "message_start"}, *events_of(blocks), {"type": "ping"}])
    assert streamed.due("tool_use") == whole.due("tool_use")
    assert streamed.end("tool_use", [found()]) == whole.end("tool_use", [found()])
    assert streamed.content == whole.content


def events_of(blocks: list[Json]) -> list[Json]:
    empty = {"thinking": {"thinking": "", "signature": ""}, "text": {"text": ""}, "server_tool_use": {"input": {}}}
    deltas = {
        "thinking": [("thinking_delta", "thinking"), ("signature_delta", "signature")],
        "text": [("text_delta", "text")],
    }
    events: list[Json] = []
    for index, block in enumerate(blocks):
        events.append(
            {"type": "content_block_start", "index": index, "content_block": {**block, **empty[block["type"]]}}
        )
        for kind, name in deltas.get(block["type"], ()):
            for piece in (block[name][:2], block[name][2:]):
                delta = {"type": kind, name: piece}
                events.append({"type": "content_block_delta", "index": index, "delta": delta})
        if "input" in block:
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    return events


# --- the laws of streams, over rounds ---


SAID = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
CALLS = st.lists(st.sampled_from(["web_search", "look"]), max_size=3)
ROUNDS = st.lists(
    st.tuples(SAID, SAID, CALLS, st.sampled_from(["tool_calls", "stop", "length"])), min_size=1, max_size=4
)
RESTORE = {"web_search": {"type": "server_tool_use", "name": "web_search"}}


def restored(name: str) -> Json:
    return RESTORE.get(name, {"name": name})


def answers(message: Rounds, stop: Any) -> list[Json]:
    return [refusal or found(OTTERS, ident=call["id"]) for call, refusal in message.due(stop)]


@given(ROUNDS, st.integers(1, 4), st.booleans())
def test_rounds_keep_the_laws_of_streams(turns: list[Any], most: int, with_ids: bool) -> None:
    streamed, whole, usage = rounds(most=most), rounds(most=most), None
    translator, events, stop = StreamTranslator("msg_1", "m", restore=restored), [], None
    for said, thought, names, finish in turns:
        given = [f"call_{n}" if with_ids else None for n in range(len(names))]
        calls = [{**call(name, {"query": "otters"}), "id": ident} for name, ident in zip(names, given, strict=True)]
        answer = {"tool_calls": calls, "finish_reason": finish, "reasoning_content": thought}
        answer["usage"] = completion_usage()
        if not (said or calls):
            said = "Hm."
        made = [event for chunk in chat_chunks(said, **answer) for event in translator.feed(chunk)]
        reason = translator.stop.reason
        made += translator.end_round()
        streamed.read(made)
        results = answers(streamed, reason)
        events += [*made, *(event for block in results for event in translator.insert(block))]
        stop = streamed.end(reason, results)

        one = to_message(
            chat_completion(said, **answer), message_id="msg_1", model="m", restore=restored, round_number=whole.count
        )
        usage = added_usage(usage, one["usage"]) if usage else one["usage"]
        whole.take(one["content"])
        assert whole.end(one["stop_reason"], answers(whole, one["stop_reason"])) == stop
        if stop:
            break
        streamed.go_on(0)
        translator.next_round()
    events += translator.close(Stop(stop or "pause_turn"), streamed.counted(translator.usage))
    assert_well_formed(events)
    folded = fold(events)
    assert folded["content"] == streamed.content == whole.content
    assert folded["usage"]["output_tokens"] == (usage or {})["output_tokens"]
    ids = [block["id"] for block in folded["content"] if block["type"] == "server_tool_use"]
    assert len(ids) == len(set(ids))
