"""One request as it is counted: made where a request is planned, entered while it is answered."""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.status.tally import NO_MODEL, TALLY, Tally
from llama_stack_messages_provider.telemetry.answers import AnswerReader
from llama_stack_messages_provider.telemetry.observed import current_batch
from llama_stack_messages_provider.telemetry.operation import error_type_of

__all__ = ["Noted", "note"]

_CONTENT = b"content_block_delta"
# Ours and Anthropic's, of errors that a stream tells without their status.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_GIVEN_UP = (asyncio.CancelledError, GeneratorExit)


class Noted:
    """A message or a count. Of a stream the first piece is read, and the last two, which are kept: they tell its cost.

    Args:
        operation: `chat` or `count_tokens`.
        request_id: What its client is told.
        request: Its JSON.
        inner: Whether it is a request of our own, for another: its tokens are counted, and nothing else.
        tally: Counts.

    Attributes:
        label: The model's name in metrics, once it is known.
    """

    __slots__ = (
        "_before",
        "_begun",
        "_id",
        "_inner",
        "_last",
        "_message",
        "_named",
        "_reader",
        "_streamed",
        "_tally",
        "_waiting",
        "label",
    )

    def __init__(
        self,
        operation: str,
        request_id: str,
        request: Mapping[str, Any],
        *,
        inner: bool = False,
        tally: Tally,
    ) -> None:
        self._message = operation == "chat" and not inner
        self._inner = inner
        self._id = request_id
        # Not the request itself: a stream may last for an hour, and a prompt be of megabytes.
        self._named, self._streamed = str(request.get("model")), request.get("stream") is True
        self._tally = tally
        self._begun = time.perf_counter()
        self._reader: AnswerReader | None = None
        self._before = self._last = b""
        self._waiting = True
        self.label: str | None = None

    def answered(self, message: Mapping[str, Any]) -> None:
        """It was answered with a whole message."""
        reader = AnswerReader()
        reader.take(message)
        self._tally.spend(self._model, reader)

    def see(self, piece: bytes) -> None:
        """Look at events that pass."""
        if self._reader is None:
            self._reader = AnswerReader()
            self._reader.feed(piece)
        else:
            self._before, self._last = self._last, piece
        if self._waiting:
            self._wait(piece)

    def _wait(self, piece: bytes) -> None:
        if _CONTENT not in piece:
            return
        self._waiting = False
        if self._message:
            figures = self._tally.figures(self._model)
            figures.first_tokens += 1
            figures.first_token_seconds += time.perf_counter() - self._begun

    def failed(self, exc: BaseException) -> None:
        """It failed before it was decided where it goes."""
        if not isinstance(exc, _GIVEN_UP):
            self._end()
            self._fail(exc)

    def __enter__(self) -> Self:
        self._tally.running += self._message
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tally.running -= self._message
        told = None if self._reader is None else self._read(self._reader)
        self._end()
        if exc is not None:
            self._fail(exc)
        elif told is not None:
            self._failed(_STATUSES.get(told, 500), told)

    def _end(self) -> None:
        if self._message:
            self._tally.figures(self._model).requests += 1

    def _read(self, reader: AnswerReader) -> str | None:
        """Read the cost of a stream; the type of the error that ended it, if one did."""
        reader.feed(self._before)
        reader.feed(self._last)
        self._tally.spend(self._model, reader)
        return reader.error

    def _fail(self, exc: BaseException) -> None:
        if not isinstance(exc, _GIVEN_UP):
            self._failed(exc.status if isinstance(exc, MessagesError) else 500, error_type_of(exc))

    def _failed(self, status: int, error: str) -> None:
        if self._inner:
            return
        self._tally.figures(self._model).failures += self._message
        self._tally.fail(self._id, self.label or self._named, status, error, self._streamed, current_batch.get())

    @property
    def _model(self) -> str:
        # Clients choose the names of models that are none.
        return self.label or NO_MODEL


def note(operation: str, request_id: str, request: Mapping[str, Any], *, inner: bool = False) -> Noted | None:
    """What counts a request in this process; None where nobody does. The arguments are those of `Noted`."""
    return Noted(operation, request_id, request, inner=inner, tally=TALLY) if TALLY.on else None
