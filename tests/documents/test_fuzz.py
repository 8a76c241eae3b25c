"""Any damage to a PDF ends as text or as a named refusal, whatever it does to the process that reads it."""

import asyncio
import base64
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.documents.pdf import PdfError, PdfReader
from tests.documents.helpers import limited, pdf
from tests.documents.hostile import HOSTILE

SEEDS = [base64.b64decode(made) for made in (pdf("Hello.", "World."), HOSTILE["forms of forms"]())]
NAMED = ("not valid base64", "the PDF ", "the PDFs of a request may ")

# Words that mean something to a reader of PDFs.
WORDS = (b"<<", b">>", b"[", b"]", b"(", b"stream\n", b"endstream", b"endobj", b"0 R", b"/Kids", b"/Length", b"/Filter")
WORDS += (b"/FlateDecode", b"/LZWDecode", b"/ASCII85Decode", b"/Count", b"-1", b"999999999999", b"xref", b"/Encrypt")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A PDF with some of its bytes replaced, repeated or left out."""
    file = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(file)))
        end = min(len(file), begin + draw(st.integers(0, 40)))
        put = draw(st.sampled_from(WORDS) | st.binary(max_size=8) | st.just(file[begin:end] * 3))
        file = file[:begin] + put + file[end:]
    return file


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def outcome(reader: PdfReader, data: str) -> tuple[str, ...] | str:
    """The pages, or the reason why there are none."""
    async with reader.reading() as reading:
        try:
            return await reading.pages(data)
        except PdfError as exc:
            return str(exc)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=damaged())
def test_any_damage_is_survived(runner: asyncio.Runner, file: bytes) -> None:
    reader = limited(seconds=5, memory_bytes=64 * 1024 * 1024)
    found = runner.run(outcome(reader, base64.b64encode(file).decode()))
    if isinstance(found, str):
        assert found.startswith(NAMED)
    else:
        assert all(page.encode() is not None for page in found)
    assert not reader.processes


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.text(max_size=30))
def test_any_text_is_survived(runner: asyncio.Runner, data: str) -> None:
    found = runner.run(outcome(limited(), data))
    assert isinstance(found, str)
    assert found.startswith(NAMED)
