"""JSON as upstreams send it: halves of a surrogate pair and bytes that are no UTF-8 do not break a stream.

Engines cut texts where their tokens end, which may be within a character: its bytes then come as U+FFFD or raw, its
UTF-16 halves as escapes of two events.
"""

import re
from typing import Any

import orjson

__all__ = ["JSONReader", "read_json", "read_leniently"]

_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# An escaped backslash and a whole pair are named by no group.
_HALVES = re.compile(rb"\\\\|%b%b|(?P<high>%b)|(?P<low>%b)" % (_HIGH, _LOW, _HIGH, _LOW))


def read_json(data: bytes) -> Any:
    """The value; a half of a pair, and what is not UTF-8, is U+FFFD.

    Raises:
        ValueError: It is not JSON.
    """
    return JSONReader().read(data)


def read_leniently(data: bytes) -> tuple[Any, bool]:
    """The value as `read_json` gives it, and whether any client can read the bytes as they are.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return orjson.loads(data), True
    except orjson.JSONDecodeError:
        return read_json(data), False


class JSONReader:
    """Reads the values of one stream, in which the halves of a pair may come in two of them."""

    __slots__ = ("_high",)

    def __init__(self) -> None:
        self._high = b""

    def read(self, data: bytes) -> Any:
        """The next value.

        Raises:
            ValueError: It is not JSON.
        """
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            return orjson.loads(self._mended(data))

    def _mended(self, data: bytes) -> bytes:
        """The same with whole pairs only: a first half at the end of a text waits for the second, which gets it."""
        data = data.decode("utf-8-sig", errors="replace").encode()
        waiting, self._high = self._high, b""
        out = bytearray()
        at = 0
        for found in _HALVES.finditer(data):
            if found.lastgroup is None:
                continue
            out += data[at : found.start()]
            at = found.end()
            if found.lastgroup == "high" and data[at : at + 1] == b'"' and not self._high:
                self._high = found[0]
            elif found.lastgroup == "low" and waiting:
                out += waiting + found[0]
                waiting = b""
            else:
                out += b"\\ufffd"
        return bytes(out + data[at:])
