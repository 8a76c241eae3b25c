"""`ScriptedUpstream`: a real HTTP server on 127.0.0.1 that records requests and answers by script.

It runs in its own thread with its own loop, so sync and async tests use it alike:

```
with ScriptedUpstream(vllm(models=["m"])) as upstream:           # personalities: tests.support.personalities
    upstream.reply("/v1/chat/completions", chat_reply("Hello"))   # from now on
    upstream.queue("/v1/chat/completions", hang_reply(), ...)     # the next ones, each once, first
    ... base_url = upstream.url + "/v1" ...
    upstream.last.json["model"], upstream.last.headers["x-api-key"]
    [seen.json for seen in upstream.requests_to("/v1/messages")]
    eventually(lambda: upstream.last.disconnected_at)              # the client went away
    upstream.release()                                            # ends every FOREVER
```

A script key is a path (`"/v1/messages"`) or a method and a path (`"GET /v1/models"`). A value is a `Reply`
(`tests.support.replies`) or a function of the `RecordedRequest` that returns one. What no script answers, the
personality does. Everything in `replies` and `wire` can be imported from here too.
"""

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support import replies, wire
from tests.support.replies import *  # noqa: F403 - one import for test authors
from tests.support.replies import Pace, Reply, Step, Wait, json_reply, stream_reply
from tests.support.wire import *  # noqa: F403 - one import for test authors
from tests.support.wire import Json, chat_chunks, chat_completion, encode_chunks

__all__ = [
    "Personality",
    "RecordedRequest",
    "Responder",
    "ScriptedUpstream",
    "chat_reply",
    "chat_stream_reply",
    *replies.__all__,
    *wire.__all__,
]

MAX_BODY_BYTES = 512 * 1024 * 1024
START_SECONDS = 60.0


@dataclass(slots=True)
class RecordedRequest:
    """One request as it arrived. Times are `time.monotonic()`.

    Attributes:
        target: Path and query as sent.
        headers: Case-insensitive, repeated ones kept (`getall`).
        json: The parsed body; `None` if it is not JSON.
        peer: The client's address and port: equal for requests that shared a connection.
        disconnected_at: When the client went away before the reply was complete.
        finished_at: When the last byte of the reply was handed to the kernel.
        sent: Reply body bytes written so far.
        cut: Whether the script reset the connection.
    """

    method: str
    path: str
    target: str
    headers: CIMultiDictProxy[str]
    body: bytes
    json: Any
    peer: tuple[str, int]
    received_at: float
    disconnected_at: float | None = None
    finished_at: float | None = None
    sent: int = 0
    cut: bool = False

    @property
    def over(self) -> bool:
        """Whether the reply is complete or the client has gone."""
        return self.finished_at is not None or self.disconnected_at is not None


type Responder = Reply | Callable[[RecordedRequest], Reply]

NOTHING_HERE = Reply(404)


@dataclass(frozen=True, slots=True)
class Personality:
    """How an engine behaves where the test says nothing.

    Args:
        name: The engine's name.
        routes: Script keys to answers.
        not_found: What any other path gets.
        method_not_allowed: What a known path with another method gets; `not_found` if absent.
        listening: False for an upstream that is down: its port refuses connections.
    """

    name: str
    routes: Mapping[str, Responder] = field(default_factory=dict)
    not_found: Responder = NOTHING_HERE
    method_not_allowed: Responder | None = None
    listening: bool = True

    def answer(self, method: str, path: str) -> Responder:
        """The reply for a request that no script covers."""
        found = self.routes.get(f"{method} {path}") or self.routes.get(path)
        if found is not None:
            return found
        known = any(key.endswith(f" {path}") for key in self.routes)
        return self.method_not_allowed if known and self.method_not_allowed else self.not_found

    def with_routes(self, routes: Mapping[str, Responder]) -> "Personality":
        """The same engine with some routes replaced or added."""
        return Personality(
            self.name, {**self.routes, **routes}, self.not_found, self.method_not_allowed, self.listening
        )


def chat_reply(content: str | None = None, **fields: Any) -> Responder:
    """A chat completion, streamed or not as the request asks; arguments as of `wire.chat_completion`."""

    def answer(request: RecordedRequest) -> Reply:
        asked = request.json or {}
        named = {"model": asked.get("model", wire.MODEL), **fields}
        if not asked.get("stream"):
            return json_reply(chat_completion(content, **named))
        usage = named.pop("usage", None) or wire.completion_usage()
        wanted = (asked.get("stream_options") or {}).get("include_usage")
        return stream_reply(encode_chunks(chat_chunks(content, usage=usage if wanted else None, **named)))

    return answer


