"""The host's FastAPI app: its middlewares, the order of its routes, and its lists of providers.

| internal | used for |
|---|---|
| `FastAPI.middleware_stack`, built before the lifespan starts | `wrap_middlewares`; without it no `x-api-key` |
| `original_router` of an included router's route | `put_first`; without it a twentieth slower |
| `AuthenticationMiddleware` among `FastAPI.user_middleware` | `has_authentication` |
| `PUBLIC_ROUTE_KEY` in a route's `openapi_extra` | `PUBLIC`: the status page without its numbers |
| `stack.impls[Api.providers].deps` and `[Api.admin]` | `list_health`; without it the lists say "Not Implemented" |

Tried with llama-stack 0.7.3, starlette 1.10 and fastapi 0.165.
"""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from llama_stack.core.server.auth import AuthenticationMiddleware
from llama_stack_api import Api
from llama_stack_api.router_utils import PUBLIC_ROUTE_KEY
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

__all__ = ["PUBLIC", "has_authentication", "is_wrapped", "list_health", "put_first", "wrap_middlewares"]

PUBLIC: dict[str, Any] = {PUBLIC_ROUTE_KEY: True}
"""`openapi_extra` of a route that the host asks nobody's name for."""


def has_authentication(app: Any) -> bool:
    """Whether the host asks who its users are, of all but public routes."""
    return any(each.cls is AuthenticationMiddleware for each in getattr(app, "user_middleware", ()))


def is_wrapped(app: Any, kind: type) -> bool:
    """Whether a wrapper of this type is around the app's middlewares already."""
    return isinstance(getattr(app, "middleware_stack", None), kind)


def wrap_middlewares(app: Any, wrap: Callable[[ASGIApp], ASGIApp]) -> bool:
    """Put what `wrap` makes around the app's middlewares; whether there are any."""
    inner = getattr(app, "middleware_stack", None)
    if inner is None:
        return False
    app.middleware_stack = wrap(inner)
    return True


def list_health(app: Any, provider: Any) -> None:
    """Let the host's lists of providers ask this one for its health.

    They ask what they were given when no provider was there yet: the host copies that dict before it adds any.
    """
    impls = getattr(getattr(app, "stack", None), "impls", None) or {}
    for api in (Api.providers, Api.admin):
        asked = getattr(impls.get(api), "deps", None)
        if isinstance(asked, dict):
            asked.setdefault(provider.__provider_spec__.api, provider)


def put_first(app: Any, router: APIRouter, *others: BaseRoute) -> None:
    """Let an included router's routes be tried before all others: the host tries a hundred routes in their order.

    Args:
        app: The app.
        router: The router.
        others: Routes that come before these, and are the app's alone: the host finds none of them by path, as it does
            a router's, and FastAPI does not look for them twice, as it does for a router's.
    """
    routes = app.router.routes
    routes.sort(key=lambda route: getattr(route, "original_router", None) is not router)
    routes[0:0] = others
