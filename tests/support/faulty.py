"""`FaultyUpstream`: a server on raw sockets that does one wrong thing to every request but a probe.

```
with FaultyUpstream() as upstream:
    upstream.fault = FAULTS["closes without a byte"]
    ... http://127.0.0.1:{upstream.port} ...
```

A fault is a coroutine function of a `Connection`: it writes what it wants and returns, which closes the connection.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from tests.support.wire import (
    anthropic_message,
    anthropic_stream,
    chat_chunks,
    chat_completion,
    encode_chunks,
    encode_events,
)

__all__ = ["TEXT", "Connection", "Fault", "FaultyUpstream"]

TEXT = "Hello there"
# Ends what would go on for ever, should the client not.
_AT_MOST = 200_000


@dataclass
class Connection:
    """One request that is to be answered wrongly.

    Attributes:
        native: Whether it is for `/v1/messages`.
        streamed: Whether a stream was asked for.
    """

    writer: asyncio.StreamWriter
    native: bool
    streamed: bool

    @property
    def content_type(self) -> str:
        return "text/event-stream" if self.streamed else "application/json"

    @property
    def parts(self) -> list[bytes]:
        """A good stream, an element an event."""
        if self.native:
            return encode_events(anthropic_stream(anthropic_message(TEXT), ping=False))
        return encode_chunks(chat_chunks(TEXT))

    @property
    def whole(self) -> bytes:
        """A good whole answer."""
        return orjson.dumps(anthropic_message(TEXT) if self.native else chat_completion(TEXT))

    @property
    def body(self) -> bytes:
        """A good answer."""
        return b"".join(self.parts) if self.streamed else self.whole

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: str = "200 OK", **headers: str) -> None:
        """The status line and headers; `_` in a name stands for `-`."""
        given = {"content_type": self.content_type, "connection": "close", **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value]
        await self.write("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode())

    async def answer(self, body: bytes, status: str = "200 OK", **headers: str) -> None:
        """A body with its length."""
        await self.head(status, content_length=str(len(body)), **headers)
        await self.write(body)

    async def for_ever(self, pieces: Iterable[bytes], pause: float = 0.0) -> None:
        """The same again and again, until the client hangs up."""
        pieces = list(pieces)
        for _ in range(_AT_MOST):
            for piece in pieces:
                await self.write(piece)
            await asyncio.sleep(pause)

    def reset(self) -> None:
        """Close the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


type Fault = Callable[[Connection], Awaitable[None]]

PROBES: dict[str, tuple[str, Any]] = {
    "/v1/models": ("200 OK", {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm"}]}),
    "/v1/messages": ("400 Bad Request", {"error": {"message": "1 validation error: messages: Field required"}}),
    "/v1/messages/count_tokens": ("200 OK", {"input_tokens": 1}),
}


class FaultyUpstream:
    """An upstream that does `fault` to each message; a context manager, usable once.

    Attributes:
        fault: What it does.
        requests: How many messages it was asked for.
    """

    def __init__(self) -> None:
        self.fault: Fault = _good
        self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(10)
        self._socket.close()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket)
        await self._closing.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # a transport closes its socket in the turn after its end

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answered(reader, writer)
        writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        lengths = [line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
        body = orjson.loads(await reader.readexactly(int(lengths[0]))) if lengths and lengths[0].strip() != "0" else {}
        connection = Connection(writer, path == "/v1/messages", bool(body.get("stream")))
        if path in PROBES and not (path == "/v1/messages" and "messages" in body):
            status, told = PROBES[path]
            await connection.answer(orjson.dumps(told), status, content_type="application/json")
            return
        self.requests += 1
        await self.fault(connection)


async def _good(connection: Connection) -> None:
    await connection.answer(connection.body)
