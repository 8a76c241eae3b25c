"""Names that others choose, looked up in threads of their own: a name that nobody answers for holds its thread for
long, and those of the event loop are everybody's.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

__all__ = ["Lookups"]

_AT_ONCE = 4


class Lookups:
    """The system's resolver.

    Args:
        name: What the threads are called.
    """

    def __init__(self, name: str) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, name)  # they begin when they are needed

    async def addresses_of(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host.

        Raises:
            OSError: It has none.
        """
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        """Look up no more names."""
        self._threads.shutdown(wait=False, cancel_futures=True)
