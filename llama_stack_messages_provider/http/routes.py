"""The routes. Each is declared with its types, for the OpenAPI schema and the in-process client, and answered from the
raw request: bodies are parsed here, so that every error has Anthropic's shape and a native body stays bytes.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from traceback import format_exception
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from llama_stack_messages_provider.config import RequestLimits
from llama_stack_messages_provider.errors import ApiError, InvalidRequestError, MessagesError, NotFoundError
from llama_stack_messages_provider.host.app import PUBLIC, put_first
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.http.exchange import Exchange, joined_headers
from llama_stack_messages_provider.http.limits import LIMITS_KEY, parse_request
from llama_stack_messages_provider.http.models import list_models, only_for_anthropic, retrieve_model
from llama_stack_messages_provider.http.openapi import Cursor, Published, documented
from llama_stack_messages_provider.http.paging import page_asked
from llama_stack_messages_provider.http.paths import MODELS
from llama_stack_messages_provider.http.request_ids import new_request_id
from llama_stack_messages_provider.http.status import is_of_this_machine, serve_status, serve_status_page
from llama_stack_messages_provider.http.streaming import EventStream, JSONBody, while_connected
from llama_stack_messages_provider.wire.answers import (
    DeletedMessageBatch,
    Message,
    MessageBatch,
    MessageBatchIndividualResponse,
    MessageBatchPage,
    MessageTokensCount,
)
from llama_stack_messages_provider.wire.request import (
    CountTokensRequest,
    CreateBatchRequest,
    CreateMessageRequest,
)

if TYPE_CHECKING:
    from llama_stack_messages_provider.api import Messages

__all__ = ["create_router", "model_routes"]

logger = get_logger(name=__name__, category="providers")

Handler = Callable[[Request, str], Awaitable[Response]]

_PREFIX = "/v1"
_CLIENT_CLOSED_REQUEST = 499


def create_router(impl: "Messages") -> APIRouter:
    """The routes of the Messages API.

    Args:
        impl: What answers them.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        put_first(app, router, *direct)
        await impl.start(app)
        try:
            yield
        finally:
            await impl.stop()

    router = APIRouter(lifespan=lifespan)
    _add_messages(router, impl)
    _add_batches(router, impl)
    _add_reports(router, impl)
    direct = [
        # The router has it too. Found here, it is found at once, which is a thirtieth of what a request costs.
        _direct(_DirectRoute, "POST", f"{_PREFIX}/messages", _serve_message(impl)),
        *model_routes(impl),
    ]
    return router


def model_routes(impl: "Messages") -> list[APIRoute]:
    """The routes of models, which an app takes beside those of the router.

    Args:
        impl: What answers them.
    """
    return [
        _direct(_ModelsRoute, "GET", MODELS, list_models(impl)),
        _direct(_ModelsRoute, "GET", f"{MODELS}/{{model_id:path}}", retrieve_model(impl)),
    ]


def _direct(kind: type["_DirectRoute"], method: str, path: str, handler: Handler) -> APIRoute:
    """A route that no schema shows."""

    async def declared() -> None:
        """Answered by its handler."""

    declared._handler = handler  # type: ignore[attr-defined]
    return kind(path, declared, methods=[method], response_model=None, include_in_schema=False)


def _add_reports(router: APIRouter, impl: "Messages") -> None:
    """What `doctor` reads of a running server, for clients of its own machine: it names upstreams, and repeats them.
    And the status page.
    """

    async def adaptations() -> Any:
        return {"adaptations": impl.adaptations()}

    async def diagnosis() -> Any:
        return await impl.diagnosis()

    _add_hidden(router, "adaptations", _to_this_machine(adaptations))
    _add_hidden(router, "diagnosis", _to_this_machine(diagnosis))
    _add_hidden(router, "status.json", serve_status(impl))
    # A browser that opens a page has no key to send with it: the page asks for one, and is nothing without.
    _add_hidden(router, "status", serve_status_page(impl), openapi_extra=PUBLIC)


def _to_this_machine(report: Callable[[], Awaitable[Any]]) -> Handler:
    async def serve(request: Request, request_id: str) -> Response:
        if not is_of_this_machine(request):
            raise NotFoundError
        return JSONBody(await report())

    return serve


