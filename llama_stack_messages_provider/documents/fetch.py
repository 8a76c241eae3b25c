"""Documents given by URL, fetched before their request is translated; only where `translation.fetch_urls` is on.

A server that fetches what strangers name can be sent to where only it can reach. So a name is resolved first, each of
its addresses must belong to the public internet or to a network that is configured, and the connection goes to those
very addresses: a second look-up might say something else. Redirects are followed one by one under the same rules, and
no proxy is asked.

Source: https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import asyncio
import base64
import codecs
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from yarl import URL

from llama_stack_messages_provider.documents.lookups import Lookups
from llama_stack_messages_provider.documents.slots import FairSlots
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.http_client.failures import HttpError
from llama_stack_messages_provider.http_client.pool import Pool, Route, basic_auth
from llama_stack_messages_provider.http_client.response import Response, media_type
from llama_stack_messages_provider.rewriting.document_refs import DocumentRef, documents
from llama_stack_messages_provider.rewriting.documents import PDF

__all__ = [
    "CHARSETS",
    "DocumentFetcher",
    "FetchError",
    "FetchLimits",
    "Fetched",
    "allowing",
    "decoded",
    "is_pdf",
    "is_public",
]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Allowed = Callable[[str], bool]
Network = IPv4Network | IPv6Network

_MOST_REDIRECTS = 3
_MOST_DOCUMENTS = 20
_AT_ONCE = 4
_REQUESTS_AT_ONCE, _REQUESTS_WAITING = 16, 64
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PDF_HEAD = b"%PDF-"
_TEXTS = ("text/", "application/json", "application/xml", "application/xhtml+xml", "application/yaml")
# What comes packed may have any size once it is unpacked: it is asked for plain.
_HEADERS = {"accept": f"{PDF}, text/*;q=0.9", "accept-encoding": "identity"}

# Global to Python and yet not the internet: IPv4 in IPv6's clothes, protocol assignments, a cloud's own services.
_NOT_PUBLIC = tuple(map(ip_network, ("::/96", "64:ff9b::/96", "2002::/16", "192.0.0.0/24", "168.63.129.16/32")))


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a document may cost.

    Args:
        seconds: Until its last byte, redirects included.
        size: Its bytes.
        total: The bytes of all documents of a request.
    """

    seconds: float
    size: int
    total: int = 32 * 1024 * 1024


class FetchError(ValueError):
    """A URL cannot be fetched; the reason is for whoever named it.

    Args:
        reason: Why, in words.
        code: Why, as Anthropic's web fetch says it.
    """

    def __init__(self, reason: str, code: str = "url_not_accessible") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Fetched:
    """What stands at a URL.

    Args:
        url: The last one, redirects followed.
        content_type: Of the answer, in small letters.
        charset: Of the answer, if it says one.
        body: Its bytes.
    """

    url: str
    content_type: str
    charset: str | None
    body: bytes


class DocumentFetcher:
    """Fetches the documents of requests, and single pages.

    Args:
        limits: What a document may cost.
        resolve: Gives the addresses of a host and port.
        allowed: Whether an address may be connected to.
    """

    def __init__(self, limits: FetchLimits, resolve: Resolve | None = None, allowed: Allowed | None = None) -> None:
        self._limits = limits
        self._lookups = Lookups("documents-dns")
        self._resolve = resolve or self._lookups.addresses_of
        self._allowed = allowed or is_public
        self._slots = FairSlots(_REQUESTS_AT_ONCE, _REQUESTS_WAITING)

    async def sources(
        self, request: Mapping[str, Any], client: Hashable | None = None
    ) -> dict[tuple[str | int, ...], dict[str, Any]]:
        """What is found at the URLs of a validated request's documents, by the keys to the documents.

        Raises:
            InvalidRequestError: One of them cannot be had, with its path and the reason.
            OverloadedError: Too many requests wait for their documents.
        """
        refs = [ref for ref in documents(request) if _by_url(ref)]
        first = {ref.source["url"]: ref for ref in reversed(refs)}
        if not refs:
            return {}
        if len(first) > _MOST_DOCUMENTS:
            raise InvalidRequestError(f"messages: at most {_MOST_DOCUMENTS} documents are fetched for one request")
        left, turn = _Left(self._limits.total), asyncio.Semaphore(_AT_ONCE)
        try:
            async with self._slots.slot(client), asyncio.TaskGroup() as group:
                tasks = {
                    url: group.create_task(self._source(url, f"{ref.path}.source.url", turn, left))
                    for url, ref in first.items()
                }
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return {ref.keys: tasks[ref.source["url"]].result() for ref in refs}

    def close(self) -> None:
        """Look up no more names."""
        self._lookups.close()

    async def page(self, url: str, permits: Callable[[str], bool], client: Hashable | None = None) -> Fetched:
        """What stands at one URL.

        Args:
            url: The URL.
            permits: Whether a URL may be fetched, asked again after each redirect.
            client: Whose request it is, if that is known.

        Raises:
            FetchError: It cannot be had.
            OverloadedError: Too many requests wait already.
        """
        async with self._slots.slot(client):
            try:
                async with self._in_time():
                    return await self._get(URL(url), _Left(self._limits.total), permits)
            except FetchError:
                raise
            except ValueError as exc:  # no URL
                raise FetchError(str(exc), "invalid_tool_input") from None

    async def _source(self, url: str, path: str, turn: asyncio.Semaphore, left: "_Left") -> dict[str, Any]:
        async with turn:
            try:
                async with self._in_time():
                    return await _source_of(await self._get(URL(url), left))
            except ValueError as exc:
                reason = str(exc)
        raise InvalidRequestError(f"{path}: the document could not be fetched: {reason}")

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Within it one URL is fetched; what its server fails in is a `FetchError`."""
        try:
            async with asyncio.timeout(self._limits.seconds):
                yield
        except TimeoutError:
            raise FetchError(f"it took longer than {self._limits.seconds:g} s") from None
        except (HttpError, OSError):
            raise FetchError("its server could not be reached") from None

    async def _get(self, url: URL, left: "_Left", permits: Callable[[str], bool] | None = None) -> Fetched:
        for _ in range(_MOST_REDIRECTS + 1):
            if permits is not None and not permits(str(url)):
                raise FetchError("it is of a domain that pages are not fetched from", "url_not_allowed")
            route = Route(addresses=tuple(await self._addresses(url)))
            async with _requested(url, route, self._limits.seconds) as response:
                if response.status not in _REDIRECTS or "location" not in response.headers:
                    return await self._read(url, response, left)
                url = url.join(URL(_as_utf8(response.headers["location"])))
        raise FetchError(f"it was redirected more than {_MOST_REDIRECTS} times")

    async def _addresses(self, url: URL) -> Sequence[str]:
        """Where a URL may be fetched from.

        Raises:
            FetchError: Nowhere.
        """
        if url.scheme not in {"http", "https"} or not url.host or url.port is None:
            raise FetchError("only http and https URLs are fetched", "url_not_allowed")
        addresses = await self._resolve(url.host, url.port)
        # One that is not allowed tells what kind of name it is.
        if not addresses or not all(map(self._allowed, addresses)):
            raise FetchError("its address is not one that documents are fetched from", "url_not_allowed")
        return addresses

    async def _read(self, url: URL, response: Response, left: "_Left") -> Fetched:
        if response.status != 200:
            raise FetchError(f"the server answered with status {response.status}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise FetchError("the server sends it compressed")
        body = bytearray()
        while piece := await response.read():
            body += piece
            if len(body) > self._limits.size:
                raise FetchError(f"it is larger than {self._limits.size} bytes", "content_too_large")
            left.take(len(piece))
        return Fetched(str(url), *media_type(response.headers), bytes(body))


class _Left:
    """What is left of the bytes that the documents of a request may have."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, size: int) -> None:
        """Count bytes.

        Raises:
            FetchError: They are too many.
        """
        self._left -= size
        if self._left < 0:
            reason = f"the documents of the request are larger than {self._most} bytes together"
            raise FetchError(reason, "content_too_large")


