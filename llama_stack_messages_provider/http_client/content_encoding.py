"""Compressed bodies, unpacked piece by piece: what is packed into little may be of any size.

Source: RFC 9110, section 8.4.1; RFC 8878 for zstd.
"""

import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import brotli

from llama_stack_messages_provider.http_client.failures import EncodingError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["ENCODINGS", "Decoder"]

_PIECE_BYTES = 256 * 1024
# What is left behind the end of one of several members is copied: so little of it is linear, however many there are.
_STEP_BYTES = 4096
_STEP_PIECE_BYTES = 65536
# Each member takes some microseconds to begin, however little is in it.
_MOST_STEPS = 256


class _Unpacker(Protocol):
    """What zstd's own is like."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Zlib:
    """zlib's, which gives back what it did not take."""

    def __init__(self, bits: int) -> None:
        self._zlib = zlib.decompressobj(bits)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self.needs_input = not self._zlib.unconsumed_tail and len(piece) < max_length
        return piece

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data


class _Deflate(_Zlib):
    """`deflate`, with zlib's head or, as some send it, without."""

    def __init__(self) -> None:
        super().__init__(zlib.MAX_WBITS)
        self._is_fresh = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._is_fresh and data:
            self._is_fresh = False
            if data[0] & 0x0F != zlib.DEFLATED:
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        return super().decompress(data, max_length)


class _Brotli:
    unused_data = b""
    eof = False  # what follows its end is no second member, but an error

    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece: bytes = self._brotli.process(data, output_buffer_limit=max_length)
        self.needs_input = bool(self._brotli.can_accept_more_data()) and len(piece) < max_length
        return piece


ENCODINGS: dict[str, Callable[[], _Unpacker]] = {
    "gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": zstd.ZstdDecompressor,
}
"""What can be unpacked, by the name in `content-encoding`."""


class Decoder:
    """Unpacks a body.

    Args:
        encoding: One of `ENCODINGS`.
    """

    def __init__(self, encoding: str) -> None:
        self._make = ENCODINGS[encoding]
        self._unpacker = self._make()
        self._packed = memoryview(b"")
        self._has_more = False
        self._empty_members = 0

    def feed(self, packed: bytes) -> None:
        """Packed bytes have come, after `take` gave nothing."""
        self._packed = memoryview(packed)

    def take(self) -> bytes:
        """The next piece, of some hundreds of KiB at most; empty where more packed bytes are needed.

        Raises:
            EncodingError: They are not packed in this way.
        """
        pieces, size, steps = [], 0, 0
        try:
            while (self._packed or self._has_more) and size < _PIECE_BYTES and (steps < _MOST_STEPS or not size):
                piece = self._step()
                pieces.append(piece)
                size += len(piece)
                steps += 1
        except (zlib.error, brotli.error, zstd.ZstdError, EOFError) as exc:
            raise EncodingError(str(exc)) from exc
        return b"".join(pieces)

    def _step(self) -> bytes:
        data = b""
        if self._unpacker.eof:  # gzip and zstd may be in several members
            data = self._unpacker.unused_data
            self._unpacker = self._make()
            self._empty_members += 1
            if self._empty_members > _MOST_STEPS:
                raise EncodingError("members without content")
        if not data and self._unpacker.needs_input:
            data, self._packed = bytes(self._packed[:_STEP_BYTES]), self._packed[_STEP_BYTES:]
        unpacker = self._unpacker
        piece = unpacker.decompress(data, _STEP_PIECE_BYTES)
        if piece:
            self._empty_members = 0
        self._has_more = bool(unpacker.unused_data) if unpacker.eof else not unpacker.needs_input
        return piece
