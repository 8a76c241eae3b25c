"""Pages of the web, as text: HTML becomes Markdown, a PDF its pages, and text stays as it is."""

import base64
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from llama_stack_messages_provider.documents.fetch import DocumentFetcher, Fetched, FetchError, decoded, is_pdf
from llama_stack_messages_provider.documents.html import HtmlError, HtmlReader
from llama_stack_messages_provider.documents.pdf import PdfError, PdfReader
from llama_stack_messages_provider.rewriting.documents import pages_source

__all__ = ["Page", "WebPages"]

_HTML = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True, slots=True)
class Page:
    """A page. `url` is where it was found in the end."""

    url: str
    title: str
    text: str


class WebPages:
    """Fetches pages and reads them.

    Args:
        fetcher: Fetches them, from where they may be fetched.
        html: Reads HTML; None where what reads it is not installed.
        pdfs: Reads PDFs.
    """

    def __init__(self, fetcher: DocumentFetcher, html: HtmlReader | None, pdfs: PdfReader) -> None:
        self._fetcher = fetcher
        self._html = html
        self._pdfs = pdfs

    async def read(self, url: str, permits: Callable[[str], bool], client: Hashable | None = None) -> Page:
        """The page at a URL.

        Args:
            url: The URL.
            permits: Whether a URL may be fetched, asked again after each redirect.
            client: Whose request it is, if that is known.

        Raises:
            FetchError: It cannot be had or read.
            OverloadedError: Too many requests wait already.
        """
        fetched = await self._fetcher.page(url, permits, client)
        if is_pdf(fetched):
            return Page(fetched.url, "", await self._pdf(fetched, client))
        text = await decoded(fetched)
        if fetched.content_type not in _HTML:
            return Page(fetched.url, "", text)
        if self._html is None:
            raise FetchError("nothing here reads HTML", "unsupported_content_type")
        try:
            title, text = await self._html.read(text, fetched.url, client)
        except HtmlError as exc:
            raise FetchError(str(exc), "unsupported_content_type") from None
        return Page(fetched.url, title, text)

    async def _pdf(self, fetched: Fetched, client: Hashable | None) -> str:
        try:
            async with self._pdfs.reading(client) as reading:
                pages = await reading.pages(base64.b64encode(fetched.body).decode())
        except PdfError as exc:
            raise FetchError(str(exc), "unsupported_content_type") from None
        return pages_source(pages)["data"]

    def close(self) -> None:
        """Look up no more names."""
        self._fetcher.close()
