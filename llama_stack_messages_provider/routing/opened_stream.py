"""Streams that have begun: until its first piece is there, a stream is refused as a whole answer is."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

__all__ = ["OpenedStream", "opened", "pieces_of"]


@dataclass(frozen=True, slots=True)
class OpenedStream:
    """A stream whose upstream has taken the request.

    Args:
        first: Its first piece.
        rest: The pieces after it, to be closed by whoever reads them.
    """

    first: bytes
    rest: AsyncGenerator[bytes]


async def opened(pieces: AsyncGenerator[bytes]) -> OpenedStream:
    """A stream with its first piece there; raises what comes instead of it."""
    return OpenedStream(await anext(pieces, b""), pieces)


async def pieces_of(stream: OpenedStream) -> AsyncGenerator[bytes]:
    """All pieces of a stream."""
    piece, rest = stream.first, stream.rest
    del stream  # a stream may last for an hour
    async with aclosing(rest):
        yield piece
        async for piece in rest:
            yield piece
