"""Large requests are worked on beside the event loop."""

import asyncio
import threading
from typing import Any

import pytest

from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.changes import ShortIds
from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.engines import Kind
from llama_stack_messages_provider.routing.offload import SMALL_BYTES, Offload
from llama_stack_messages_provider.routing.plan import TranslationPlan
from llama_stack_messages_provider.routing.probe import Capability
from llama_stack_messages_provider.routing.state import RouteState
from llama_stack_messages_provider.routing.translated_route import TranslatedRoute
from llama_stack_messages_provider.translation.request import TranslationOptions
from llama_stack_messages_provider.upstream.body import Timeouts
from llama_stack_messages_provider.upstream.chat_completions import ChatCompletions
from llama_stack_messages_provider.upstream.sessions import Sessions
from llama_stack_messages_provider.upstream.target import Target
from llama_stack_messages_provider.upstream.token_counts import TokenCounter
from tests.support.steps import steps
from tests.translation.helpers import assistant, tool_use


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


@pytest.mark.parametrize("learned", [(), (ShortIds(),)], ids=["nothing is known", "its model wants short ids"])
def test_an_estimate_costs_the_loop_the_same_whatever_the_length(learned: tuple[Change, ...]) -> None:
    target = Target("chat/m", "chat", provider=None, upstream_model="m", metadata={})
    plan = TranslationPlan(target, "", Capability("no", False, "generic", ""), endpoint=None)
    memory = AdaptationMemory(3600, clock=lambda: 0.0)
    for change in learned:
        memory.confirm(plan.scope, change, Refusal(Kind.IDS, ""))
    sessions, timeouts, offload = Sessions(), Timeouts(1, 1, 1), Offload()
    completions = ChatCompletions(None, sessions, timeouts, store=False)
    counter = TokenCounter(sessions, timeouts)
    route = TranslatedRoute(completions, counter, b"key", TranslationOptions(), "auto", memory, offload)

    def count(turns: int) -> None:
        request: dict[str, Any] = {
            "model": "chat/m",
            "messages": [assistant(tool_use(f"toolu_{n}")) for n in range(turns)],
        }
        state = RouteState(plan, {}, strict=False, size=SMALL_BYTES + 1)
        counted = asyncio.run(route.count(request, state))
        assert (counted.source, counted.tokens > turns) == ("estimate", True)

    count(2)  # what is made at the first use
    assert steps(lambda: count(1000)) < steps(lambda: count(10)) + 10
    offload.close()
