"""The text of PDFs, read in processes that have limits.

A process serves one request and ends with it, so that no client's file is ever in a process with another's, and none
runs for a client that has left. pypdfium2 reads in them: on this machine 24 ms for ten pages and 167 ms for a hundred,
where pypdf took 113 and 959; pdf_oxide is as fast, but went round in cyclic pages for ever.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

import orjson

from llama_stack_messages_provider.documents.slots import FairSlots

__all__ = ["LastRead", "PdfError", "PdfLimits", "PdfReader", "PdfReading", "worker_process"]

Pages = tuple[str, ...]

_WORKER = "llama_stack_messages_provider.documents.pdf_worker"
_PIECE = 1024 * 1024
_HELD_CHARACTERS = 8_000_000
# A character is at most this long in the worker's JSON, and a page takes two quotes and a comma.
_CHARACTER_BYTES, _PAGE_BYTES, _ANSWER_BYTES = 12, 4, 1000


@dataclass(frozen=True, slots=True)
class PdfLimits:
    """What PDFs may cost.

    Args:
        processes: At once, of all requests.
        waiting: Requests that wait for one.
        seconds: For the PDFs of a request, once it is their turn.
        memory_bytes: Of a process.
        pages: Of all PDFs of a request.
        characters: Of all PDFs of a request.
    """

    processes: int
    waiting: int
    seconds: float
    memory_bytes: int
    pages: int
    characters: int


class PdfError(Exception):
    """A PDF has no text for us; the reason is for whoever sent it."""


class PdfReader:
    """Reads PDFs.

    Args:
        limits: What they may cost.
    """

    def __init__(self, limits: PdfLimits) -> None:
        self.limits = limits
        self.slots = FairSlots(limits.processes, limits.waiting)
        self.last_read = LastRead(_HELD_CHARACTERS)
        self.processes: set[Process] = set()

    @asynccontextmanager
    async def reading(self, client: Hashable | None = None) -> AsyncIterator["PdfReading"]:
        """Read the PDFs of one request. Until the first that is not held nothing is started.

        Args:
            client: Whose request it is, if that is known.
        """
        async with AsyncExitStack() as stack:
            yield PdfReading(self, stack, client)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Process]:
        """A process that reads, until it is not needed any more."""
        process = await worker_process(_WORKER, self.limits.memory_bytes, self.limits.seconds)
        self.processes.add(process)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            self.processes.discard(process)

    def close(self) -> None:
        """End what is read."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                process.kill()


async def worker_process(module: str, memory_bytes: int, seconds: float) -> Process:
    """A process that runs a module of ours under limits, which its arguments say.

    A stranger's file is read in it: it gets to know where to import from, and nothing else.
    """
    known = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    known |= {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    limits = map(str, (memory_bytes, ceil(seconds) + 1))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, *limits, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=known
    )


