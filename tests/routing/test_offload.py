"""Large requests are worked on beside the event loop."""

import threading

from llama_stack_messages_provider.routing.offload import SMALL_BYTES, Offload


async def test_a_small_request_is_worked_on_at_once() -> None:
    offload = Offload()
    assert await offload.run(SMALL_BYTES, threading.get_ident) == threading.get_ident()
    offload.close()


async def test_a_large_request_has_a_thread_of_its_own() -> None:
    offload = Offload()
    assert await offload.run(SMALL_BYTES + 1, threading.get_ident) != threading.get_ident()
    offload.close()
    assert await offload.run(SMALL_BYTES + 1, sorted, [2, 1], reverse=True) == [2, 1]
    offload.close()
