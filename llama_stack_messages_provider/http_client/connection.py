"""One connection, which carries one request at a time: the request is written, its answer is read as it comes.

httptools reads; what is bounded, waited for and given up is decided here.

Source: RFC 9112.
"""

import asyncio
from collections.abc import Callable

import httptools

from llama_stack_messages_provider.http_client.content_encoding import ENCODINGS
from llama_stack_messages_provider.http_client.failures import DisconnectedError, HeadTimeoutError, NotHttpError
from llama_stack_messages_provider.http_client.response import PackedResponse, Response

__all__ = ["Connection"]

_MAX_HEAD_BYTES = 64 * 1024
_MAX_UNREAD_BYTES = 256 * 1024
# Below it a copy costs less than a second write.
_JOINED_BYTES = 64 * 1024
_SWITCHING = 101


class Connection(asyncio.BufferedProtocol):
    """A connection to a server or a proxy.

    Args:
        loop: The running loop.
        buffer: Where bytes arrive; all connections of a loop may share it, since it is read at once.
        released: Called when an answer has come to its end and another request may be sent.
        lost: Called when it is closed.

    Attributes:
        spoke: Whether anything has come since the last request was sent.
        idle_since: When it was released, by the loop's clock.
    """

    __slots__ = (
        "_buffer",
        "_closes_at_end",
        "_has_paused",
        "_head",
        "_headers",
        "_interim",
        "_loop",
        "_lost",
        "_parser",
        "_released",
        "_response",
        "_silent_bytes",
        "_transport",
        "idle_since",
        "spoke",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffer: memoryview,
        released: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        self._loop = loop
        self._buffer = buffer
        self._released = released
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        # Line ends, spaces and headers that servers get wrong, and no client minds.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._head: asyncio.Future[Response] | None = None
        self._headers: dict[str, str] = {}
        self._response: Response | None = None
        self._interim = False
        self._closes_at_end = False
        self._has_paused = False
        self._silent_bytes = 0  # that have come since the last of a message's parts
        self.spoke = False
        self.idle_since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, head: bytes, body: bytes, seconds: float) -> Response:
        """Send a request.

        Args:
            head: Its head, with the empty line.
            body: Its body.
            seconds: Until the answer's head must be there.

        Raises:
            HeadTimeoutError: It is not.
            DisconnectedError, NotHttpError, OSError: There is no answer.
        """
        assert self._transport is not None
        self.spoke = False
        self._silent_bytes = 0
        answered: asyncio.Future[Response] = self._loop.create_future()
        self._head = answered
        if len(body) > _JOINED_BYTES:
            self._transport.write(head)
            self._transport.write(body)
        else:
            self._transport.write(head + body)
        del body  # the transport keeps what is not sent yet
        timer = self._loop.call_later(seconds, self._look, answered)
        try:
            return await answered
        except asyncio.CancelledError:
            # Once its answer has ended, the connection is somebody else's.
            if answered.done() and not answered.cancelled() and answered.exception() is None:
                answered.result().close()
            else:
                self.close()
            raise
        finally:
            timer.cancel()
            del answered  # a failure knows this frame, and this frame must not know the failure

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self._transport is not None:
            self._transport.abort()

    def _look(self, answered: asyncio.Future[Response]) -> None:
        if not answered.done():
            self._fail(HeadTimeoutError())

    def _fail(self, error: BaseException) -> None:
        """Tell whoever waits, and close; once more, it does nothing."""
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_exception(error)
        if self._response is not None:
            self._response.end(error)
            self._response = None
        self.close()

    def _read_on(self) -> None:
        if self._has_paused:
            self._has_paused = False
            if self.is_open:
                self._transport.resume_reading()  # type: ignore[union-attr]

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.spoke = True
        self._silent_bytes += nbytes
        response = self._response
        try:
            self._parser.feed_data(self._buffer[:nbytes])  # type: ignore[union-attr]
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._fail(NotHttpError(str(exc)))
        if self._silent_bytes > _MAX_HEAD_BYTES:
            self._fail(NotHttpError("headers without an end"))
        response = response or self._response
        if response is not None:
            response.wake()
            if response.unread > _MAX_UNREAD_BYTES and not response.ended and not self._has_paused:
                self._has_paused = True
                self._transport.pause_reading()  # type: ignore[union-attr]

    def eof_received(self) -> None:
        # What is not sent yet would keep asyncio from closing.
        if self._response is not None and self._closes_at_end:
            self._response.end()
            self._response = None
        self._fail(DisconnectedError())

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or DisconnectedError())
        self._parser = None  # it holds this
        self._lost(self)

    # --- what httptools calls ---

    def on_message_begin(self) -> None:
        if self._head is None:  # its rest would be taken for the next request's answer
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is None:  # those behind a body mean nothing
            self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()  # type: ignore[union-attr]
        headers, self._headers = self._headers, {}
        self._interim = 100 <= status < 200 and status != _SWITCHING
        if self._interim:
            return
        head, self._head = self._head, None
        if head is None or head.done():
            self.close()  # an answer that nobody asked for
            return
        self._silent_bytes = 0
        coding = headers.get("transfer-encoding", "identity").lower()
        self._closes_at_end = coding == "identity" and "content-length" not in headers
        kind = PackedResponse if headers.get("content-encoding", "").lower() in ENCODINGS else Response
        self._response = kind(status, headers, self._loop, self._read_on, self.close)
        head.set_result(self._response)

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        if self._response is not None:
            self._response.feed(data)

    def on_message_complete(self) -> None:
        response = self._response
        if self._interim or response is None:
            return
        self._silent_bytes = 0
        self._response = None
        response.end()
        transport = self._transport
        keeps = self._parser.should_keep_alive() and response.status != _SWITCHING  # type: ignore[union-attr]
        if keeps and transport is not None and not transport.is_closing() and not transport.get_write_buffer_size():
            self._released(self)
        else:
            self.close()
