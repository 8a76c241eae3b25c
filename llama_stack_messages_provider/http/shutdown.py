"""A shutdown that ends: nothing new begins, what runs has some seconds, and nobody is waited for after that."""

import asyncio
from collections.abc import Callable

from llama_stack_messages_provider.errors import OverloadedError

__all__ = ["Shutdown", "shutting_down"]

_LAST_WORDS_SECONDS = 1.0


def shutting_down() -> OverloadedError:
    """What a client is told, as a status or in its stream; another process may take the request at once."""
    return OverloadedError("The server is shutting down", status=503, headers={"connection": "close"})


class Shutdown:
    """Requests in flight, and the end of them.

    Args:
        seconds: How long requests may go on once the shutdown has begun.
        abort: Drops every connection, a second later: of those who do not read what they are told.
    """

    KEY = "messages_shutdown"
    """Its place in a scope's `state`."""

    def __init__(self, seconds: float, abort: Callable[[], None] = lambda: None) -> None:
        self._seconds = seconds
        self._abort = abort
        self._requests: set[asyncio.Task[None]] = set()
        self._calls: list[Callable[[], None]] = []
        self.begun = False
        """Nothing new is to begin."""
        self.over = False
        """What still runs is being ended."""

    def begin(self) -> None:
        """From now on requests are refused; called in the loop that serves."""
        if not self.begun:
            self.begun = True
            asyncio.get_running_loop().call_later(self._seconds, self._end)
            for call in self._calls:
                call()

    def on_begin(self, call: Callable[[], None]) -> None:
        """Call back when the shutdown begins, in the loop that serves."""
        self._calls.append(call)

    def enter(self) -> asyncio.Task[None]:
        """The current task answers a request: when its time is over, it is cancelled."""
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        return task

    def leave(self, task: asyncio.Task[None]) -> None:
        """It has answered."""
        self._requests.discard(task)

    def _end(self) -> None:
        self.over = True
        for task in self._requests:
            task.cancel()
        asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self._abort)