def _add_hidden(router: APIRouter, name: str, handler: Handler, **more: Any) -> None:
    """A route that no schema shows, and that no client of Anthropic's asks for."""

    async def declared() -> None:
        """Answered by its handler."""

    declared._handler = handler  # type: ignore[attr-defined]
    router.add_api_route(
        f"{_PREFIX}/messages/{name}",
        declared,
        methods=["GET"],
        response_model=None,
        route_class_override=_MessagesRoute,
        include_in_schema=False,
        **more,
    )


def _add_messages(router: APIRouter, impl: "Messages") -> None:
    async def create_message(params: Annotated[CreateMessageRequest, Body(), Published(CreateMessageRequest)]) -> Any:
        """Create a message. The answer is a message, or server-sent events if `stream` is true."""
        return _plain(await impl.create_message(params))

    async def count_message_tokens(params: Annotated[CountTokensRequest, Body(), Published(CountTokensRequest)]) -> Any:
        """Count the input tokens of a message without creating it."""
        return _plain(await impl.count_message_tokens(params))

    async def serve_count(request: Request, request_id: str) -> Response:
        exchange = await _exchange(request, request_id)
        return await while_connected(request.receive, impl.serve_count(exchange))

    add = _Adder(router)
    add("POST", "/messages", create_message, _serve_message(impl), Message)
    add("POST", "/messages/count_tokens", count_message_tokens, serve_count, MessageTokensCount)


def _serve_message(impl: "Messages") -> Handler:
    async def serve(request: Request, request_id: str) -> Response:
        exchange = await _exchange(request, request_id)
        return await while_connected(request.receive, impl.serve_message(exchange))

    return serve


def _add_batches(router: APIRouter, impl: "Messages") -> None:
    async def create_message_batch(params: Annotated[CreateBatchRequest, Body(), Published(CreateBatchRequest)]) -> Any:
        """Create a batch of messages, which runs in the background."""
        return _plain(await impl.create_message_batch(params))

    async def retrieve_message_batch(message_batch_id: str) -> Any:
        """The state of a batch."""
        return _plain(await impl.retrieve_message_batch(message_batch_id))

    async def list_message_batches(
        limit: Annotated[int, Query(ge=1, le=1000)] = 20,
        after_id: Cursor = None,
        before_id: Cursor = None,
    ) -> Any:
        """List batches, newest first."""
        return _plain(await impl.list_message_batches(limit=limit, after_id=after_id, before_id=before_id))

    async def cancel_message_batch(message_batch_id: str) -> Any:
        """Cancel a batch."""
        return _plain(await impl.cancel_message_batch(message_batch_id))

    async def delete_message_batch(message_batch_id: str) -> Any:
        """Delete a batch that has ended."""
        return _plain(await impl.delete_message_batch(message_batch_id))

    async def message_batch_results(message_batch_id: str) -> Any:
        """The results of a batch that has ended, as JSON lines."""
        # The in-process client reads a body that is there.
        response = await impl.message_batch_results(message_batch_id)
        if not isinstance(response, StreamingResponse):
            return response
        lines = [line if isinstance(line, bytes) else str(line).encode() async for line in response.body_iterator]
        return Response(b"".join(lines), media_type=response.media_type)

    async def serve_create(request: Request, request_id: str) -> Response:
        return await impl.serve_batch(request.stream(), joined_headers(request.headers.raw))

    add, one = _Adder(router), "/messages/batches/{message_batch_id}"
    add("POST", "/messages/batches", create_message_batch, serve_create, MessageBatch)
    add("GET", "/messages/batches", list_message_batches, _listed(impl), MessageBatchPage)
    add("GET", one, retrieve_message_batch, _with_progress(impl), MessageBatch)
    add("POST", f"{one}/cancel", cancel_message_batch, _of_one(impl.cancel_message_batch), MessageBatch)
    add("DELETE", one, delete_message_batch, _of_one(impl.delete_message_batch), DeletedMessageBatch)
    results = _of_one(impl.message_batch_results)
    add("GET", f"{one}/results", message_batch_results, results, MessageBatchIndividualResponse, lines=True)


