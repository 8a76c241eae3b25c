"""Bodies are unpacked as they come, in bounded pieces, whatever they are packed with and however they are cut."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.http_client.content_encoding import Decoder
from llama_stack_messages_provider.http_client.failures import EncodingError


def headless(data: bytes) -> bytes:
    """`deflate` as some send it: without zlib's head."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a head": ("deflate", headless),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstd.compress),
}


def unpacked(encoding: str, packed: bytes, cut: int) -> list[bytes]:
    decoder, pieces = Decoder(encoding), []
    for start in range(0, len(packed), cut):
        decoder.feed(packed[start : start + cut])
        while piece := decoder.take():
            pieces.append(piece)
    return pieces


@pytest.mark.parametrize("name", PACKERS)
@given(data=st.binary(max_size=3000), times=st.integers(1, 200), cut=st.integers(1, 9000))
def test_what_was_packed_comes_out(name: str, data: bytes, times: int, cut: int) -> None:
    encoding, pack = PACKERS[name]
    assert b"".join(unpacked(encoding, pack(data * times), cut)) == data * times


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@given(parts=st.lists(st.binary(max_size=200), max_size=30), cut=st.integers(1, 9000))
def test_members_follow_each_other(name: str, parts: list[bytes], cut: int) -> None:
    encoding, pack = PACKERS[name]
    assert b"".join(unpacked(encoding, b"".join(map(pack, parts)), cut)) == b"".join(parts)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_members_without_content_have_an_end(name: str) -> None:
    encoding, pack = PACKERS[name]
    assert unpacked(encoding, pack(b"") * 200 + pack(b"x"), 10**9) == [b"x"]
    with pytest.raises(EncodingError, match="without content"):
        unpacked(encoding, pack(b"") * 300, 10**9)


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("cut", [7, 10**9])
def test_a_piece_is_bounded_however_much_was_packed(name: str, cut: int) -> None:
    encoding, pack = PACKERS[name]
    pieces = unpacked(encoding, pack(b"x" * 5_000_000), cut)
    assert sum(map(len, pieces)) == 5_000_000
    assert max(map(len, pieces)) < 512 * 1024


@pytest.mark.parametrize("name", PACKERS)
def test_what_is_not_packed_like_that_is_said(name: str) -> None:
    with pytest.raises(EncodingError):
        unpacked(PACKERS[name][0], b"\xffplain text, and much of it" * 99, 10**9)
