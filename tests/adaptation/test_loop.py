"""One loop, and what it remembers: only what helped, of its model, for a time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from llama_stack_messages_provider.adaptation.adaptations import adaptations_for
from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.changes import CapMaxTokens, DropParameter, MergeSystem, RenameParameter
from llama_stack_messages_provider.adaptation.loop import Adapter
from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.adaptation.refusals import read_refusal
from llama_stack_messages_provider.adaptation.upstream_errors import from_status
from llama_stack_messages_provider.errors import MessagesError, UpstreamError

type Json = dict[str, Any]

SCOPE = ("http://a", "m")


@dataclass
class Draft:
    params: Json
    dropped: list[str] = field(default_factory=list)
    strict: bool = False
    max_tokens: int | None = 100


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drafted(**params: Any) -> Draft:
    return Draft({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, **params})


def refusing(*names: str) -> Callable[[Json], str | None]:
    """An upstream that knows none of these, and complains of one at a time."""

    def complaint(params: Json) -> str | None:
        found = next((name for name in names if name in params), None)
        return f"Unsupported parameter: '{found}'" if found else None

    return complaint


async def run(
    memory: AdaptationMemory,
    draft: Draft,
    complaint: Callable[[Json], str | None],
    rebuild: Callable[[tuple[Change, ...]], Awaitable[None]] | None = None,
) -> int:
    """How often was it sent."""
    sent = 0

    async def attempt() -> int:
        nonlocal sent
        sent += 1
        if said := complaint(draft.params):
            raise from_status(400, {}, {"error": {"message": said}})
        return sent

    return await Adapter(memory, SCOPE, adaptations_for, rebuild).run(draft, attempt)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> AdaptationMemory:
    return AdaptationMemory(60, clock)


async def test_a_change_is_remembered_once_the_changed_request_was_taken(memory: AdaptationMemory) -> None:
    draft = drafted(top_k=4)

    assert await run(memory, draft, refusing("top_k")) == 2
    assert draft.dropped == ["top_k"]
    assert memory.changes(SCOPE) == (DropParameter("top_k"),)
    assert memory.changes(("http://a", "another")) == ()
    assert memory.changes(("http://b", "m")) == ()


async def test_a_change_that_did_not_help_is_not_remembered(memory: AdaptationMemory) -> None:
    with pytest.raises(MessagesError):
        await run(memory, drafted(top_k=4), lambda params: "Unsupported parameter: 'top_k'")

    assert memory.changes(SCOPE) == ()


async def test_a_change_that_the_same_words_follow_is_not_remembered(memory: AdaptationMemory) -> None:
    """The second change was the right one."""
    draft = drafted(messages=[{"role": r, "content": "x"} for r in ("user", "system", "tool", "user")])

    def complaint(params: Json) -> str | None:
        bridged = any(message["content"] == "Understood." for message in params["messages"])
        return None if bridged else "conversation roles must alternate"

    async def rebuild(changes: tuple[Change, ...]) -> None:
        pass

    assert await run(memory, draft, complaint, rebuild) == 3
    assert [type(change).__name__ for change in memory.changes(SCOPE)] == ["InsertAssistantTurn"]


async def test_a_server_that_refuses_one_at_a_time_is_answered_in_one_request(memory: AdaptationMemory) -> None:
    names = ("temperature", "top_p", "top_k", "user", "parallel_tool_calls", "reasoning_effort", "stop")

    assert await run(memory, drafted(**dict.fromkeys(names, 1)), refusing(*names)) == len(names) + 1


async def test_each_round_changes_something_that_was_not_changed_before(memory: AdaptationMemory) -> None:
    """An upstream that wants now this name and now that one is not asked for ever."""
    sent = 0

    def complaint(params: Json) -> str | None:
        nonlocal sent
        sent += 1
        name = next(name for name in ("max_tokens", "max_completion_tokens") if name in params)
        return f"Unsupported parameter: '{name}'"

    with pytest.raises(MessagesError):
        await run(memory, drafted(), complaint)
    assert sent == 3


async def test_strict_requests_lose_nothing(memory: AdaptationMemory) -> None:
    draft = drafted(top_k=4)
    draft.strict = True

    with pytest.raises(MessagesError, match="top_k"):
        await run(memory, draft, refusing("top_k"))
    assert draft.params["top_k"] == 4


async def test_failures_are_no_refusals(memory: AdaptationMemory) -> None:
    async def attempt() -> int:
        raise UpstreamError("Unsupported parameter: 'top_k'")

    with pytest.raises(UpstreamError):
        await Adapter(memory, SCOPE, adaptations_for).run(drafted(top_k=4), attempt)


async def test_a_limit_of_the_window_is_for_this_prompt_and_one_of_the_model_for_all(memory: AdaptationMemory) -> None:
    draft = drafted()

    def complaint(params: Json) -> str | None:
        return "max_tokens must be at most 40" if params["max_tokens"] > 40 else None

    await run(memory, draft, complaint)
    assert draft.max_tokens == draft.params["max_tokens"] == 40
    assert memory.changes(SCOPE) == (CapMaxTokens(40, of_model=True),)
    assert not CapMaxTokens(40).lasting


async def test_a_refusal_that_contradicts_what_was_learned_takes_it_back(memory: AdaptationMemory) -> None:
    memory.confirm(SCOPE, DropParameter("reasoning_content"), read_refusal(400, "x"))
    memory.confirm(SCOPE, RenameParameter("max_tokens", "max_completion_tokens"), read_refusal(400, "x"))
    memory.confirm(SCOPE, MergeSystem(), read_refusal(400, "x"))
    missing = read_refusal(400, "The `reasoning_content` in the thinking mode must be passed back to the API.")
    renamed = read_refusal(400, "Unrecognized request argument supplied: max_completion_tokens")

    assert memory.take_back(SCOPE, missing)
    assert not memory.take_back(SCOPE, missing)
    assert memory.take_back(SCOPE, renamed)
    assert memory.changes(SCOPE) == (MergeSystem(),)


async def test_what_was_taken_back_is_in_the_next_try(memory: AdaptationMemory) -> None:
    memory.confirm(SCOPE, DropParameter("reasoning_content"), read_refusal(400, "x"))
    whole = [{"role": "assistant", "content": "x", "reasoning_content": "hm"}, {"role": "user", "content": "Hi"}]
    draft = drafted(messages=[{**whole[0], "reasoning_content": ""}, whole[1]])

    async def rebuild(changes: tuple[Change, ...]) -> None:
        draft.params = {**draft.params, "messages": whole}

    def complaint(params: Json) -> str | None:
        there = params["messages"][0].get("reasoning_content")
        return None if there else "The `reasoning_content` in the thinking mode must be passed back to the API."

    assert await run(memory, draft, complaint, rebuild) == 2
    assert draft.params["messages"] == whole


def test_memory_ends_and_is_bounded(memory: AdaptationMemory, clock: Clock) -> None:
    said = read_refusal(400, "Unsupported parameter: 'top_k'")
    memory.confirm(SCOPE, DropParameter("top_k"), said)
    clock.now = 59
    memory.confirm(SCOPE, DropParameter("top_p"), said)
    assert len(memory.changes(SCOPE)) == 2
    clock.now = 61
    assert memory.changes(SCOPE) == (DropParameter("top_p"),)
    for n in range(100):
        memory.confirm(SCOPE, DropParameter(f"p{n}"), said)
    assert len(memory.changes(SCOPE)) == 32
    for n in range(2000):
        memory.confirm(("http://a", str(n)), DropParameter("top_k"), said)
    assert len(list(memory)) <= 1024 + 32
    clock.now = 1000
    assert list(memory) == []


def test_memory_says_what_when_and_from_which_words(memory: AdaptationMemory, clock: Clock) -> None:
    memory.confirm(SCOPE, DropParameter("top_k"), read_refusal(400, "Unsupported parameter: 'top_k'" + "!" * 9000))
    clock.now = 5

    (line,) = memory.report()

    assert (line["upstream"], line["model"], line["seconds_ago"]) == ("http://a", "m", 5)
    assert "top_k" in line["change"]
    assert line["words"].startswith("Unsupported parameter: 'top_k'!")
    assert len(line["words"]) == 300
