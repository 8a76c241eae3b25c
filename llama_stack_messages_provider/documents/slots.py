"""Places for work that takes long, shared fairly: who comes with much waits behind those who come with little."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from llama_stack_messages_provider.errors import OverloadedError

__all__ = ["FairSlots"]


class FairSlots:
    """A number of places that clients take in turn; none holds the last one when it has all others.

    Args:
        most: The places.
        waiting: How many may wait for one.
    """

    def __init__(self, most: int, waiting: int) -> None:
        self._most_each = max(1, most - 1)
        self._free = most
        self._room = waiting
        self._held: Counter[Hashable] = Counter()
        self._queues: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, client: Hashable | None = None) -> AsyncIterator[None]:
        """A place of a client's; without a name, whoever asks is a client of its own.

        Raises:
            OverloadedError: Too many wait already.
        """
        client = object() if client is None else client
        if self._may_take(client):
            self._take(client)
        else:
            await self._wait(client)
        try:
            yield
        finally:
            self._give_back(client)

    def _may_take(self, client: Hashable) -> bool:
        return self._free > 0 and self._held[client] < self._most_each

    def _take(self, client: Hashable) -> None:
        self._free -= 1
        self._held[client] += 1

    async def _wait(self, client: Hashable) -> None:
        if not self._room:
            self._forget_idle(client)
            raise OverloadedError("Too many requests wait for their documents to be read; try again shortly")
        turn = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(client, deque())
        queue.append(turn)
        self._room -= 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                queue.remove(turn)
                self._room += 1
                self._forget_idle(client)
            else:  # its turn came in the moment it left
                self._give_back(client)
            raise

    def _give_back(self, client: Hashable) -> None:
        self._free += 1
        self._held[client] -= 1
        self._forget_idle(client)
        self._next_turn()

    def _next_turn(self) -> None:
        """Give free places to those who wait, client by client."""
        for client in list(self._queues):
            if self._free and self._may_take(client):
                queue = self._queues[client]
                self._queues.move_to_end(client)
                self._room += 1
                self._take(client)
                queue.popleft().set_result(None)
                self._forget_idle(client)

    def _forget_idle(self, client: Hashable) -> None:
        if not self._held[client]:
            del self._held[client]
        if client in self._queues and not self._queues[client]:
            del self._queues[client]
