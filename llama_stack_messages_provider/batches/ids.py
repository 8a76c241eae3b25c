"""Batch ids that sort by the time of their creation: the list's cursor needs no other column."""

import re
import secrets
import threading
import time

__all__ = ["is_id", "new_batch_id"]

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: its order is the order of its bytes."""

RANDOM_BITS = 80


class _Clock:
    """Milliseconds that never repeat in this process: ids made in one millisecond keep their order."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def tick(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1_000_000)
            return self._last


_clock = _Clock()


def new_batch_id() -> str:
    """`msgbatch_` and 26 characters: 48 bits of time in milliseconds, then 80 random bits (a ULID)."""
    number = _clock.tick() << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    return "msgbatch_" + "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


def is_id(text: str) -> bool:
    """Whether a batch or a cursor may be called so: a database refuses to compare NUL or halves of surrogate pairs."""
    return _ID.fullmatch(text) is not None
