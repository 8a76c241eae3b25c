"""The answer to a request: its head, and its body as it comes."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from llama_stack_messages_provider.http_client.content_encoding import Decoder

__all__ = ["PackedResponse", "Response", "media_type"]


class Response:
    """An answer whose head is there.

    Args:
        status: Its status.
        headers: By lower-case name; of equal ones the first.
        loop: Where it is read.
        more: Lets the connection read again, which it does not while much is unread.
        give_up: Closes the connection.

    Attributes:
        ended: Whether all of the body has come, or never will.
        unread: Bytes that have come and were not read.
    """

    __slots__ = ("_error", "_give_up", "_loop", "_more", "_pieces", "_waiter", "ended", "headers", "status", "unread")

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
        more: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        self.status = status
        self.headers = headers
        self.ended = False
        self.unread = 0
        self._loop = loop
        self._more = more
        self._give_up = give_up
        self._pieces: list[bytes] = []
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content_type(self) -> str:
        """The media type in small letters, without its parameters; empty if none is told."""
        return media_type(self.headers)[0]

    async def read(self) -> bytes:
        """As much of the body as is there, at least a byte; empty at the end.

        Raises:
            HttpError, OSError: It breaks off here.
            TimeoutError: As `fail` was told.
        """
        while not self._pieces and not self.ended:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    def read_whole(self) -> bytes | None:
        """All of the body, if it has come without a failure and is not packed."""
        return self._take() if self.ended and self._error is None else None

    def _take(self) -> bytes:
        pieces = self._pieces
        if not pieces:
            if self._error is not None:
                raise self._error
            return b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self.unread = 0
        self._more()
        return data

    def feed(self, data: bytes) -> None:
        """A piece has come; whoever reads is told by `wake`."""
        self._pieces.append(data)
        self.unread += len(data)

    def wake(self) -> None:
        """Let whoever waits have what has come."""
        if self._waiter is not None and (self._pieces or self.ended) and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self, error: BaseException | None = None) -> None:
        """No more will come."""
        if not self.ended:
            self.ended = True
            self._error = error
            self.wake()

    def fail(self, error: BaseException) -> None:
        """Unless the body has ended, whoever reads meets an error, and its connection is closed."""
        if not self.ended:
            self.end(error)
            self._give_up()

    def close(self) -> None:
        """Nobody reads on: unless the body has ended, its connection is closed."""
        if not self.ended:
            self.end()
            self._give_up()


class PackedResponse(Response):
    """An answer whose body is compressed, although nobody asked for that; its bytes are unpacked as they are read."""

    __slots__ = ("_decoder",)

    def __init__(self, status: int, headers: Mapping[str, str], *others: Any) -> None:
        super().__init__(status, headers, *others)
        self._decoder = Decoder(headers["content-encoding"].lower())

    async def read(self) -> bytes:
        """As of `Response`; a piece is bounded, however much it was packed.

        Raises:
            EncodingError: It cannot be unpacked.
        """
        await asyncio.sleep(0)  # unpacking is work, and what has come may be much of it
        while not (piece := self._decoder.take()):
            if not (packed := await super().read()):
                return b""  # a packed stream may break off where its events end
            self._decoder.feed(packed)
        return piece

    def read_whole(self) -> None:
        """It is never there at once."""


def media_type(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """The media type that headers tell, in small letters, and its charset."""
    kind, _, rest = headers.get("content-type", "").partition(";")
    for parameter in rest.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return kind.strip().lower(), value.strip().strip("'\"") or None
    return kind.strip().lower(), None
