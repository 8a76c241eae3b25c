"""How upstreams are reached: as who, and by which proxy."""

import asyncio
import os
from functools import cache, lru_cache
from importlib.metadata import version
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from llama_stack_messages_provider.http_client.pool import DIRECT, Pool, Route
from llama_stack_messages_provider.upstream.endpoint import Endpoint

__all__ = ["environment_proxy", "new_pool", "route_to"]


def new_pool() -> Pool:
    """Connections of the running loop."""
    return Pool(asyncio.get_running_loop(), {"accept": "application/json", "user-agent": _user_agent()})


def route_to(endpoint: Endpoint) -> Route:
    """The way to an upstream, by its provider's proxy or the environment's."""
    proxy = endpoint.proxy or (None if endpoint.local else environment_proxy(endpoint.root))
    if proxy is None and endpoint.tls is True:
        return DIRECT
    return Route(endpoint.tls, proxy)


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
