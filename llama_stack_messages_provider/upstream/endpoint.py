"""Where a provider's upstream is and how to reach it: what its OpenAI client would use, for our own requests."""

import ssl
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from yarl import URL

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.host import providers
from llama_stack_messages_provider.http_client.pool import basic_auth

__all__ = ["Endpoint", "Endpoints"]

# How many keys are remembered with their endpoints: requests may bring their own.
_KEYS = 256

_LOOPBACK = ("http://127.0.0.1", "http://localhost", "http://[::1]")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-style upstream: `{root}/v1/...`, with the credentials and network settings of its provider.

    Args:
        provider_id: Its provider.
        configured: The base URL as the provider gives it.
        root: The base URL without its `/v1`.
        api_base: The base URL, where `/chat/completions` hangs.
        api_key: The provider's key, or the one of this request's provider data; None if there is none.
        headers: Headers that the provider's network settings add.
        tls: What its certificate is judged by: a context, True for the system's authorities, False for nothing.
        proxy: A proxy URL, or None.
        connect_timeout, read_timeout: Seconds from the provider's network settings, or None.
        anthropic_key: Whether the key goes into `x-api-key` instead of `Authorization`.
    """

    provider_id: str
    configured: str
    root: str
    api_base: str
    api_key: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    tls: ssl.SSLContext | bool = True
    proxy: str | None = None
    connect_timeout: float | None = None
    read_timeout: float | None = None
    anthropic_key: bool = False

    @property
    def local(self) -> bool:
        """Whether it is on this machine, where no proxy of the environment stands between."""
        return self.root.startswith(_LOOPBACK)

    def auth_headers(self) -> dict[str, str]:
        """The headers that carry the credentials and what the network settings add."""
        headers = {name.lower(): value for name, value in self.headers}
        if self.api_key:
            name = "x-api-key" if self.anthropic_key else "authorization"
            headers.setdefault(name, self.api_key if self.anthropic_key else f"Bearer {self.api_key}")
        return headers


class Endpoints:
    """The endpoints of a stack's providers: what a provider's settings say is worked out once, whatever the key."""

    def __init__(self) -> None:
        # A provider is kept with its endpoint, so that its id is not given to another.
        self._known: dict[int, tuple[Any, Endpoint]] = {}
        self._keyed = lru_cache(_KEYS)(self._of_key)

    def of(self, provider: Any) -> Endpoint | None:
        """The endpoint behind a provider; None where it has no OpenAI-style upstream, or one that needs its own client.

        The key may be that of the request, so that it is asked for each time.

        Raises:
            UpstreamError: There is no upstream at present.
        """
        if not (providers.is_openai_style(provider) and providers.has_plain_client(provider)):
            return None
        try:
            base, key = providers.address_of(provider)
        except (RuntimeError, ValueError) as exc:  # an embedded model whose process is gone, an address to be given
            raise UpstreamError(f"The provider has no upstream now: {exc}") from exc
        ident = id(provider)
        known = self._known.get(ident)
        if known is None or known[1].configured != base:
            self._known[ident] = provider, endpoint_of(provider, base, None)
        return self._keyed(ident, base, key)

    def _of_key(self, ident: int, base: str, key: str | None) -> Endpoint:
        return replace(self._known[ident][1], api_key=key)


def endpoint_of(provider: Any, configured: str, api_key: str | None) -> Endpoint:
    """The endpoint of a provider with this base URL and key."""
    base, credentials = _without_credentials(configured.rstrip("/"))
    network = providers.network_of(provider)
    connect, read = _timeouts(network)
    return Endpoint(
        provider_id=providers.provider_id(provider),
        configured=configured,
        root=base.removesuffix("/v1"),
        api_base=base,
        api_key=api_key,
        headers=(*((network.headers or {}).items() if network else ()), *credentials.items()),
        tls=providers.tls_of(provider),
        proxy=_proxy(network, base),
        connect_timeout=connect,
        read_timeout=read,
        anthropic_key=providers.provider_type(provider) == "remote::anthropic",
    )


def _without_credentials(base: str) -> tuple[str, dict[str, str]]:
    """A base URL without its name and password, and the header that has them instead of a key, as the host's client."""
    if "@" not in base:
        return base, {}
    url = URL(base)
    if url.user is None:
        return base, {}
    return str(url.with_user(None)), {"authorization": basic_auth(url)}


def _timeouts(network: providers.NetworkConfig | None) -> tuple[float | None, float | None]:
    timeout = network.timeout if network else None
    if isinstance(timeout, providers.TimeoutConfig):
        return timeout.connect, timeout.read
    return timeout, timeout


def _proxy(network: providers.NetworkConfig | None, base: str) -> str | None:
    proxy = network.proxy if network else None
    if proxy is None or any(host in base for host in proxy.no_proxy or ()):
        return None
    url = proxy.url or (proxy.https if base.startswith("https:") else proxy.http)
    return str(url) if url else None
