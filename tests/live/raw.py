"""Requests whose bytes a test sees: answers piece by piece, and clients that hang up.

```
answer = post(stack, "vllm/m", stream=True)          a whole answer: status, headers, body, events
client = RawClient(stack, "vllm/m", stream=True)     a socket that has sent its request
client.read_until(b"event: ping")  client.hang_up()
```
"""

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from tests.support.sse import events
from tests.support.stack import Stack
from tests.support.wire import Json

__all__ = ["Answer", "RawClient", "ask", "complaints", "post"]

TIMEOUT_SECONDS = 60.0
MESSAGES = "/v1/messages"
# What asyncio, aiohttp and uvicorn say about what nobody cared for.
COMPLAINTS = (
    "Traceback",
    "never retrieved",
    "Unclosed",
    "was never awaited",
    "Exception in ASGI",
    "Task was destroyed",
)


def ask(model: str, **more: Any) -> Json:
    """A request body."""
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}], **more}


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, Anthropic's type and message of an error; its envelope is checked."""
        body = self.json
        assert set(body) == {"type", "error", "request_id"}
        assert body["type"] == "error"
        assert body["request_id"] == self.headers["request-id"]
        return self.status, body["error"]["type"], body["error"]["message"]

    @cached_property
    def events(self) -> list[Json]:
        """The events of a stream."""
        assert self.status == 200, self.body
        return events(self.body)

    @property
    def types(self) -> list[str]:
        """The events' types."""
        return [event["type"] for event in self.events]

    @property
    def last_error(self) -> tuple[str, str]:
        """Type and message of the error that ends a stream."""
        assert self.types.count("error") == 1
        assert self.types[-1] == "error", self.types
        return self.events[-1]["error"]["type"], self.events[-1]["error"]["message"]


def post(
    stack: Stack, model: str, *, path: str = MESSAGES, headers: Mapping[str, str] | None = None, **more: Any
) -> Answer:
    """Send a request and read its answer to the end."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=TIMEOUT_SECONDS)
    try:
        body = orjson.dumps(ask(model, **more))
        connection.request("POST", path, body, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


class RawClient:
    """A client whose request is on its way."""

    def __init__(self, stack: Stack, model: str, *, key: str = "any", **more: Any) -> None:
        body = orjson.dumps(ask(model, **more))
        head = f"POST {MESSAGES} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._socket = socket.create_connection(("127.0.0.1", stack.port), timeout=TIMEOUT_SECONDS)
        self._socket.sendall(head.encode() + body)
        self.received = b""

    def read_until(self, found: bytes) -> None:
        """Read until these bytes are there."""
        while found not in self.received:
            data = self._socket.recv(65536)
            assert data, f"the server hung up:\n{self.received!r}"
            self.received += data

    def hang_up(self) -> None:
        """Close the connection without another word."""
        self._socket.close()


def complaints(log: str) -> list[str]:
    """The lines of a server's log that tell of something that was left lying about."""
    return [line for line in log.splitlines() if any(complaint in line for complaint in COMPLAINTS)]
