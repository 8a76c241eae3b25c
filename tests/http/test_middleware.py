"""The middleware around the host's own middlewares, over real HTTP; the real host comes last."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import orjson
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from llama_stack.core.access_control.datatypes import RouteAccessRule, RouteScope
from llama_stack.core.datatypes import AuthenticationConfig
from llama_stack.core.server.auth import AuthenticationMiddleware, RouteAuthorizationMiddleware
from llama_stack.core.server.server import ClientVersionMiddleware, global_exception_handler
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_stack_messages_provider.config import RequestLimits
from llama_stack_messages_provider.errors import RequestTooLargeError
from llama_stack_messages_provider.http.middleware import AnthropicMiddleware, install_middleware
from llama_stack_messages_provider.http.shutdown import Shutdown
from llama_stack_messages_provider.http.streaming import EventStream
from tests.support.personalities import identities
from tests.support.stack import Stack, custom_auth, openai_provider, run_config
from tests.support.upstream import ScriptedUpstream, json_reply
from tests.support.waiting import eventually
from tests.support.wire import Json

LIMIT = 1000
BATCH_LIMIT = 5000
LIMITS = RequestLimits(body_bytes=LIMIT)

USERS = {"good": ("ann", {"roles": ["user"]}), "admin": ("ida", {"roles": ["admin"]})}


# --- a server with the host's middlewares and our routes ---


class Refusing:
    """Refuses whatever comes, as the host's quota does."""

    def __init__(self, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status, self.body, self.headers = status, body, list(headers)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
            half = len(self.body) // 2
            await send({"type": "http.response.body", "body": self.body[:half], "more_body": True})
            await send({"type": "http.response.body", "body": self.body[half:]})


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """As our router's: the second call changes nothing."""
    assert install_middleware(app, LIMITS, max_batch_bytes=BATCH_LIMIT)
    assert install_middleware(app, RequestLimits(body_bytes=1))
    yield


async def echo(request: Request) -> JSONResponse:
    """Reads the body as it comes, and reuses the id that the middleware made, as our routes do."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    seen = {"size": size, "headers": dict(request.headers), "path": request.url.path}
    return JSONResponse({**seen, "request_id": request.state.request_id})


async def error_of_ours(request: Request) -> JSONResponse:
    """Refuses as our routes do."""
    headers = {"request-id": request.state.request_id, "retry-after": "3"}
    return JSONResponse({"route": "own"}, status_code=529, headers=headers)


async def stubborn(request: Request) -> JSONResponse:
    """Takes no notice of a body that cannot be read."""
    with contextlib.suppress(Exception):
        await request.body()
    return JSONResponse({"fine": True})


async def validated(_body: dict[str, int]) -> None:
    """Has its body read by FastAPI."""


async def broken() -> None:
    """Fails."""
    raise KeyError("out of order")


async def stream() -> StreamingResponse:
    """Two pieces, a moment apart."""

    async def ticks() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0.1)
        yield b"second"

    return StreamingResponse(ticks(), media_type="text/event-stream")


async def foreign(request: Request) -> Json:
    """Somebody else's route."""
    return {"headers": dict(request.headers), "state": "request_id" in request.scope.get("state", {})}


def routes() -> APIRouter:
    """A router with the lifespan that installs the middleware."""
    router = APIRouter(lifespan=lifespan)
    routes: dict[str, Callable[..., Any]] = {
        "": echo,
        "/batches": echo,
        "/error": error_of_ours,
        "/stubborn": stubborn,
        "/validated": validated,
        "/broken": broken,
        "/stream": stream,
    }
    for path, route in routes.items():
        router.add_api_route(f"/v1/messages{path}", route, methods=["POST"], response_model=None)
    router.add_api_route("/v1/other", foreign, methods=["GET"])
    router.add_api_route("/v1/messages-of-others", foreign, methods=["POST"])
    return router


def host_app() -> FastAPI:
    """What the host builds, before its middlewares."""
    app = FastAPI()
    app.include_router(routes())
    app.exception_handler(RequestValidationError)(global_exception_handler)
    app.exception_handler(Exception)(global_exception_handler)
    return app


@contextmanager
def serving(app: ASGIApp) -> Iterator[httpx.Client]:
    """Serve on a free port; a client of it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, interface="asgi3", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started, what="the server")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, verify=False, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@dataclass
class Served:
    """A server and its auth endpoint."""

    client: httpx.Client
    auth: ScriptedUpstream

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.client.post(path, **request)


@pytest.fixture(scope="module")
def plain() -> Iterator[httpx.Client]:
    """No auth: whatever comes reaches the routes."""
    with serving(host_app()) as client:
        yield client


@pytest.fixture(scope="module")
def guarded() -> Iterator[Served]:
    """Auth, a route policy and the client version check, all of them the host's."""
    with ScriptedUpstream(identities(USERS)) as auth:
        app = host_app()
        app.add_middleware(ClientVersionMiddleware)
        policy = [
            RouteAccessRule(forbid=RouteScope(paths="/v1/messages/batches*"), unless="user with admin in roles"),
            RouteAccessRule(permit=RouteScope(paths="*")),
        ]
        app.add_middleware(RouteAuthorizationMiddleware, route_policy=policy)
        config = {"provider_config": {"type": "custom", "endpoint": f"{auth.url}/auth"}}
        app.add_middleware(AuthenticationMiddleware, auth_config=AuthenticationConfig.model_validate(config), impls={})
        with serving(app) as client:
            yield Served(client, auth)


def sealed(app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> AnthropicMiddleware:
    """The middleware around an app."""
    return AnthropicMiddleware(app, LIMITS, max_batch_bytes=LIMIT, shutdown=Shutdown(20.0))


def assert_refusal(response: httpx.Response, status: int, error_type: str, words: str) -> None:
    """Anthropic's envelope, complete."""
    assert response.status_code == status
    body = response.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == error_type
    assert words in body["error"]["message"]
    assert set(body) == {"type", "error", "request_id"}
    assert body["request_id"] == response.headers["request-id"]
    assert body["request_id"].startswith("req_")
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers.get_list("request-id") == [body["request_id"]]


# --- the key ---


def test_an_api_key_is_the_bearer_token_that_the_host_reads(guarded: Served) -> None:
    answer = guarded.post("/v1/messages", headers={"x-api-key": "good"})
    assert answer.status_code == 200
    assert guarded.auth.last.json["api_key"] == "good"


def test_a_bearer_token_is_left_alone_and_wins_over_an_api_key(guarded: Served) -> None:
    answer = guarded.post("/v1/messages", headers={"x-api-key": "bad", "authorization": "Bearer good"})
    assert answer.status_code == 200
    assert guarded.auth.last.json["api_key"] == "good"


def test_an_api_key_goes_no_further_than_the_middleware(guarded: Served) -> None:
    headers = {"x-api-key": "other", "authorization": "Bearer good"}
    seen = guarded.post("/v1/messages", headers=headers).json()["headers"]
    assert "x-api-key" not in seen
    assert "x-api-key" not in guarded.auth.last.json["request"]["headers"]


def test_an_empty_authorization_header_does_not_hide_the_api_key(guarded: Served) -> None:
    assert guarded.post("/v1/messages", headers={"x-api-key": "good", "authorization": ""}).status_code == 200


def test_an_empty_api_key_is_no_key(guarded: Served) -> None:
    answer = guarded.post("/v1/messages", headers={"x-api-key": ""})
    assert_refusal(answer, 401, "authentication_error", "Authentication required")


def test_other_paths_keep_the_hosts_rules(guarded: Served) -> None:
    for path in ("/v1/other", "/v1/messages-of-others"):
        answer = guarded.post(path, headers={"x-api-key": "good"})
        assert answer.status_code == 401
        assert answer.json().keys() == {"error"}
        assert "request-id" not in answer.headers
    answer = guarded.client.get("/v1/other", headers={"authorization": "Bearer good", "x-api-key": "k"})
    assert answer.json()["headers"]["x-api-key"] == "k"
    assert answer.json()["state"] is False


# --- refusals ---


def test_an_unknown_key_is_refused_in_anthropics_shape_and_once(guarded: Served) -> None:
    guarded.auth.forget()
    with (
        anthropic.Anthropic(base_url=str(guarded.client.base_url), api_key="bad") as client,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
    assert caught.value.request_id is not None
    assert len(guarded.auth.requests) == 1
    assert_refusal(guarded.post("/v1/messages", headers={"x-api-key": "bad"}), 401, "authentication_error", "401")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/v1/messages", "/v1/messages/batches", "/v1/messages/"])
def test_no_key_is_an_authentication_error_that_is_not_worth_a_retry(guarded: Served, path: str) -> None:
    answer = guarded.post(path)
    assert_refusal(answer, 401, "authentication_error", "Authentication required")
    assert answer.headers["x-should-retry"] == "false"


def test_a_failing_auth_service_is_worth_a_retry(guarded: Served) -> None:
    guarded.auth.queue("/auth", json_reply({}, status=503))
    answer = guarded.post("/v1/messages", headers={"x-api-key": "good"})
    assert_refusal(answer, 401, "authentication_error", "503")
    assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/v1/messages/batches"])
def test_the_route_policy_holds_for_the_alias_too(guarded: Served, path: str) -> None:
    answer = guarded.post(path, headers={"x-api-key": "good"})
    assert_refusal(answer, 403, "permission_error", "Access denied")
    assert answer.headers["x-should-retry"] == "false"
    assert guarded.post(path, headers={"x-api-key": "admin"}).json()["path"] == "/v1/messages/batches"


def test_a_client_of_another_version_is_told_so(guarded: Served) -> None:
    headers = {"x-api-key": "good", "x-llamastack-client-version": "0.1.0"}
    assert_refusal(guarded.post("/v1/messages", headers=headers), 426, "invalid_request_error", "not compatible")


def test_unknown_paths_and_methods_below_ours_are_told_in_our_shape(plain: httpx.Client) -> None:
    assert_refusal(plain.post("/v1/messages/no/such"), 404, "not_found_error", "Not Found")
    answer = plain.get("/v1/messages")
    assert_refusal(answer, 405, "invalid_request_error", "Method Not Allowed")
    assert answer.headers["allow"] == "POST"
    assert plain.head("/v1/messages").status_code == 405


def test_what_the_hosts_handlers_say_is_put_in_our_shape(plain: httpx.Client) -> None:
    broken = plain.post("/v1/messages/broken")
    assert_refusal(broken, 500, "api_error", "Internal server error")
    invalid = plain.post("/v1/messages/validated", json={"a": "b"})
    assert_refusal(invalid, 400, "invalid_request_error", "")


REFUSALS: list[tuple[int, bytes, str, str]] = [
    (429, b'{"error":{"message":"Quota exceeded"}}', "rate_limit_error", "Quota exceeded"),
    (400, b'{"detail":"no"}', "invalid_request_error", "no"),
    (402, b'{"error":"pay"}', "invalid_request_error", "pay"),
    (418, b"plain words", "invalid_request_error", "plain words"),
    (499, b"", "invalid_request_error", "status 499"),
    (500, b'{"message":"oh"}', "api_error", "oh"),
    (503, b"[]", "overloaded_error", "status 503"),
    (504, b"\xff\xfe", "timeout_error", ""),
    (500, b'{"error":{"message":"' + b"x" * 100_000 + b'"}}', "api_error", "xxx"),
]


@pytest.mark.parametrize(("status", "body", "error_type", "words"), REFUSALS)
def test_every_refusal_by_the_host_has_our_shape(status: int, body: bytes, error_type: str, words: str) -> None:
    described = [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    with serving(sealed(Refusing(status, body, [*described, (b"x-kept", b"1")]))) as client:
        answer = client.post("/v1/messages")
    assert_refusal(answer, status, error_type, words)
    assert answer.headers["x-kept"] == "1"
    assert len(answer.content) < 3000


def test_a_used_up_daily_quota_is_not_worth_a_retry_but_a_rate_limit_is() -> None:
    for headers, retry in (([], "false"), ([(b"retry-after", b"7")], None)):
        with serving(sealed(Refusing(429, b"{}", headers))) as client:
            answer = client.post("/v1/messages")
        assert_refusal(answer, 429, "rate_limit_error", "429")
        assert answer.headers.get("x-should-retry") == retry
        assert answer.headers.get("retry-after") == (None if retry else "7")


# --- what passes ---


def test_our_own_errors_pass_untouched(plain: httpx.Client) -> None:
    answer = plain.post("/v1/messages/error")
    assert (answer.status_code, answer.json()) == (529, {"route": "own"})
    assert answer.headers["retry-after"] == "3"
    assert len(answer.headers.get_list("request-id")) == 1


def test_every_answer_of_our_paths_has_the_id_that_the_routes_see(plain: httpx.Client) -> None:
    answers = [plain.post("/v1/messages") for _ in range(2)]
    for answer in answers:
        assert answer.headers["request-id"] == answer.json()["request_id"]
    assert answers[0].headers["request-id"] != answers[1].headers["request-id"]
    assert "request-id" not in plain.get("/v1/other").headers
    assert "request-id" not in plain.post("/v1/messages-of-others").headers


def test_streams_pass_as_they_come(plain: httpx.Client) -> None:
    with plain.stream("POST", "/v1/messages/stream") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"first"
        assert answer.headers["request-id"].startswith("req_")
        assert next(pieces) == b"second"


# --- sizes ---


def test_a_body_that_is_too_large_is_refused_by_its_length_alone(plain: httpx.Client) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", plain.base_url.port), timeout=60) as connection:
        connection.sendall(head)
        # httptools refuses the pair itself (RFC 9112, section 6.1), h11 lets it pass to the middleware.
        assert connection.recv(1000).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/stubborn", "/v1/messages/validated"])
def test_a_chunked_body_that_is_too_large_is_refused_whatever_the_route_makes_of_it(
    plain: httpx.Client, path: str
) -> None:
    answer = plain.post(path, content=iter([b"x" * 600] * 5))
    assert_refusal(answer, 413, "request_too_large", "1000 bytes")


def test_a_length_does_not_hide_a_chunked_body(plain: httpx.Client) -> None:
    head = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", plain.base_url.port), timeout=60) as connection:
        connection.sendall(head + b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n")
        # httptools refuses the pair itself (RFC 9112, section 6.1), h11 lets it pass to the middleware.
        assert connection.recv(1000).startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


def test_bodies_up_to_the_limit_pass(plain: httpx.Client) -> None:
    for content in (b"x" * LIMIT, iter([b"x" * 500, b"x" * 500])):
        assert plain.post("/v1/messages", content=content).json()["size"] == LIMIT
    assert_refusal(plain.post("/v1/messages", content=b"x" * (LIMIT + 1)), 413, "request_too_large", "1000 bytes")


@pytest.mark.parametrize("path", ["/v1/messages/batches", "/v1/v1/messages/batches"])
def test_batches_have_a_limit_of_their_own(plain: httpx.Client, path: str) -> None:
    assert plain.post(path, content=b"x" * BATCH_LIMIT).json()["size"] == BATCH_LIMIT
    answer = plain.post(path, content=b"x" * (BATCH_LIMIT + 1))
    assert_refusal(answer, 413, "request_too_large", "5000 bytes")


# --- the callable itself ---


async def run(app: ASGIApp, scope: Json, receive: Receive | None = None) -> list[Message]:
    """The messages that an app sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app({"type": "http", "headers": [], "path": "/v1/messages", **scope}, receive or nothing, send)
    return sent


async def test_a_refusal_that_the_host_never_ends_is_told_all_the_same() -> None:
    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 401})
        await send({"type": "http.response.body", "body": b'{"detail":"no"}', "more_body": True})

    start, body = await run(sealed(half), {})
    assert start["status"] == 401
    assert orjson.loads(body["body"])["error"] == {"type": "authentication_error", "message": "no"}


async def test_nothing_is_sent_after_a_refusal() -> None:
    async def twice(_scope: Scope, _receive: Receive, send: Send) -> None:
        for _ in range(2):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    assert len(await run(sealed(twice), {})) == 2


async def test_a_body_that_grows_too_large_under_a_running_answer_ends_the_connection() -> None:
    async def early(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await receive()

    async def endless() -> Message:
        return {"type": "http.request", "body": b"x" * 300, "more_body": True}

    with pytest.raises(RequestTooLargeError):
        await run(sealed(early), {}, endless)


async def test_other_kinds_of_scope_go_through() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        await run(sealed(app), {"type": kind})
    assert seen == ["lifespan", "websocket"]


def test_an_app_without_middlewares_is_left_alone_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert install_middleware(FastAPI(), LIMITS) is False
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "middleware_stack" in caplog.text
    assert install_middleware(object(), LIMITS) is False


def test_the_middleware_is_installed_once() -> None:
    app = FastAPI()
    app.middleware_stack = app.build_middleware_stack()
    inner = app.middleware_stack
    assert install_middleware(app, LIMITS)
    first = app.middleware_stack
    assert install_middleware(app, LIMITS)
    assert app.middleware_stack is first
    assert isinstance(first, AnthropicMiddleware)
    assert first.app is inner


class Watching:
    """A middleware that counts the pieces of bodies that it sees, and may change them."""

    def __init__(self, app: ASGIApp, seen: list[bytes], *, changes: bool) -> None:
        self.app, self.seen, self.changes = app, seen, changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            if "body" in message:
                self.seen.append(message["body"])
                message = {**message, "body": message["body"].upper()} if self.changes else message
            await send(message)

        await self.app(scope, receive, watched)


@pytest.mark.parametrize("changes", [False, True])
async def test_events_pass_through_every_middleware(changes: bool) -> None:
    events = [b"event: a\ndata: %d\n\n" % number for number in range(5)]
    seen: list[bytes] = []

    async def source() -> AsyncGenerator[bytes]:
        for event in events:
            yield event

    async def stream() -> EventStream:
        return EventStream(source(), dict, bytes, ping_after=60.0)

    app = FastAPI()
    app.add_api_route("/v1/messages", stream, response_model=None)
    app.add_middleware(Watching, seen=seen, changes=changes)
    app.middleware_stack = app.build_middleware_stack()
    assert install_middleware(app, LIMITS)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        answer = await client.get("/v1/messages")

    sent = b"".join(events)
    assert answer.content == (sent.upper() if changes else sent)
    assert seen == [*events, b""]


# --- the real host ---


MODEL = "openai/test-model"
ASKED: Json = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Host:
    """The real server, with its auth endpoint and its upstream."""

    client: httpx.Client
    upstream: ScriptedUpstream
    stack: Stack


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """`llama stack run` with custom auth and a route policy: batches are for admins."""
    folder = tmp_path_factory.mktemp("middleware")
    rules = [
        {"forbid": {"paths": "/v1/messages/batches*"}, "unless": "user with admin in roles"},
        {"permit": {"paths": "*"}},
    ]
    with ScriptedUpstream(identities(USERS)) as auth, ScriptedUpstream() as upstream:
        config = run_config(
            folder,
            inference=[openai_provider(upstream.url)],
            messages={"limits": {"body_bytes": 100_000}},
            auth={**custom_auth(auth.url), "route_policy": rules},
        )
        with Stack(config, folder) as stack, httpx.Client(base_url=stack.base_url, verify=False) as client:
            yield Host(client, upstream, stack)


@pytest.mark.parametrize("base", ["", "/v1"])
def test_the_sdk_talks_to_a_protected_host_with_an_api_key(host: Host, base: str) -> None:
    host.upstream.forget()
    with anthropic.Anthropic(base_url=host.stack.base_url + base, api_key="good") as client:
        message = client.messages.create(**ASKED)
        assert message.content[0].type == "text"
        assert message._request_id is not None
        assert message._request_id.startswith("req_")
        with client.messages.stream(**ASKED) as stream:
            assert stream.get_final_text() == message.content[0].text
            assert stream.response.headers.get_list("request-id") == [stream.request_id]
    for seen in host.upstream.requests:
        assert "x-api-key" not in seen.headers
        assert "good" not in seen.headers.get("authorization", "")


def test_the_real_hosts_refusals_have_our_shape(host: Host) -> None:
    def post(path: str, key: str, **request: Any) -> httpx.Response:
        return host.client.post(path, headers={"x-api-key": key}, **request)

    assert_refusal(host.client.post("/v1/messages"), 401, "authentication_error", "Authentication required")
    assert_refusal(post("/v1/messages", "bad", json=ASKED), 401, "authentication_error", "401")
    for path in ("/v1/messages/batches", "/v1/v1/messages/batches"):
        assert_refusal(post(path, "good", json={"requests": []}), 403, "permission_error", "Access denied")
        assert post(path, "admin", json={"requests": []}).status_code == 400
    assert_refusal(post("/v1/messages/no/such/path", "good"), 404, "not_found_error", "Not Found")
    assert_refusal(host.client.get("/v1/messages", headers={"x-api-key": "good"}), 405, "invalid_request_error", "")
    large = "x" * 100_000
    assert_refusal(post("/v1/messages", "good", json={**ASKED, "system": large}), 413, "request_too_large", "100000")
    pieces = iter([large.encode(), b"x"])
    assert_refusal(post("/v1/messages", "good", content=pieces), 413, "request_too_large", "100000")


def test_the_real_hosts_other_paths_are_not_touched(host: Host) -> None:
    answer = host.client.post("/v1/chat/completions", headers={"x-api-key": "good"}, json={})
    assert answer.status_code == 401
    assert answer.json().keys() == {"error"}
    assert "request-id" not in answer.headers
    large = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 200_000}]}
    answer = host.client.post("/v1/chat/completions", headers={"authorization": "Bearer good"}, json=large)
    assert answer.status_code == 200
    assert "middleware_stack" not in host.stack.log()


def test_the_real_hosts_quota_is_a_rate_limit_error(scripted_stack: Callable[..., Stack]) -> None:
    with ScriptedUpstream() as upstream:
        kvstore = {"namespace": "quota", "backend": "kv_default"}
        quota = {"kvstore": kvstore, "anonymous_max_requests": 3, "period": "day"}
        stack = scripted_stack(inference=[openai_provider(upstream.url)], messages={}, server={"quota": quota})
        with httpx.Client(base_url=stack.base_url, verify=False) as client:
            answers = [client.post("/v1/messages", json=ASKED) for _ in range(5)]
    assert_refusal(answers[-1], 429, "rate_limit_error", "Quota exceeded")
    assert answers[-1].headers["x-should-retry"] == "false"
