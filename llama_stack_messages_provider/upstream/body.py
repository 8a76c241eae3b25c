"""The body of an upstream's answer, read under limits of time and size."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from llama_stack_messages_provider.errors import UpstreamError
from llama_stack_messages_provider.http_client.failures import EncodingError, HttpError
from llama_stack_messages_provider.http_client.response import Response
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.failures import AnswerTooLargeError, did_not_begin, stopped

__all__ = ["Body", "Timeouts", "iter_body"]

_LINGER_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an upstream may take, in seconds.

    Args:
        connect: To accept a connection.
        first_byte: To send the first byte of an answer.
        idle: Between two pieces of an answer.
    """

    connect: float
    first_byte: float
    idle: float

    def of(self, endpoint: Endpoint) -> "Timeouts":
        """These, but for what the provider's own settings say."""
        if endpoint.connect_timeout is None and endpoint.read_timeout is None:
            return self
        connect = endpoint.connect_timeout or self.connect
        return replace(self, connect=connect, first_byte=endpoint.read_timeout or self.first_byte)


async def iter_body(response: Response, timeouts: Timeouts, max_bytes: int) -> AsyncGenerator[bytes]:
    """The body of a response, as much at a time as is there.

    Raises:
        UpstreamError: As of `Body`.
    """
    with Body(response, timeouts, max_bytes) as body:
        while data := await body.read():
            body.mark_received(data)
            yield data
            body.arm()


class Body:
    """The body of a response, under its limits: `mark_received` after each piece of it, `arm` before the next one.

    A context manager. Its user's loop saves a generator, which is some of what a small event costs.

    Args:
        response: An answer whose headers are there.
        timeouts: The first-byte limit holds for the first piece, the idle limit for those after it.
        max_bytes: The most that is read.

    Attributes:
        read: The next piece, as much as is there; empty at the end.

    Raises:
        UpstreamTimeoutError: A limit passed; of the block that reads.
        AnswerTooLargeError: It is longer; of `mark_received`.
        UpstreamError: The connection broke; of the block that reads.
    """

    __slots__ = ("_idle", "_left", "_max_bytes", "_open", "_response", "_watch", "read")

    def __init__(self, response: Response, timeouts: Timeouts, max_bytes: int) -> None:
        self._response = response
        self._watch = _Watch(response, timeouts.first_byte)
        self._idle = timeouts.idle
        self._open = False
        self._max_bytes = self._left = max_bytes
        self.read = response.read

    def mark_received(self, data: bytes) -> None:
        """A piece is there: a client that reads slowly is not the upstream's fault."""
        self._watch.waiting = False
        self._left -= len(data)
        if self._left < 0:
            raise AnswerTooLargeError(self._max_bytes)

    def arm(self) -> None:
        """The next piece is waited for."""
        self._watch.wait(self._idle)

    def hand_over(self) -> None:
        """Somebody else reads the rest: the response stays open."""
        self._open = True

    async def close_soon(self) -> None:
        """All that matters has come: read the end of the body, if it is near, which keeps the connection."""
        if self._response.ended:
            return
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self.read():
                    pass
        except (HttpError, OSError):  # a timeout among them
            self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        watch = self._watch
        watch.end()
        if not self._open:
            self._response.close()
        if isinstance(error, TimeoutError):
            raise (stopped if watch.begun else did_not_begin)(watch.seconds) from error
        if isinstance(error, EncodingError):
            raise UpstreamError("The upstream's answer is compressed in a way that is not understood") from error
        if isinstance(error, HttpError | OSError):
            raise UpstreamError("The upstream's answer broke off") from error


class _Watch:
    """Ends a body that brings nothing for too long.

    One timer that looks again when the limit could have passed, and 0.5 microseconds for each piece:
    `asyncio.timeout().reschedule` takes 4.3, a tenth of what a small event costs.
    """

    __slots__ = ("_loop", "_response", "_since", "_timer", "begun", "seconds", "waiting")

    def __init__(self, response: Response, first_byte: float) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self.begun = False
        self.seconds = first_byte
        self._wait()

    def wait(self, idle: float) -> None:
        """The next piece is waited for, from now on."""
        if self.begun:
            self.waiting = True
            self._since = self._loop.time()
            return
        self.begun = True
        self.seconds = idle
        self._timer.cancel()
        self._wait()

    def end(self) -> None:
        """The body is over."""
        self._timer.cancel()

    def _wait(self) -> None:
        self.waiting = True
        self._since = self._loop.time()
        self._timer = self._loop.call_later(self.seconds, self._look)

    def _look(self) -> None:
        idle = self._loop.time() - self._since if self.waiting else 0.0
        if idle < self.seconds:
            self._timer = self._loop.call_later(self.seconds - idle, self._look)
        elif self._response.unread:  # it came in this very turn of the loop, and its reader is not awake yet
            self._wait()
        else:
            self._response.fail(TimeoutError())
