"""The status page and its numbers: who may see them."""

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastapi import Request, Response

from llama_stack_messages_provider.errors import NotFoundError, PermissionDeniedError
from llama_stack_messages_provider.host.access import current_user
from llama_stack_messages_provider.host.app import has_authentication
from llama_stack_messages_provider.http.streaming import JSONBody
from llama_stack_messages_provider.status.access import is_administrator
from llama_stack_messages_provider.status.page import PAGE, PAGE_HEADERS
from llama_stack_messages_provider.status.report import StatusReport

if TYPE_CHECKING:
    from llama_stack_messages_provider.api import Messages

__all__ = ["is_of_this_machine", "serve_status", "serve_status_page"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
_LOOPBACK_NAME = re.compile(r"(?:127\.0\.0\.1|\[::1\]|localhost)(?::[0-9]+)?", re.IGNORECASE)
_OF_PROXIES = re.compile(r"forwarded|via|x-forwarded(?:-.*)?|x-real-ip|(?:x|cf|true)-(?:client|connecting)-ip")
# Each request on a connection of its own: of several processes another may take it.
_JSON_HEADERS = {"cache-control": "no-store", "connection": "close"}


def is_of_this_machine(request: Request) -> bool:
    """Whether nobody stands behind who asks: a proxy on this machine says so in a header, or by HTTP/1.0.

    Of nginx, which adds no header by itself: https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_http_version
    """
    near = request.client is not None and request.client.host in _LOOPBACK
    is_old = request.scope.get("http_version") == "1.0"
    return near and not is_old and not any(map(_OF_PROXIES.fullmatch, request.headers))


def serve_status(impl: "Messages") -> Callable[[Request, str], Awaitable[Response]]:
    """`GET /v1/messages/status.json`: the numbers, for administrators; see `status.report`."""

    async def serve(request: Request, request_id: str) -> Response:
        report = _report_for(request, impl)
        if has_authentication(request.app) and not is_administrator(current_user(), report.who):
            raise PermissionDeniedError("The status of the server is for its administrators: see status.who")
        return JSONBody(await report.current(), headers=_JSON_HEADERS)

    return serve


def serve_status_page(impl: "Messages") -> Callable[[Request, str], Awaitable[Response]]:
    """`GET /v1/messages/status`: the page, which holds no numbers and asks for the key that gives them."""

    async def serve(request: Request, request_id: str) -> Response:
        _report_for(request, impl)
        return Response(PAGE, media_type="text/html", headers=PAGE_HEADERS)

    return serve


def _report_for(request: Request, impl: "Messages") -> StatusReport:
    """The report, as far as there is one for clients like this.

    Raises:
        NotFoundError: It is off; or nobody is asked who they are, and this is no browser or program of this machine.
    """
    report = impl.status_report()
    if report is None or not (has_authentication(request.app) or _is_at_home(request)):
        raise NotFoundError
    return report


def _is_at_home(request: Request) -> bool:
    # Under another name: a page of somebody else's, whose name leads to this machine (DNS rebinding).
    return is_of_this_machine(request) and _LOOPBACK_NAME.fullmatch(request.headers.get("host", "")) is not None
