"""Work on large requests beside the event loop, which serves others meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

__all__ = ["Offload"]

SMALL_BYTES = 128 * 1024
"""A request up to this size is worked on at once: a few milliseconds."""

THREADS = 2


class Offload:
    """Runs pure functions of a request, a large one's in a thread.

    The interpreter hands over between threads every 5 ms, so that nobody waits for the whole. The threads are not the
    loop's own, which look up names.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    async def run[T](self, size: int, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """What the function gives.

        Args:
            size: Bytes of the request.
            function: Has no effect but its result.
            args, kwargs: Its arguments.
        """
        if size <= SMALL_BYTES:
            return function(*args, **kwargs)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="messages-large")
        work = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the threads, once they are done with what they do."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
