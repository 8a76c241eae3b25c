"""PDFs become text before a request is translated: real ones, and files that are none."""

import base64
from collections.abc import Iterable
from typing import Any

import pytest

from llama_stack_messages_provider.errors import InvalidRequestError
from tests.documents.helpers import limited, pdf, pdf_block, translated
from tests.translation.helpers import assistant, image, text, tool_result, tool_use, user

type Json = dict[str, Any]


def lines(of: Iterable[str]) -> str:
    return "\n".join(of)


async def test_each_page_stands_between_markers() -> None:
    block = pdf_block(pdf("The sky is blue.", "", "The sea is green."), title="Colours", context="A report.")

    [message] = (await translated(user(block, text("Which colour?")))).params["messages"]

    assert message["content"] == lines(
        [
            '<document title="Colours">',
            "<context>",
            "A report.",
            "</context>",
            '<page number="1">',
            "The sky is blue.",
            "</page>",
            '<page number="2">',
            "",
            "</page>",
            '<page number="3">',
            "The sea is green.",
            "</page>",
            "</document>",
            "",
            "Which colour?",
        ]
    )


async def test_ten_pages_an_image_and_a_text_reach_the_model_together() -> None:
    pages = [f"Page {n} speaks of topic {n}." for n in range(1, 11)]
    note = {"type": "document", "title": "Note", "source": {"type": "text", "media_type": "text/plain", "data": "N"}}

    given = user(pdf_block(pdf(*pages), title="Book"), image(), note, text("?"))
    [message] = (await translated(given)).params["messages"]

    book, picture, noted, asked = message["content"]
    assert all(page in book["text"] for page in pages)
    assert picture["type"] == "image_url"
    assert noted["text"] == '<document title="Note">\nN\n</document>'
    assert asked == {"type": "text", "text": "?"}


async def test_a_pdf_in_a_tool_result_is_text_there() -> None:
    result = tool_result("a", [text("a.pdf:"), pdf_block(pdf("Hello."))])

    translation = await translated(assistant(tool_use("a")), user(result))

    assert translation.params["messages"][1]["content"] == (
        'a.pdf:\n\n<document>\n<page number="1">\nHello.\n</page>\n</document>'
    )


@pytest.mark.parametrize(
    ("title", "name"), [(None, "document.pdf"), ("Report.PDF", "Report.PDF"), ("Report of 1.5.", "Report of 1.5..pdf")]
)
async def test_an_engine_that_takes_files_gets_the_file(title: str | None, name: str) -> None:
    data = pdf("Hello.")

    translation = await translated(user(pdf_block(data, title=title)), dialect="openai")

    file = {"filename": name, "file_data": f"data:application/pdf;base64,{data}"}
    assert translation.params["messages"] == [{"role": "user", "content": [{"type": "file", "file": file}]}]


async def test_what_was_said_about_a_file_stands_before_it() -> None:
    given = pdf_block(pdf("Hello."), title="Report", context="Of 1999.", citations={"enabled": True})

    translation = await translated(user(given), dialect="openai")

    [context, file] = translation.params["messages"][0]["content"]
    assert context == text('<context title="Report">\nOf 1999.\n</context>')
    assert file["file"]["filename"] == "Report.pdf"
    assert translation.dropped == ["messages.0.content.0.citations"]


async def test_an_assistants_pdf_is_text_even_there() -> None:
    translation = await translated(user("Hi"), assistant(pdf_block(pdf("Hello."))), dialect="openai")

    assert "Hello." in translation.params["messages"][1]["content"]


async def test_a_file_of_a_tool_result_follows_in_the_user_message() -> None:
    translation = await translated(
        assistant(tool_use("a")), user(tool_result("a", [pdf_block(pdf("Hello."))])), dialect="openai"
    )

    [head, file] = translation.params["messages"][2]["content"]
    assert head["text"] == "From the result of the tool call a:"
    assert file["type"] == "file"


async def test_base64_in_lines_is_base64() -> None:
    data = pdf("Hello.")

    async with limited().reading() as reading:
        assert await reading.pages(f"{data[:76]}\r\n{data[76:]}\n") == ("Hello.",)


async def test_a_pdf_without_text_is_named() -> None:
    translation = await translated(user(pdf_block(pdf("", "")), text("?")))

    assert translation.dropped == ["messages.0.content.0.source"]
    with pytest.raises(InvalidRequestError, match="there is no text in the PDF"):
        await translated(user(pdf_block(pdf(""))), options={"strict": True})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("%%%", "not valid base64"),
        ("YQ", "not valid base64"),
        ("", "the PDF could not be read"),
        (base64.b64encode(b"just text").decode(), "the PDF could not be read"),
        (base64.b64encode(b"%PDF-1.7\n%%EOF").decode(), "the PDF could not be read"),
        (base64.b64encode(base64.b64decode(pdf("Hello."))[:200]).decode(), "the PDF could not be read"),
        (pdf("Secret.", password="x"), "the PDF is protected by a password"),
    ],
    ids=["no base64", "no padding", "nothing", "text", "a head", "cut off", "encrypted"],
)
async def test_what_is_no_readable_pdf_is_refused_by_its_path(data: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        await translated(user(text("See:"), pdf_block(data)))

    assert refusal.value.message == f"messages.0.content.1.source.data: {reason}"
