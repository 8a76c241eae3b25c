"""Events of a stream that are looked at as they pass."""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from llama_stack_messages_provider.telemetry.answers import AnswerReader
from llama_stack_messages_provider.telemetry.operation import CANCELLED, error_type_of

__all__ = ["WatchedEvents"]


class _Fed(Protocol):
    def __call__(self, *, first: bool, content: bool) -> None: ...


class _End(Protocol):
    def __call__(self, error: str | None) -> None: ...


class WatchedEvents(AsyncGenerator[bytes]):
    """Events as they are, and what is told of them; also of a stream that nobody begins to read.

    Args:
        pieces: The events.
        reader: Reads them.
        fed: Is told of the first event and of the first content.
        end: Is told the end, with the type of an error.
    """

    def __init__(self, pieces: AsyncGenerator[bytes], reader: AnswerReader, fed: _Fed, end: _End) -> None:
        self._pieces = pieces
        self._reader = reader
        self._fed = fed
        self._end = end
        self._first = True

    def saw(self, piece: bytes) -> None:
        """Look at events."""
        before = self._reader.begun
        self._reader.feed(piece)
        content = self._reader.begun and not before
        if self._first or content:
            self._fed(first=self._first, content=content)
            self._first = False

    async def asend(self, value: None) -> bytes:
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._end(self._reader.error)
            raise
        except BaseException as exc:
            self._end(error_type_of(exc))
            raise
        self.saw(piece)
        return piece

    async def athrow(self, *args: Any) -> bytes:
        return await self._pieces.athrow(*args)

    async def aclose(self) -> None:
        try:
            await self._pieces.aclose()
        finally:
            self._end(self._reader.error or (None if self._reader.over else CANCELLED))
