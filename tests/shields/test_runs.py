"""Shields at work: what counts, what is remembered, and that nobody is left at work for a client that has gone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from llama_stack_api import RunShieldRequest, RunShieldResponse, SafetyViolation, ViolationLevel

from llama_stack_messages_provider.shields.config import ShieldsConfig
from llama_stack_messages_provider.shields.runs import AT_ONCE, Flagged, NotJudgedError, Shields, Side

type Answer = Callable[[RunShieldRequest], Awaitable[RunShieldResponse]]


async def by_words(request: RunShieldRequest) -> RunShieldResponse:
    text = str(request.messages[0].content)
    level = next((level for level in reversed(ViolationLevel) if level.value in text), None)
    if level is None:
        return RunShieldResponse(violation=None)
    metadata = {"violation_type": "words"}
    return RunShieldResponse(violation=SafetyViolation(violation_level=level, user_message="No.", metadata=metadata))


@dataclass
class Safety:
    """As the host's safety API: a router with a table, and one provider."""

    answer: Answer = by_words
    known: tuple[str, ...] = ("a", "b")
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    @property
    def routing_table(self) -> "Safety":
        return self

    async def list_shields(self) -> Any:
        return SimpleNamespace(data=[SimpleNamespace(identifier=name) for name in self.known])

    async def get_provider_impl(self, shield_id: str) -> "Safety":
        if shield_id not in self.known:
            raise ValueError(f"Shield `{shield_id}` not served by provider: `safety`.")
        return self

    async def run_shield(self, request: RunShieldRequest) -> RunShieldResponse:
        [message] = request.messages
        self.asked.append((request.shield_id, message.role, str(message.content)))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.answer(request)
        finally:
            self.running -= 1


async def judge(
    shields: Shields, *texts: str, by: tuple[str, ...] = ("a",), side: Side = "input", unjudged: Any = None
) -> Flagged | None:
    digests = [text.encode() for text in texts] if side == "input" else []
    return await shields.judge(side, by, texts, digests, [] if unjudged is None else unjudged, None)


def shields_of(safety: Safety, **settings: Any) -> Shields:
    return Shields(ShieldsConfig(input=["a"], **settings), safety)


@pytest.mark.parametrize(("text", "flags"), [("info", False), ("warn", False), ("error", True), ("fine", False)])
async def test_only_an_error_is_flagged(text: str, flags: bool) -> None:
    flagged = await judge(shields_of(Safety()), "fine", text)
    assert (flagged is not None) == flags
    if flagged is not None:
        assert (flagged.shield, flagged.side, flagged.place) == ("a", "input", 1)
        assert flagged.details["explanation"] == "The input was flagged by the shield a: No."


async def test_each_text_is_the_only_message_and_has_the_role_of_who_said_it() -> None:
    safety = Safety()
    shields = shields_of(safety)
    await judge(shields, "one", "two", by=("a", "b"))
    await judge(shields, "three", side="output")
    assert sorted(safety.asked) == [
        ("a", "assistant", "three"),
        ("a", "user", "one"),
        ("a", "user", "two"),
        ("b", "user", "one"),
        ("b", "user", "two"),
    ]


async def test_what_passed_is_remembered_for_its_shield_and_what_was_flagged_is_not() -> None:
    safety = Safety()
    shields = shields_of(safety)
    for _ in range(2):
        await judge(shields, "one", "error")
    assert [text for _, _, text in safety.asked] == ["one", "error", "error"]
    await judge(shields, "one", by=("b",))
    assert safety.asked[-1] == ("b", "user", "one")
    for _ in range(2):
        await judge(shields, "one", side="output")
    assert [role for _, role, _ in safety.asked].count("assistant") == 2


async def test_texts_of_blanks_are_none() -> None:
    safety = Safety()
    assert await judge(shields_of(safety), "", " \n") is None
    assert safety.asked == []


async def fails(request: RunShieldRequest) -> RunShieldResponse:
    raise RuntimeError(f"a secret: {request.messages[0].content}")


async def hangs(request: RunShieldRequest) -> RunShieldResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def gives_up(request: RunShieldRequest) -> RunShieldResponse:
    raise asyncio.CancelledError


async def is_odd(request: RunShieldRequest) -> Any:
    return None


