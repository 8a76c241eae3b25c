"""The text of web pages as Markdown, made in processes that have limits, as PDFs are read.

html-to-markdown (MIT, Rust, no dependencies) took 29 ms for a page of 170 kB, trafilatura 507 ms and seventeen packages
beside it; html2text is under the GPL. It comes with the extra `web`.
"""

import asyncio
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

import orjson

from llama_stack_messages_provider.documents.pdf import worker_process
from llama_stack_messages_provider.documents.slots import FairSlots

__all__ = ["HtmlError", "HtmlLimits", "HtmlReader", "can_read_html"]

_WORKER = "llama_stack_messages_provider.documents.html_worker"


def can_read_html() -> bool:
    """Whether what reads pages is installed."""
    return find_spec("html_to_markdown") is not None


@dataclass(frozen=True, slots=True)
class HtmlLimits:
    """What a page may cost.

    Args:
        processes: At once.
        waiting: Pages that wait for one.
        seconds: For one page.
        memory_bytes: Of a process.
        characters: Of text that is kept.
    """

    processes: int = 2
    waiting: int = 64
    seconds: float = 10.0
    memory_bytes: int = 256 * 1024 * 1024
    characters: int = 1_000_000


class HtmlError(Exception):
    """A page has no text for us."""


class HtmlReader:
    """Reads web pages.

    Args:
        limits: What a page may cost.
    """

    def __init__(self, limits: HtmlLimits) -> None:
        self._limits = limits
        self._slots = FairSlots(limits.processes, limits.waiting)

    async def read(self, page: str, url: str, client: Hashable | None = None) -> tuple[str, str]:
        """The title and the Markdown of a page that stands at a URL.

        Args:
            page: The page.
            url: The URL.
            client: Whose request it is, if that is known.

        Raises:
            HtmlError: It takes too long, or too much memory.
            OverloadedError: Too many wait to be read.
        """
        head = orjson.dumps({"url": url, "characters": self._limits.characters})
        async with self._slots.slot(client):
            process = await worker_process(_WORKER, self._limits.memory_bytes, self._limits.seconds)
            try:
                async with asyncio.timeout(self._limits.seconds):
                    answer, _ = await process.communicate(head + b"\n" + page.encode(errors="replace"))
            except TimeoutError:
                raise HtmlError("the page took too long to read") from None
            finally:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        try:
            found = orjson.loads(answer)
            return str(found["title"]), str(found["text"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise HtmlError("the page could not be read") from None
