"""Documents of a request as text: those given by URL are fetched, and PDFs are read, before anything is rewritten."""

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any

from llama_stack_messages_provider.config import MessagesConfig, WebFetchConfig
from llama_stack_messages_provider.documents.fetch import DocumentFetcher, FetchLimits, allowing
from llama_stack_messages_provider.documents.html import HtmlLimits, HtmlReader, can_read_html
from llama_stack_messages_provider.documents.pages import WebPages
from llama_stack_messages_provider.documents.pdf import PdfError, PdfLimits, PdfReader, PdfReading
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting.document_refs import (
    DocumentRef,
    documents,
    may_have_documents,
    with_sources,
)
from llama_stack_messages_provider.rewriting.documents import pages_source

__all__ = ["Documents", "documents_of"]

# A request of many small documents leaves room for others after so many of them.
_BREATH = 100


class Documents:
    """Puts text in the place of documents.

    Args:
        pdfs: Reads PDFs.
        fetcher: Fetches those given by URL, if that is switched on.
        pages: Fetches pages that models ask for, if that is switched on.
    """

    def __init__(self, pdfs: PdfReader, fetcher: DocumentFetcher | None = None, pages: WebPages | None = None) -> None:
        self._pdfs = pdfs
        self._fetcher = fetcher
        self.pages = pages

    async def resolve(
        self, request: dict[str, Any], *, body: bytes, files: bool = False, client: Hashable | None = None
    ) -> dict[str, Any]:
        """A validated request whose documents are text, or what its upstream takes.

        Args:
            request: The request.
            body: What it was read from.
            files: Whether the upstream takes PDFs as they are, from users.
            client: Whose request it is, if that is known: what takes long is shared out fairly.

        Raises:
            InvalidRequestError: A document cannot be had or read, with its path and the reason.
            OverloadedError: Too many wait for theirs already.
        """
        if not may_have_documents(body):
            return request
        fetched = {} if self._fetcher is None else await self._fetcher.sources(request, client)
        request = with_sources(request, fetched) if fetched else request
        async with self._pdfs.reading(client) as reading:
            read = {}
            for count, ref in enumerate(documents(request)):
                if _is_pdf(ref) and not (files and _from_user(request, ref)):
                    if (source := await _read(ref, reading, given_by_url=ref.keys in fetched)) is not None:
                        read[ref.keys] = source
                elif count % _BREATH == 0:
                    await asyncio.sleep(0)
        return with_sources(request, read) if read else request

    def close(self) -> None:
        """End what is under way."""
        self._pdfs.close()
        for each in (self._fetcher, self.pages):
            if each is not None:
                each.close()


def _is_pdf(ref: DocumentRef) -> bool:
    return ref.source.get("type") == "base64" and isinstance(ref.source.get("data"), str)


def _from_user(request: Mapping[str, Any], ref: DocumentRef) -> bool:
    """Whether a user gave it, in a turn or in a tool's result: OpenAI's API takes files from nobody else."""
    return not ref.in_history and request["messages"][ref.keys[1]].get("role") == "user"


async def _read(ref: DocumentRef, reading: PdfReading, *, given_by_url: bool) -> dict[str, str] | None:
    try:
        return pages_source(await reading.pages(ref.source["data"]))
    except PdfError as exc:
        if ref.in_history:
            return None
        field = "url" if given_by_url else "data"
        raise InvalidRequestError(f"{ref.path}.source.{field}: {exc}") from None


def documents_of(config: MessagesConfig) -> Documents:
    """The documents service that a configuration asks for."""
    limits, translation = config.documents, config.translation
    pdfs = PdfReader(
        PdfLimits(
            processes=limits.pdf_processes,
            waiting=limits.pdf_waiting,
            seconds=limits.pdf_seconds,
            memory_bytes=limits.pdf_memory_bytes,
            pages=limits.pdf_pages,
            characters=limits.pdf_characters,
        )
    )
    fetching = FetchLimits(translation.fetch_seconds, translation.fetch_bytes, limits.fetched_bytes)
    fetcher = DocumentFetcher(fetching, allowed=allowing(translation.fetch_allow)) if translation.fetch_urls else None
    return Documents(pdfs, fetcher, _pages_of(config.web_fetch, pdfs) if config.web_fetch.enabled else None)


def _pages_of(config: WebFetchConfig, pdfs: PdfReader) -> WebPages:
    fetcher = DocumentFetcher(FetchLimits(config.seconds, config.bytes), allowed=allowing(config.allow))
    return WebPages(fetcher, HtmlReader(HtmlLimits(seconds=config.seconds)) if can_read_html() else None, pdfs)