def chat_stream_reply(chunks: Iterable[Json | bytes], *, done: bool = True, pause: float = 0.0) -> Reply:
    """These chunks as an OpenAI stream."""
    return stream_reply(encode_chunks(chunks, done=done), pause=pause)


class ScriptedUpstream:
    """An HTTP server under the test's control; a context manager, usable once.

    Args:
        personality: What answers where no script does; an OpenAI-style server by default.
        port: Port to listen on, such as an earlier instance's; a free one by default.
    """

    def __init__(self, personality: Personality | None = None, *, port: int = 0) -> None:
        if personality is None:
            from tests.support.personalities import openai_style  # the default lives above this module

            personality = openai_style()
        self.personality = personality
        self.requests: list[RecordedRequest] = []
        self._defaults: dict[str, Responder] = {}
        self._queues: dict[str, deque[Responder]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name=f"upstream-{self.port}", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._closing = asyncio.Event()
        self._release = asyncio.Event()

    # --- what tests use ---

    @property
    def url(self) -> str:
        """`http://127.0.0.1:port`, without `/v1`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def last(self) -> RecordedRequest:
        """The newest request."""
        return self.requests[-1]

    def requests_to(self, path: str) -> list[RecordedRequest]:
        """The requests to one path, oldest first."""
        return [seen for seen in list(self.requests) if seen.path == path]

    def reply(self, key: str, answer: Responder) -> None:
        """Answer this path so from now on."""
        self._defaults[key] = answer

    def queue(self, key: str, *answers: Responder) -> None:
        """Answer the next requests to this path so, each answer once, before the default."""
        self._queues.setdefault(key, deque()).extend(answers)

    def forget(self) -> None:
        """Forget the requests and scripts; the personality stays."""
        self.requests.clear()
        self._defaults.clear()
        self._queues.clear()

    def release(self) -> None:
        """End the `FOREVER` steps that are waiting now."""
        self._loop.call_soon_threadsafe(self._let_go)

    def __enter__(self) -> Self:
        if self.personality.listening:
            self._thread.start()
            assert self._started.wait(START_SECONDS), "the scripted upstream did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(START_SECONDS)
        self._socket.close()
        self._loop.close()

    # --- the server ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{anything:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, self._socket, backlog=1024).start()
        self._started.set()
        await self._closing.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        seen = await _record(request)
        self.requests.append(seen)
        chosen = self._choose(seen)
        reply = chosen(seen) if callable(chosen) else chosen
        try:
            response = await self._play(reply, request, seen)
        except (asyncio.CancelledError, ConnectionError):
            if not (seen.cut or self._closing.is_set()):
                seen.disconnected_at = time.monotonic()
            raise
        seen.finished_at = None if seen.cut else time.monotonic()
        return response

    def _choose(self, seen: RecordedRequest) -> Responder:
        keys = (f"{seen.method} {seen.path}", seen.path)
        for key in keys:
            if self._queues.get(key):
                return self._queues[key].popleft()
        for key in keys:
            if key in self._defaults:
                return self._defaults[key]
        return self.personality.answer(seen.method, seen.path)

    async def _play(self, reply: Reply, request: web.Request, seen: RecordedRequest) -> web.StreamResponse:
        for step in reply.before:
            await self._take(step, None, request, seen)
        headers = CIMultiDict(reply.headers)
        if reply.sized:
            body = b"".join(step for step in reply.walk() if isinstance(step, bytes))
            seen.sent = len(body)
            return web.Response(status=reply.status, headers=headers, body=body)
        response = web.StreamResponse(status=reply.status, headers=headers)
        await response.prepare(request)
        for step in reply.walk():
            await self._take(step, response, request, seen)
        await response.write_eof()
        return response

    async def _take(
        self, step: Step, response: web.StreamResponse | None, request: web.Request, seen: RecordedRequest
    ) -> None:
        match step:
            case bytes() if response is not None:
                await response.write(step)
                seen.sent += len(step)
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case Pace.FOREVER:
                await self._release.wait()
            case Pace.CUT if request.transport is not None:
                seen.cut = True
                request.transport.abort()
                raise ConnectionResetError("cut by the script")
            case _:
                pass

    def _let_go(self) -> None:
        self._release.set()
        self._release = asyncio.Event()


async def _record(request: web.Request) -> RecordedRequest:
    received_at = time.monotonic()
    peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
    body = await request.read()
    return RecordedRequest(
        method=request.method,
        path=request.path,
        target=request.raw_path,
        headers=request.headers,
        body=body,
        json=_parse(body),
        peer=(peer[0], peer[1]),
        received_at=received_at,
    )


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