@asynccontextmanager
async def _requested(url: URL, route: Route, seconds: float) -> AsyncIterator[Response]:
    """The answer to a GET, over a connection of its own."""
    named = {"authorization": basic_auth(url)} if url.user else {}
    pool = Pool(asyncio.get_running_loop(), _HEADERS | named)
    try:
        yield await pool.request(
            "GET", str(url), headers={}, route=route, connect_seconds=seconds, head_seconds=seconds
        )
    finally:
        await pool.close()


def _as_utf8(header: str) -> str:
    """A header as browsers read it, and many servers write it, although it should be in ASCII."""
    return header.encode("latin-1").decode(errors="replace")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, or a cloud's metadata."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


def allowing(networks: Sequence[Network]) -> Allowed:
    """Whether an address may be connected to: one of the public internet, or of these networks."""

    def allowed(address: str) -> bool:
        ip = ip_address(address)
        plain = ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip
        return is_public(address) or any(plain in network for network in networks)

    return allowed


def _by_url(ref: DocumentRef) -> bool:
    # Where Anthropic's API has no documents, their shape is anybody's guess.
    return not ref.in_history and ref.source.get("type") == "url" and isinstance(ref.source.get("url"), str)


def is_pdf(fetched: Fetched) -> bool:
    """Whether it is a PDF, whatever its server says."""
    return fetched.content_type == PDF or fetched.body.startswith(_PDF_HEAD)


async def _source_of(fetched: Fetched) -> dict[str, Any]:
    """The source that a document's bytes make.

    Raises:
        FetchError: It is neither a PDF nor text.
    """
    if is_pdf(fetched):
        return {"type": "base64", "media_type": PDF, "data": base64.b64encode(fetched.body).decode()}
    return {"type": "text", "media_type": "text/plain", "data": await decoded(fetched)}


async def decoded(fetched: Fetched) -> str:
    """The text of a page, with a breath for others between pieces: some charsets take a second for 16 MiB.

    Raises:
        FetchError: It is none.
    """
    if not fetched.content_type.startswith(_TEXTS):
        raise FetchError(f"it is neither a PDF nor text, but {fetched.content_type}", "unsupported_content_type")
    body, charset = fetched.body, fetched.charset
    name = (charset or "").lower()
    decoder = codecs.getincrementaldecoder(name if name in CHARSETS else "utf-8")(errors="replace")
    pieces = []
    for begin in range(0, len(body), _DECODED_AT_ONCE):
        pieces.append(decoder.decode(body[begin : begin + _DECODED_AT_ONCE]))
        await asyncio.sleep(0)
    return "".join([*pieces, decoder.decode(b"", final=True)])


_DECODED_AT_ONCE = 256 * 1024

CHARSETS = frozenset(
    {
        *("utf-8", "utf-16", "utf-16le", "utf-16be", "us-ascii", "ibm866", "latin-1", "latin1", "koi8-r", "koi8-u"),
        *(f"iso-8859-{n}" for n in (*range(1, 11), *range(13, 17))),
        *(f"windows-{n}" for n in range(1250, 1259)),
        *("tis-620", "gb2312", "gbk", "gb18030", "big5", "big5-hkscs", "euc-jp", "shift_jis", "iso-2022-jp", "euc-kr"),
    }
)
"""The charsets of the web (https://encoding.spec.whatwg.org): Python knows others that are none, some of them slow."""
