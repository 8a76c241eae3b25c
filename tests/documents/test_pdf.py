"""PDFs are read in processes that have limits, and that end with their request."""

import asyncio
import os
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from llama_stack_messages_provider.documents.pdf import LastRead, PdfError, PdfReader
from llama_stack_messages_provider.errors import OverloadedError
from tests.documents.helpers import limited, pdf, pdf_block, resolved
from tests.documents.hostile import HOSTILE, slow
from tests.support.waiting import eventually_async
from tests.translation.helpers import assistant, user


async def pages_of(reader: PdfReader, *files: str) -> list[tuple[str, ...]]:
    async with reader.reading() as reading:
        return [await reading.pages(file) for file in files]


async def under_way(reader: PdfReader) -> Process:
    """The process that reads, once it is there."""
    await eventually_async(lambda: reader.processes, what="a process")
    return next(iter(reader.processes))


def lives(process: Process) -> bool:
    return Path(f"/proc/{process.pid}").exists()


# --- limits ---


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_was_made_to_hurt_is_refused_by_name(name: str) -> None:
    reader = limited(seconds=8)

    with pytest.raises(PdfError, match=r"characters of text|bytes of memory|s to read|could not be read"):
        await pages_of(reader, HOSTILE[name]())

    assert not reader.processes


async def test_a_process_whose_time_is_over_is_gone() -> None:
    reader = limited(seconds=1)
    reading = asyncio.create_task(pages_of(reader, slow()))
    process = await under_way(reader)

    with pytest.raises(PdfError, match=r"^the PDFs of a request may take 1 s to read$"):
        await reading

    assert not lives(process)


async def test_the_pages_of_a_request_are_counted_together() -> None:
    three, two = pdf("a", "b", "c"), pdf("d", "e")

    assert await pages_of(limited(pages=5), three, two) == [("a", "b", "c"), ("d", "e")]
    for files in ((three, two), (three, three), (pdf(*"abcde"),)):
        with pytest.raises(PdfError, match=r"^the PDFs of a request may have 4 pages$"):
            await pages_of(limited(pages=4), *files)


async def test_the_text_of_a_request_is_counted_together() -> None:
    words = pdf("ten chars.")

    assert await pages_of(limited(characters=20), words, words) == [("ten chars.",)] * 2
    with pytest.raises(PdfError, match=r"^the PDFs of a request may have 19 characters of text$"):
        await pages_of(limited(characters=19), words, words)


async def test_a_pdf_may_have_as_many_pages_as_anthropics_api_takes() -> None:
    assert await pages_of(limited(), pdf(*[""] * 600)) == [("",) * 600]


# --- processes ---


async def test_a_client_that_leaves_ends_the_work() -> None:
    reader = limited()
    reading = asyncio.create_task(pages_of(reader, slow()))
    process = await under_way(reader)

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert not lives(process)
    assert await pages_of(reader, pdf("Hello.")) == [("Hello.",)]


async def test_all_processes_end_with_the_server() -> None:
    reader = limited()
    reading = asyncio.create_task(pages_of(reader, slow()))
    process = await under_way(reader)

    reader.close()
    with pytest.raises(PdfError):
        await reading

    assert not lives(process)


async def test_a_process_reads_all_pdfs_of_a_request_and_none_of_another() -> None:
    reader, seen = limited(), []
    for names in ("ab", "cd"):
        async with reader.reading() as reading:
            for name in names:
                assert await reading.pages(pdf(name)) == (name,)
                seen.append(next(iter(reader.processes)).pid)
        assert not reader.processes
    assert seen[0] == seen[1] != seen[2] == seen[3]


async def test_a_process_knows_nothing_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    async with limited().started() as process:
        assert process.stdin is not None
        process.stdin.write(b'{"size": 1, "pages": 1, "characters": 1}\nx')
        assert process.stdout is not None
        await process.stdout.readexactly(8)
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"PYTHONPATH" in environment
        assert b"secret" not in environment
        assert "llama_stack/" not in Path(f"/proc/{process.pid}/maps").read_text()
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_one_user_does_not_take_all_processes() -> None:
    reader = limited(processes=2)

    async def read(client: str, file: str) -> tuple[str, ...]:
        async with reader.reading(client) as reading:
            return await reading.pages(file)

    hostile = [asyncio.create_task(read("mallory", slow())) for _ in range(4)]
    await under_way(reader)
    assert await read("alice", pdf("Hello.")) == ("Hello.",)
    assert not any(task.done() for task in hostile)
    for task in hostile:
        task.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)
    assert not reader.processes


async def test_no_more_than_some_wait() -> None:
    reader = limited(processes=1, waiting=1)
    first, second = (asyncio.create_task(pages_of(reader, slow())) for _ in range(2))
    await under_way(reader)

    with pytest.raises(OverloadedError):
        await pages_of(reader, pdf("Hello."))

    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def test_the_loop_goes_on_while_a_long_pdf_is_read() -> None:
    reading = asyncio.create_task(pages_of(limited(), pdf(*["otters swim"] * 300)))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10
    assert len((await reading)[0]) == 300


# --- what is not read again ---


async def test_a_pdf_that_comes_again_starts_nothing() -> None:
    reader, data = limited(), pdf("Hello.", "World.")
    [first] = await pages_of(reader, data)

    async with reader.reading() as reading:
        assert await reading.pages(data) is first
        assert not reader.processes


async def test_a_request_without_pdfs_starts_nothing_and_is_left_as_it_is() -> None:
    reader = limited()
    assert (await resolved([user("a document")], reader))["messages"] == [user("a document")]
    assert not reader.processes


async def test_a_page_of_the_history_that_ends_its_process_does_not_end_the_conversation() -> None:
    page = {"type": "web_fetch_result", "url": "https://x.test", "content": pdf_block(HOSTILE["forms of forms"]())}
    fetched = {"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_1", "content": page}

    request = await resolved([user("Hi"), assistant(fetched), user(pdf_block(pdf("Hello.")))])

    assert request["messages"][1]["content"][0] == fetched
    assert "Hello." in request["messages"][2]["content"][0]["source"]["data"]


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
