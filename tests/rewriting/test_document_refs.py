"""Where documents stand in a request."""

import json
from copy import deepcopy
from typing import Any

import pytest

from llama_stack_messages_provider.rewriting.document_refs import documents, may_have_documents, with_sources
from tests.translation.helpers import assistant, text, tool_result, tool_use, user

type Json = dict[str, Any]

PDF: Json = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""}}
PLAIN: Json = {"type": "text", "media_type": "text/plain", "data": "words"}
PAGE: Json = {"type": "web_fetch_result", "url": "https://x.test", "content": PDF}
IN_HISTORY = {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": PAGE}


def request(*turns: Json) -> Json:
    return {"model": "m", "max_tokens": 9, "messages": list(turns)}


@pytest.mark.parametrize(
    ("turn", "path"),
    [
        (user(PDF), "messages.1.content.0"),
        (user(text("Hi"), tool_result("a", [text("x"), PDF])), "messages.1.content.1.content.1"),
        (assistant(IN_HISTORY), "messages.1.content.0.content.content"),
    ],
    ids=["a turn", "a result", "a page that was fetched"],
)
def test_a_document_is_found_and_replaced(turn: Json, path: str) -> None:
    before = request(user("Hi"), turn)
    kept = deepcopy(before)

    [ref] = documents(before)
    after = with_sources(before, {ref.keys: PLAIN})

    assert (ref.path, ref.block, ref.in_history) == (path, PDF, "content.content" in path)
    assert before == kept
    [new] = documents(after)
    assert (new.path, new.source) == (path, PLAIN)
    assert json.dumps(after).replace(json.dumps(PLAIN), json.dumps(PDF["source"])) == json.dumps(before)


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "system"},
        user("Hi"),
        user(text("x")),
        assistant(tool_use("a", type="document", source={"type": "base64"})),
        user(tool_result("a", "x"), {"type": "hologram", "content": 3}),
        user(tool_result("a", [tool_result("b", [PDF])])),
        assistant({"type": "web_fetch_tool_result", "content": {"type": "web_fetch_tool_result_error"}}),
    ],
)
def test_nothing_else_is_a_document(turn: Json) -> None:
    assert list(documents(request(turn))) == []


@pytest.mark.parametrize("source", [None, 5, "x", []])
def test_a_source_of_another_shape_is_none(source: Any) -> None:
    [ref] = documents(request(user({"type": "document", "source": source})))
    assert ref.source == {}


@pytest.mark.parametrize("spelled", ["document", "docu\\u006dent", "\\u0064ocument"])
def test_a_body_with_documents_is_known_however_it_is_spelled(spelled: str) -> None:
    assert may_have_documents(f'{{"type": "{spelled}"}}'.encode())


def test_most_bodies_are_not_looked_through() -> None:
    body = json.dumps(request(user(text("Ein Dokument in München", cache_control={"type": "ephemeral"}))))
    assert "\\u00fc" in body
    assert may_have_documents(body.encode())
    assert not may_have_documents(json.dumps(request(user("a document"))).encode())


def test_as_many_copies_are_made_as_there_are_documents() -> None:
    """Twice the documents of one turn: the turn's list is copied once all the same."""

    class Counted(list[Any]):
        copies = 0

        def copy(self) -> list[Any]:
            Counted.copies += 1
            return list(self)

    for count in (100, 200):
        Counted.copies = 0
        before = request({"role": "user", "content": Counted([PDF] * count)})
        with_sources(before, {ref.keys: PLAIN for ref in documents(before)})
        assert Counted.copies == 1