class PdfReading:
    """The PDFs of one request, and what is left of its limits."""

    def __init__(self, reader: PdfReader, stack: AsyncExitStack, client: Hashable | None) -> None:
        self._reader = reader
        self._stack = stack
        self._client = client
        self._process: Process | None = None
        self._has_slot = False
        self._pages = reader.limits.pages
        self._characters = reader.limits.characters
        self._seconds = reader.limits.seconds

    async def pages(self, data: str) -> Pages:
        """The text of each page of a base64 PDF; what was read a short while ago is not read again.

        Raises:
            PdfError: It cannot be read, or takes more than what is left to the request.
            OverloadedError: Too many wait to be read.
        """
        file = data.encode("ascii", "replace")
        key = await _digest(file)
        pages = self._reader.last_read.get(key)
        if pages is None:
            pages = await self._read(file)
            self._reader.last_read.add(key, pages)
        return self._counted(pages)

    def _counted(self, pages: Pages) -> Pages:
        characters = sum(map(len, pages))
        if len(pages) > self._pages:
            raise PdfError(self._reason("pages"))
        if characters > self._characters:
            raise PdfError(self._reason("characters"))
        self._pages -= len(pages)
        self._characters -= characters
        return pages

    async def _read(self, file: bytes) -> Pages:
        if self._seconds <= 0:
            raise PdfError(self._reason("seconds"))
        if not self._has_slot:
            await self._stack.enter_async_context(self._reader.slots.slot(self._client))
            self._has_slot = True
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._asked(file)
        except TimeoutError:
            self._seconds = 0
            raise PdfError(self._reason("seconds")) from None
        self._seconds -= loop.time() - begun
        pages = answer.get("pages")
        if not isinstance(pages, list):
            raise PdfError(self._reason(str(answer.get("error"))))
        return tuple(map(str, pages))

    async def _asked(self, file: bytes) -> dict[str, object]:
        """What a process answers; one that has ended is replaced by another."""
        if self._process is None or self._process.returncode is not None:
            self._process = await self._stack.enter_async_context(self._reader.started())
        process = self._process
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        head = {"size": len(file), "pages": self._pages, "characters": self._characters}
        try:
            stdin.write(orjson.dumps(head) + b"\n")
            for begin in range(0, len(file), _PIECE):
                stdin.write(file[begin : begin + _PIECE])
                await stdin.drain()
            size = int.from_bytes(await stdout.readexactly(8))
            if size <= self._most_bytes():
                return _object(await stdout.readexactly(size))
            process.kill()
        except (asyncio.IncompleteReadError, OSError):
            pass
        return {"error": _ENDED.get(await process.wait(), "unreadable")}

    def _most_bytes(self) -> int:
        limits = self._reader.limits
        return _ANSWER_BYTES + limits.characters * _CHARACTER_BYTES + limits.pages * _PAGE_BYTES

    def _reason(self, error: str) -> str:
        limits = self._reader.limits
        reasons = {
            "base64": "not valid base64",
            "password": "the PDF is protected by a password",
            "pages": f"the PDFs of a request may have {limits.pages} pages",
            "characters": f"the PDFs of a request may have {limits.characters} characters of text",
            "seconds": f"the PDFs of a request may take {limits.seconds:g} s to read",
            "memory": f"the PDF takes more than {limits.memory_bytes} bytes of memory to read",
        }
        return reasons.get(error, "the PDF could not be read")


# How a process ends that asks for more than it may have.
_ENDED = {-signal.SIGABRT: "memory", -signal.SIGTRAP: "memory", -signal.SIGXCPU: "seconds"}


def _object(body: bytes) -> dict[str, object]:
    answer = orjson.loads(body)
    return answer if isinstance(answer, dict) else {}


async def _digest(data: bytes) -> bytes:
    """The SHA-256 of bytes, with a breath for others between pieces."""
    found = sha256()
    for begin in range(0, len(data), _PIECE):
        found.update(data[begin : begin + _PIECE])
        await asyncio.sleep(0)
    return found.digest()


class LastRead:
    """The pages of the PDFs that were read last: a conversation brings its documents with each turn.

    Args:
        most_characters: What is held; each PDF counts as a thousand more, for what it takes besides.
    """

    def __init__(self, most_characters: int) -> None:
        self._most = most_characters
        self._held = 0
        self._pages: OrderedDict[bytes, Pages] = OrderedDict()

    def get(self, key: bytes) -> Pages | None:
        """The pages of a PDF, if they are still held."""
        if key in self._pages:
            self._pages.move_to_end(key)
        return self._pages.get(key)

    def add(self, key: bytes, pages: Pages) -> None:
        """Hold a PDF's pages, unless they are too many, and let go of those that were not asked for longest."""
        if key not in self._pages and _size(pages) <= self._most:
            self._pages[key] = pages
            self._held += _size(pages)
        while self._held > self._most:
            self._held -= _size(self._pages.popitem(last=False)[1])


def _size(pages: Pages) -> int:
    return 1000 + sum(len(page) + 100 for page in pages)
