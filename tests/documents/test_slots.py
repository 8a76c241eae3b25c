"""Fair shares: laws, over whatever order clients come, leave and finish in."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_stack_messages_provider.documents.slots import FairSlots
from llama_stack_messages_provider.errors import OverloadedError

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abc")),
        st.tuples(st.sampled_from(["finish", "leave"]), st.integers(0, 20)),
    ),
    max_size=40,
)


@given(st.integers(1, 4), st.integers(0, 5), STEPS)
def test_places_are_shared(most: int, room: int, steps: list[tuple[str, str | int]]) -> None:
    asyncio.run(_shared(most, room, steps))


async def _shared(most: int, room: int, steps: list[tuple[str, str | int]]) -> None:
    slots, held, waiting = FairSlots(most, room), Counter[str](), Counter[str]()
    running: list[tuple[asyncio.Task[None], asyncio.Event]] = []

    async def work(client: str, done: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            waiting[client] += 1
            try:
                await stack.enter_async_context(slots.slot(client))
            finally:
                waiting[client] -= 1
            held[client] += 1
            try:
                await done.wait()
            finally:
                held[client] -= 1

    for step, which in steps:
        if isinstance(which, str):
            done = asyncio.Event()
            running.append((asyncio.create_task(work(which, done)), done))
        elif running:
            task, done = running[which % len(running)]
            done.set() if step == "finish" else task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        each = max(1, most - 1)
        assert held.total() <= most
        assert all(count <= each for count in held.values())
        assert waiting.total() <= room
        # Nobody waits who could be served.
        assert held.total() == most or all(held[client] == each for client, count in waiting.items() if count)
    for _, done in running:
        done.set()
    ended = await asyncio.gather(*(task for task, _ in running), return_exceptions=True)
    assert all(end is None or isinstance(end, OverloadedError | asyncio.CancelledError) for end in ended)
    assert (slots._held, slots._queues) == ({}, {})  # nothing is kept of clients that were here
    assert (slots._free, slots._room) == (most, room)


async def test_who_has_no_name_is_a_client_of_its_own() -> None:
    slots = FairSlots(2, 0)
    async with slots.slot(), slots.slot():
        with pytest.raises(OverloadedError):
            async with slots.slot():
                pass


async def test_clients_take_turns() -> None:
    slots, order = FairSlots(2, 10), list[str]()

    async def work(client: str) -> None:
        async with slots.slot(client):
            order.append(client)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(client) for client in "aaaabc"))
    assert order.index("c") < 4
