"""Wait for a fact, with a limit.

`eventually(lambda: ...)` in sync tests, `await eventually_async(lambda: ...)` in async ones.
"""

import asyncio
import time
from collections.abc import Callable

__all__ = ["eventually", "eventually_async"]

INTERVAL_SECONDS = 0.01


def eventually[T](fact: Callable[[], T], *, within: float = 60.0, what: str = "the fact") -> T:
    """Return the first truthy value of `fact()`; fail the test after `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := fact()):
        assert time.monotonic() < deadline, f"{what} did not come true within {within} s"
        time.sleep(INTERVAL_SECONDS)
    return value


async def eventually_async[T](fact: Callable[[], T], *, within: float = 60.0, what: str = "the fact") -> T:
    """As `eventually`, without blocking the test's loop."""
    deadline = time.monotonic() + within
    while not (value := fact()):
        assert time.monotonic() < deadline, f"{what} did not come true within {within} s"
        await asyncio.sleep(INTERVAL_SECONDS)
    return value