@pytest.mark.parametrize(
    ("answer", "by", "reason"),
    [
        (fails, "a", "error"),
        (gives_up, "a", "error"),
        (is_odd, "a", "error"),
        (hangs, "a", "timeout"),
        (by_words, "nowhere", "unknown"),
    ],
)
async def test_what_cannot_be_judged_is_refused_or_named(answer: Answer, by: str, reason: str) -> None:
    strict = shields_of(Safety(answer), seconds=0.1)
    with pytest.raises(NotJudgedError, match=f"the shield {by} "):
        await judge(strict, "one", by=(by,))
    unjudged: list[str] = []
    lenient = shields_of(Safety(answer), seconds=0.1, when_down="pass")
    for _ in range(2):
        assert await judge(lenient, "one", by=(by,), unjudged=unjudged) is None
    assert unjudged == [f"input.{by} ({reason})"]


async def test_a_stack_that_cannot_say_what_shields_it_has_cannot_judge_either() -> None:
    class Lost(Safety):
        async def list_shields(self) -> Any:
            raise OSError

    with pytest.raises(NotJudgedError, match="the shield a failed"):
        await judge(shields_of(Lost(fails)), "one")
    unjudged: list[str] = []
    assert await judge(shields_of(Lost(fails), when_down="pass"), "one", unjudged=unjudged) is None
    assert unjudged == ["input.a (error)"]


async def test_the_words_of_a_failure_are_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(NotJudgedError):
        await judge(shields_of(Safety(fails)), "one")
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "RuntimeError" in told
    assert "a secret" not in told


async def test_what_one_shield_flags_counts_though_another_is_down() -> None:
    async def half(request: RunShieldRequest) -> RunShieldResponse:
        return await (fails if request.shield_id == "a" else by_words)(request)

    for when_down in ("pass", "refuse"):
        flagged = await judge(shields_of(Safety(half), when_down=when_down), "error", by=("a", "b"))
        assert flagged is not None
        assert flagged.shield == "b"


async def test_of_several_the_first_that_is_flagged_counts() -> None:
    flagged = await judge(shields_of(Safety()), "one", "error 1", "error 2", side="output")
    assert flagged is not None
    assert flagged.place == 1


async def test_a_long_conversation_gets_through_when_it_is_sent_again() -> None:
    safety = Safety()
    shields = shields_of(safety, parts=2)
    texts = ["one", "two", "three", "four", "five"]
    for judged in (2, 4):
        with pytest.raises(NotJudgedError, match="more text than is read"):
            await judge(shields, *texts, by=("a", "b"))
        assert len(safety.asked) == 2 * judged
    assert await judge(shields, *texts, by=("a", "b")) is None
    assert len(safety.asked) == 10


async def test_what_is_flagged_among_more_texts_than_parts_is_refused_for_that() -> None:
    flagged = await judge(shields_of(Safety(), parts=2), "one", "error", "three")
    assert flagged is not None


async def test_an_answer_of_more_parts_than_are_read_is_not_judged() -> None:
    safety = Safety()
    with pytest.raises(NotJudgedError, match="more text than is read"):
        await judge(shields_of(safety, parts=2), "one", "two", "three", side="output")
    assert safety.asked == []


async def test_a_text_that_is_there_several_times_is_judged_once() -> None:
    safety = Safety()
    await judge(shields_of(safety, parts=2), "one", "one", "two", "one", by=("a", "b"))
    assert [text for _, _, text in safety.asked].count("one") == 2
    assert len(safety.asked) == 4


async def test_no_more_texts_are_judged_at_once_than_are_allowed() -> None:
    async def slow(request: RunShieldRequest) -> RunShieldResponse:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await by_words(request)

    safety = Safety(slow)
    await judge(shields_of(safety), *(f"text {n}" for n in range(50)))
    assert safety.most == AT_ONCE


async def test_nobody_is_at_work_for_a_client_that_has_gone() -> None:
    safety = Safety(hangs)
    task = asyncio.create_task(judge(shields_of(safety), "one", "two"))
    while len(safety.asked) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert safety.running == 0


async def test_shields_that_are_not_there_are_named_with_the_nearest() -> None:
    safety = Safety(known=("llama-guard", "scanner"))
    config = ShieldsConfig(input=["lama-guard"], output=["scanner"], rules=[{"models": "x", "output": ["zzz"]}])
    wrong, lost = await Shields(config, safety).problems()
    assert (wrong.what, wrong.remedy) == (
        "shields.input names lama-guard: there is no such shield",
        "The nearest are llama-guard.",
    )
    assert lost.what == "shields.rules.0.output names zzz: there is no such shield"
    assert lost.remedy == "Register it under `registered_resources`."
    assert wrong.severity == "error"


def test_shields_need_a_safety_api() -> None:
    with pytest.raises(ValueError, match="no safety API"):
        Shields(ShieldsConfig(input=["a"]), None)
