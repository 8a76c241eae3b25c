"""The pool of connections to upstreams, and which of its failures may be tried again."""

import os
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

__all__ = ["environment_proxy", "new_session", "proxy_options"]

_KEEPALIVE_SECONDS = 60.0


class _Silence:
    """Whether a connection that was used before has given nothing since it was taken from the pool."""

    __slots__ = ("lasts",)

    def __init__(self, protocol: ResponseHandler) -> None:
        self.lasts = True

        def first_byte(data: bytes) -> None:
            self.lasts = False
            del protocol.data_received
            protocol.data_received(data)

        protocol.data_received = first_byte  # type: ignore[method-assign]


class _Connector(aiohttp.TCPConnector):
    """A pool that knows of each request whether its connection was a used one that has given nothing."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ttl_dns_cache=60)
        self._used: WeakSet[ResponseHandler] = WeakSet()
        self._silences: WeakKeyDictionary[aiohttp.ClientRequest, _Silence] = WeakKeyDictionary()

    async def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: Any) -> Any:
        """A connection for a request."""
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        self._silences.pop(req, None)
        if protocol is not None and protocol in self._used:
            self._silences[req] = _Silence(protocol)
        elif protocol is not None:
            self._used.add(protocol)
        return connection

    def was_idle(self, req: aiohttp.ClientRequest) -> bool:
        """Whether the request met a connection that its upstream was just closing: it was never read."""
        silence = self._silences.get(req)
        return silence is not None and silence.lasts


def new_session() -> aiohttp.ClientSession:
    """A session of the running loop. It knows nothing of the environment's proxies and `.netrc`."""
    connector = _Connector()

    async def again_if_idle(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        while True:  # each try takes one used connection out of the pool
            try:
                response: aiohttp.ClientResponse = await handler(request)
                return response
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
                if isinstance(exc, aiohttp.ClientConnectorError) or not connector.was_idle(request):
                    raise

    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"user-agent": _user_agent(), "accept": "application/json"},
        skip_auto_headers=("Accept-Encoding",),
        middlewares=(again_if_idle,),
        read_bufsize=2**18,
    )


@cache
def _user_agent() -> str:
    name = "llama-stack-messages-provider"
    return f"{name}/{version(name)}"


@lru_cache(maxsize=256)
def environment_proxy(root: str) -> str | None:
    """The proxy that the environment names for a base URL. A `.netrc` is not read: the provider's key is used."""
    url = URL(root)
    if not any(name.lower().endswith("_proxy") for name in os.environ) or proxy_bypass(url.host or ""):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def proxy_options(proxy: str) -> dict[str, Any]:
    """What a request takes to go by a proxy, whose credentials may be in its URL."""
    url = URL(proxy)
    if url.user is None:
        return {"proxy": url}
    # aiohttp makes it the proxy's own, of plain requests and of tunnels.
    credentials = {"authorization": aiohttp.encode_basic_auth(url.user, url.password or "")}
    return {"proxy": url.with_user(None), "proxy_headers": credentials}
