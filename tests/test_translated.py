"""The translated route, as far as no upstream is needed."""

import asyncio
import base64
from typing import Any

import pytest

from llama_stack_messages_provider.rewriting.document_refs import has_pdfs
from llama_stack_messages_provider.routing.plan import TranslationPlan
from llama_stack_messages_provider.routing.probe import Capability
from llama_stack_messages_provider.routing.state import RouteState
from llama_stack_messages_provider.routing.translated_route import TranslatedRoute
from llama_stack_messages_provider.translation.request import TranslationOptions
from llama_stack_messages_provider.upstream.target import Target
from tests.fidelity.documents import pdf
from tests.translation.helpers import assistant, text, tool_result, tool_use, user

type Json = dict[str, Any]

PLAN = TranslationPlan(Target("p/m", "p", None, "m", {}), "", Capability("no", False, "unknown", ""), None)
HUNDRED_PAGES = base64.b64encode(pdf(["otters swim " * 300] * 100)).decode()


def pdf_block(data: str = "") -> Json:
    return {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}


def request(*messages: Json) -> Json:
    return {"model": "m", "max_tokens": 9, "messages": list(messages)}


FETCHED = {"type": "web_fetch_result", "url": "https://x.test", "content": pdf_block()}


@pytest.mark.parametrize(
    "turn",
    [
        user(pdf_block()),
        user(text("Hi"), tool_result("a", [pdf_block()])),
        assistant({"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_1", "content": FETCHED}),
    ],
    ids=["of a user", "of a result", "of a page that was fetched"],
)
def test_pdfs_are_found(turn: Json) -> None:
    assert has_pdfs(request(user("Hi"), turn))


@pytest.mark.parametrize(
    "turn",
    [
        user("Hi"),
        {"role": "system"},
        user({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}),
        user({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x"}}),
        assistant(tool_use("a", type="document", source={"type": "base64"})),
        user(tool_result("a", "x"), {"type": "hologram", "content": 3}),
    ],
)
def test_what_is_no_pdf_is_not(turn: Json) -> None:
    assert not has_pdfs(request(turn))


async def test_the_loop_goes_on_while_a_long_pdf_is_read() -> None:
    route: Any = TranslatedRoute(None, None, b"key", TranslationOptions(), "auto", None)  # type: ignore[arg-type]
    reading = asyncio.create_task(
        route._translated(request(user(pdf_block(HUNDRED_PAGES))), RouteState(PLAN, {}, strict=False))
    )
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    assert '<page number="100">' in reading.result().params["messages"][0]["content"]


async def test_a_request_without_pdfs_is_translated_at_once() -> None:
    route: Any = TranslatedRoute(None, None, b"key", TranslationOptions(), "auto", None)  # type: ignore[arg-type]
    coroutine = route._translated(request(user("Hi")), RouteState(PLAN, {}, strict=False))
    with pytest.raises(StopIteration) as end:  # without a step of the loop
        coroutine.send(None)
    assert end.value.value.params["messages"] == [user("Hi")]
