"""The pool of connections to upstreams, and which of its failures may be tried again."""

import os
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from llama_stack_messages_provider.host.aiohttp import Connector

__all__ = ["environment_proxy", "may_try_again", "new_session", "proxy_options"]

_KEEPALIVE_SECONDS = 60.0


def new_session() -> aiohttp.ClientSession:
    """A session of the running loop. It knows nothing of the environment's proxies and `.netrc`."""
    return aiohttp.ClientSession(
        connector=Connector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"user-agent": _user_agent(), "accept": "application/json"},
        skip_auto_headers=("Accept-Encoding",),
        read_bufsize=2**18,
    )


def may_try_again(failed: Exception) -> bool:
    """Whether a request that failed was never read: its used connection was just being closed. Each such try takes one
    out of the pool.
    """
    met = isinstance(failed, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
    return met and not isinstance(failed, aiohttp.ClientConnectorError) and Connector.was_idle()


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
