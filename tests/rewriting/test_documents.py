"""PDFs: real ones, and files that are none."""

import base64
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.documents import LastRead, pdf_pages
from tests.translation.helpers import assistant, image, text, tool_result, tool_use, translated, user

type Json = dict[str, Any]

FONT = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}


def pdf(*pages: str, password: str | None = None) -> str:
    """A PDF in base64, a line of text on each page."""
    writer = PdfWriter()
    for words in pages:
        page = writer.add_blank_page(300, 300)
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 200 Td ({words}) Tj ET".encode() if words else b"")
        page[NameObject("/Contents")] = writer._add_object(content)
        page[NameObject("/Resources")] = names({"/Font": names({"/F1": names(FONT)})})
    if password:
        writer.encrypt(password, algorithm="RC4-40")
    file = BytesIO()
    writer.write(file)
    return base64.b64encode(file.getvalue()).decode()


def names(entries: Json) -> DictionaryObject:
    return DictionaryObject({NameObject(k): NameObject(v) if isinstance(v, str) else v for k, v in entries.items()})


def pdf_block(data: str, **fields: Any) -> Json:
    return {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": data},
        **fields,
    }


def lines(of: Iterable[str]) -> str:
    return "\n".join(of)


def test_each_page_stands_between_markers() -> None:
    block = pdf_block(pdf("The sky is blue.", "", "The sea is green."), title="Colours", context="A report.")

    [message] = translated(user(block, text("Which colour?"))).params["messages"]

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


def test_ten_pages_an_image_and_a_text_reach_the_model_together() -> None:
    pages = [f"Page {n} speaks of topic {n}." for n in range(1, 11)]
    note = {"type": "document", "title": "Note", "source": {"type": "text", "media_type": "text/plain", "data": "N"}}

    [message] = translated(user(pdf_block(pdf(*pages), title="Book"), image(), note, text("?"))).params["messages"]

    book, picture, noted, asked = message["content"]
    assert all(page in book["text"] for page in pages)
    assert picture["type"] == "image_url"
    assert noted["text"] == '<document title="Note">\nN\n</document>'
    assert asked == {"type": "text", "text": "?"}


def test_a_pdf_in_a_tool_result_is_text_there() -> None:
    result = tool_result("a", [text("a.pdf:"), pdf_block(pdf("Hello."))])

    translation = translated(assistant(tool_use("a")), user(result))

    assert translation.params["messages"][1]["content"] == (
        'a.pdf:\n\n<document>\n<page number="1">\nHello.\n</page>\n</document>'
    )


@pytest.mark.parametrize(
    ("title", "name"), [(None, "document.pdf"), ("Report.PDF", "Report.PDF"), ("Report of 1.5.", "Report of 1.5..pdf")]
)
def test_an_engine_that_takes_files_gets_the_file(title: str | None, name: str) -> None:
    data = pdf("Hello.")

    translation = translated(user(pdf_block(data, title=title)), dialect="openai")

    file = {"filename": name, "file_data": f"data:application/pdf;base64,{data}"}
    assert translation.params["messages"] == [{"role": "user", "content": [{"type": "file", "file": file}]}]


def test_what_was_said_about_a_file_stands_before_it() -> None:
    given = pdf_block(pdf("Hello."), title="Report", context="Of 1999.", citations={"enabled": True})

    translation = translated(user(given), dialect="openai")

    [context, file] = translation.params["messages"][0]["content"]
    assert context == text('<context title="Report">\nOf 1999.\n</context>')
    assert file["file"]["filename"] == "Report.pdf"
    assert translation.dropped == ["messages.0.content.0.citations"]


def test_an_assistants_pdf_is_text_even_there() -> None:
    translation = translated(user("Hi"), assistant(pdf_block(pdf("Hello."))), dialect="openai")

    assert "Hello." in translation.params["messages"][1]["content"]


def test_a_file_of_a_tool_result_follows_in_the_user_message() -> None:
    translation = translated(
        assistant(tool_use("a")), user(tool_result("a", [pdf_block(pdf("Hello."))])), dialect="openai"
    )

    [head, file] = translation.params["messages"][2]["content"]
    assert head["text"] == "From the result of the tool call a:"
    assert file["type"] == "file"


def test_base64_in_lines_is_base64() -> None:
    data = pdf("Hello.")

    assert pdf_pages(f"{data[:76]}\r\n{data[76:]}\n", "x") == ("Hello.",)


def test_a_pdf_without_text_is_named() -> None:
    translation = translated(user(pdf_block(pdf("", "")), text("?")))

    assert translation.dropped == ["messages.0.content.0.source"]
    with pytest.raises(InvalidRequestError, match="there is no text in the PDF"):
        translated(user(pdf_block(pdf(""))), options={"strict": True})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("%%%", "not valid base64"),
        ("YQ", "not valid base64"),
        ("", "the PDF could not be read"),
        (base64.b64encode(b"just text").decode(), "the PDF could not be read"),
        (base64.b64encode(b"%PDF-1.7\n%%EOF").decode(), "the PDF could not be read"),
        (base64.b64encode(base64.b64decode(pdf("Hello."))[:200]).decode(), "the PDF could not be read"),
        (pdf("Secret.", password="x"), "the PDF could not be read"),
    ],
    ids=["no base64", "no padding", "nothing", "text", "a head", "cut off", "encrypted"],
)
def test_what_is_no_readable_pdf_is_refused_by_its_path(data: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        translated(user(text("See:"), pdf_block(data)))

    assert refusal.value.message == f"messages.0.content.1.source.data: {reason}"


def test_a_pdf_may_have_as_many_pages_as_anthropics_api_takes() -> None:
    assert pdf_pages(pdf(*[""] * 600), "x") == ("",) * 600
    with pytest.raises(InvalidRequestError, match=r"^x: the PDF has more than 600 pages$"):
        pdf_pages(pdf(*[""] * 601), "x")


def test_a_pdf_that_comes_again_is_not_read_again() -> None:
    data = pdf("Hello.", "World.")

    assert pdf_pages(data, "x") is pdf_pages(data, "y")


def test_the_pages_that_were_not_asked_for_longest_are_let_go() -> None:
    held = LastRead(most_characters=2300)
    for name in (b"a", b"b"):
        held.add(name, ("six ch",))
        held.add(name, ("six ch",))
    held.get(b"a")
    held.add(b"c", ("six ch",))
    assert [held.get(name) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    held.add(b"large", ("x" * 2000,))
    assert [held.get(name) is not None for name in (b"a", b"c", b"large")] == [True, True, False]
    held.add(b"none", ())
    assert [held.get(name) is not None for name in (b"a", b"c", b"none")] == [False, True, True]


def test_any_damage_to_a_pdf_is_survived() -> None:
    whole = base64.b64decode(pdf("Hello.", "World."))

    for position in range(0, len(whole), 7):
        damaged = whole[:position] + b"\xff\x00(" + whole[position + 3 :]
        try:
            pages = pdf_pages(base64.b64encode(damaged).decode(), "x")
        except InvalidRequestError:
            continue
        assert "".join(pages).encode() is not None
