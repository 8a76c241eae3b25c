"""`GET /v1/models` for clients that speak Anthropic's dialect; everybody else gets the host's own answer.

The routes are the app's and not the router's, in which the host would find them by path in place of its own: for the
in-process client, and for what it documents.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response
from starlette.routing import Match
from starlette.types import Scope

from llama_stack_messages_provider.http.paging import page_asked
from llama_stack_messages_provider.http.paths import MODELS, speaks_anthropic
from llama_stack_messages_provider.http.streaming import JSONBody
from llama_stack_messages_provider.wire.model_info import model_page

if TYPE_CHECKING:
    from llama_stack_messages_provider.api import Messages

__all__ = ["ACTIVE", "list_models", "only_for_anthropic", "retrieve_model"]

ACTIVE = "active"
"""The lifecycle of every model here."""

type Serve = Callable[[Request, str], Coroutine[Any, Any, Response]]


def only_for_anthropic(scope: Scope, match: Callable[[Scope], tuple[Match, Scope]]) -> tuple[Match, Scope]:
    """The match of a route of models, which is none for other clients and for other methods."""
    if scope["type"] != "http" or not scope["path"].startswith(MODELS):
        return Match.NONE, {}
    return match(scope) if scope["method"] == "GET" and speaks_anthropic(scope) else (Match.NONE, {})


def list_models(impl: "Messages") -> Serve:
    """`GET /v1/models`."""

    async def serve(request: Request, request_id: str) -> Response:
        query = request.query_params
        page = page_asked(query)
        stages = [*query.getlist("lifecycle"), *query.getlist("lifecycle[]")]
        if stages and not any(ACTIVE in stage.split(",") for stage in stages):
            return JSONBody(model_page([], has_more=False))
        return JSONBody(await impl.list_models(*page))

    return serve


def retrieve_model(impl: "Messages") -> Serve:
    """`GET /v1/models/{model_id}`, whose id may hold slashes."""

    async def serve(request: Request, request_id: str) -> Response:
        return JSONBody(await impl.retrieve_model(request.path_params["model_id"]))

    return serve
