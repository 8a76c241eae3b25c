"""Which MCP servers a client may name: patterns of URLs, compared part by part. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote

import httpx

from llama_stack_messages_provider.config import URL_PATTERN

__all__ = ["AllowedServers", "UrlPattern"]

_PATTERN = re.compile(URL_PATTERN)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UrlPattern:
    """A pattern such as `https://*.example.com/mcp/*`: a star stands for anything within the host, or the path."""

    scheme: str
    host: str
    port: str
    path: str

    @classmethod
    def of(cls, text: str) -> "UrlPattern":
        """The pattern that a text is.

        Raises:
            ValueError: It is none.
        """
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise ValueError(f"mcp.allow: not a pattern of URLs, such as https://*.example.com/mcp: {text}")
        port = found["port"] or str(_PORTS[found["scheme"]])
        return cls(found["scheme"], found["host"].strip("[]").lower(), port, found["path"] or "/*")

    def matches(self, url: httpx.URL) -> bool:
        """Whether a URL is meant."""
        port = str(url.port or _PORTS.get(url.scheme))
        return (
            url.scheme == self.scheme
            and fnmatchcase(url.host.lower(), self.host)
            and self.port in ("*", port)
            and fnmatchcase(url.path or "/", self.path)
        )


class AllowedServers:
    """The servers that clients may name.

    Args:
        patterns: Of their URLs.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [UrlPattern.of(text) for text in patterns]

    def allows(self, text: str) -> bool:
        """Whether a URL is one of theirs. One with a password in it, or with a path that climbs, never is."""
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, ValueError):
            return False
        if url.userinfo or ".." in unquote(url.path) or "\\" in text:
            return False
        return any(pattern.matches(url) for pattern in self._patterns)