def _of_one(call: Callable[[str], Awaitable[Any]]) -> Handler:
    async def serve(request: Request, request_id: str) -> Response:
        return _answered(await call(request.path_params["message_batch_id"]))

    return serve


def _with_progress(impl: "Messages") -> Handler:
    async def serve(request: Request, request_id: str) -> Response:
        batch_id = request.path_params["message_batch_id"]
        response = _answered(await impl.retrieve_message_batch(batch_id))
        done, total = await impl.message_batch_progress(batch_id)
        response.headers["x-messages-batch-progress"] = f"{done}/{total}"
        return response

    return serve


def _listed(impl: "Messages") -> Handler:
    async def serve(request: Request, request_id: str) -> Response:
        return _answered(await impl.list_message_batches(*page_asked(request.query_params)))

    return serve


def _answered(result: Any) -> Response:
    return result if isinstance(result, Response) else JSONBody(result.wire())


def _plain(result: Any) -> Any:
    """What the in-process client takes: it would write out every field of a model, absent ones too."""
    return result if isinstance(result, Response) else result.wire()


class _Adder:
    """Adds routes; what is declared and what answers are two functions."""

    def __init__(self, router: APIRouter) -> None:
        self._router = router

    def __call__(
        self,
        method: str,
        path: str,
        declared: Callable[..., Any],
        handler: Handler,
        answer: type,
        *,
        lines: bool = False,
    ) -> None:
        declared.__annotations__["return"] = Any
        declared._handler = handler  # type: ignore[attr-defined]
        self._router.add_api_route(
            _PREFIX + path,
            declared,
            methods=[method],
            response_model=None,
            route_class_override=_MessagesRoute,
            **documented(answer, lines=lines),
        )


class _MessagesRoute(APIRoute):
    """Answers with the endpoint's own handler, and with Anthropic's errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What FastAPI asks a route for."""
        return self._handle

    async def _handle(self, request: Request) -> Response:
        handler: Handler = self.endpoint._handler  # type: ignore[attr-defined]
        request_id = _request_id(request)
        refused = partial(_refusal, request_id, request.scope["path"])
        try:
            response = await handler(request, request_id)
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_CLOSED_REQUEST)
        except Exception as exc:
            response = refused(exc)
        if isinstance(response, EventStream):
            response.refused = refused
        else:
            response.headers["request-id"] = request_id
        return response


class _DirectRoute(_MessagesRoute):
    """A route that no router includes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # What FastAPI puts around it is for dependencies and exceptions, of which a handler has none.
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handle(Request(scope, receive, send))
        await response(scope, receive, send)


class _ModelsRoute(_DirectRoute):
    """A route beside one of the host's own."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it answers a request, rather than the host."""
        return only_for_anthropic(scope, super().matches)


def _refusal(request_id: str, path: str, exc: Exception) -> Response:
    error = _error_of(exc, request_id, path)
    return JSONBody(error.body(request_id), error.status, {**error.headers, "request-id": request_id})


def _error_of(exc: Exception, request_id: str, path: str) -> MessagesError:
    if isinstance(exc, MessagesError):
        if exc.status >= 500:
            logger.warning("Messages request failed", request_id=request_id, path=path, error=exc.message)
        return exc
    # orjson reads 1024 levels and writes 254; Python's own stack ends between the two.
    if isinstance(exc, RecursionError) or str(exc) == "Recursion limit reached":
        return InvalidRequestError("The request body is nested too deeply")
    # The host's JSON log leaves a traceback out unless it is text.
    logger.error("Messages request failed", request_id=request_id, path=path, trace="".join(format_exception(exc)))
    return ApiError()


def _request_id(request: Request) -> str:
    state = request.scope.get("state") or {}
    return state.get("request_id") or new_request_id()


async def _exchange(request: Request, request_id: str) -> Exchange:
    # `request.body()` would keep it as long as an answer is streamed.
    body = b"".join([piece async for piece in request.stream()])
    limits = (request.scope.get("state") or {}).get(LIMITS_KEY) or RequestLimits()
    client = request.client.host if request.client else None
    return Exchange(request_id, body, await parse_request(body, limits), joined_headers(request.headers.raw), client)
