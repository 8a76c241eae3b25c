"""A PDF of ten pages, an image and a text document in one conversation, asked about by name."""

import base64
from collections.abc import Callable
from typing import Any

import anthropic
import pytest

from tests.conftest import Fleet
from tests.fidelity.cases import Json
from tests.fidelity.documents import pdf, png
from tests.fidelity.matching import Has, differences
from tests.support.stack import Stack, openai_provider
from tests.support.upstream import ScriptedUpstream, text_block

PAGES = (
    "The lighthouse of Eldoria was built in 1887.",
    "Its first keeper was Captain Marigold Finch.",
    "The lamp burns whale oil.",
    "A storm broke the north window in 1901.",
    "The stairs have 214 steps.",
    "A cat named Biscuit lived in the tower.",
    "The foghorn sounds every forty seconds.",
    "The garden grows red tulips.",
    "The island has three wells.",
    "The keeper retired in 1923.",
)
PDF_DATA = base64.b64encode(pdf(PAGES)).decode()
PDF: Json = {
    "type": "document",
    "title": "Lighthouse Report",
    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF_DATA},
}
IMAGE: Json = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()},
}
TEXT: Json = {
    "type": "document",
    "title": "Bakery Menu",
    "source": {"type": "text", "media_type": "text/plain", "data": "The bakery sells plum cake and rye bread."},
}
ANSWERS = {
    "Who was the first keeper of the lighthouse?": "Marigold Finch",
    "Summarize the Lighthouse Report.": "1887",
    "What does the bakery sell?": "plum cake and rye bread",
    "Summarize the document titled Bakery Menu.": "plum cake and rye bread",
}
"""What a model of 135 million parameters finds in them at temperature 0."""


def about(*blocks: Json, question: str) -> list[Json]:
    return [{"role": "user", "content": [*blocks, text_block(question)]}]


@pytest.mark.parametrize("question", ANSWERS)
def test_a_real_model_answers_from_the_text_of_the_documents(real_client: anthropic.Anthropic, question: str) -> None:
    """It takes no images: that there is one is all that it is told, and the client is told that."""
    request: Any = {
        "model": "claude-any",
        "max_tokens": 40,
        "messages": about(PDF, IMAGE, TEXT, question=question),
        "extra_body": {"temperature": 0},
    }
    raw = real_client.messages.with_raw_response.create(**request)
    assert raw.headers["x-messages-dropped"] == "messages.0.content.1"
    with real_client.messages.stream(**request) as stream:
        streamed = stream.get_final_message()
    for message in (raw.parse(), streamed):
        assert message.content[0].type == "text"
        assert ANSWERS[question] in message.content[0].text


def test_each_page_counts(real_client: anthropic.Anthropic) -> None:
    counts = []
    for pages in (0, 1, 5, 10):
        source = {**PDF["source"], "data": base64.b64encode(pdf(PAGES[:pages])).decode()}
        blocks = [{**PDF, "source": source}] if pages else []
        messages: Any = about(*blocks, question="Summarize it.")
        counts.append(real_client.messages.count_tokens(model="claude-any", messages=messages).input_tokens)
    assert counts == sorted(set(counts))
    assert counts[-1] - counts[0] > 10 * 10


def test_a_model_with_eyes_sees_all_three(fleet: Fleet) -> None:
    with anthropic.Anthropic(base_url=fleet.base_url, api_key="any") as client:
        messages: Any = about(PDF, IMAGE, TEXT, question="Compare them.")
        client.messages.create(model="openai/openai-model", max_tokens=9, messages=messages)
    pages = [piece for n, page in enumerate(PAGES, 1) for piece in (f'<page number="{n}">', page)]
    parts = [
        {"type": "text", "text": Has('<document title="Lighthouse Report">', *pages, "</document>")},
        {"type": "image_url", "image_url": {"url": Has("data:image/png;base64,")}},
        {"type": "text", "text": Has('<document title="Bakery Menu">', "plum cake", "</document>")},
        text_block("Compare them."),
    ]
    assert differences([{"role": "user", "content": parts}], fleet.upstreams["openai"].last.json["messages"]) == []


def test_an_upstream_that_takes_files_gets_the_pdf_itself(scripted_stack: Callable[..., Stack]) -> None:
    with ScriptedUpstream() as files, ScriptedUpstream() as plain:
        stack = scripted_stack(
            inference=[openai_provider(files.url, "files"), openai_provider(plain.url, "plain")],
            messages={"translation": {"file_parts": ["files"]}},
        )
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [PDF, TEXT]}
        call = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {}}
        turns: Any = [*about(PDF, TEXT, question="Read."), {"role": "assistant", "content": [call]}]
        turns.append({"role": "user", "content": [result]})
        with anthropic.Anthropic(base_url=stack.base_url, api_key="any") as client:
            for name in ("files", "plain"):
                client.messages.create(model=f"{name}/test-model", max_tokens=9, messages=turns)
        part = {"filename": "Lighthouse Report.pdf", "file_data": f"data:application/pdf;base64,{PDF_DATA}"}
        file, text = {"type": "file", "file": part}, {"type": "text", "text": Has("Bakery Menu", "plum cake")}
        expected = [
            {"role": "user", "content": [file, text, text_block("Read.")]},
            {"role": "assistant"},
            {"role": "tool", "content": Has("plum cake")},
            {"role": "user", "content": [text_block("From the result of the tool call toolu_1:"), file]},
        ]
        assert differences(expected, files.last.json["messages"]) == []
        assert b'"file"' not in plain.last.body
        assert b"Marigold Finch" in plain.last.body
