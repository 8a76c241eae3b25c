"""Advice of another model: what it is asked, what comes of it, and what it costs."""

import asyncio
from typing import Any

import pytest
from anthropic.types.beta import BetaAdvisorMessageIterationUsage, BetaAdvisorToolResultBlock

from llama_stack_messages_provider.config import AdvisorConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import (
    ApiError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    UpstreamTimeoutError,
)
from llama_stack_messages_provider.server_tools.advisor import Advisor, advice_request
from llama_stack_messages_provider.server_tools.loop import Loop, complete_message
from llama_stack_messages_provider.server_tools.plain import plain_turns
from tests.server_tools.helpers import opened
from tests.server_tools.test_loop import Route, answer
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_result, tool_use, user

TOOL: Json = {"type": "advisor_20260301", "name": "advisor", "model": "wise"}
REQUEST: Json = {
    "model": "m",
    "max_tokens": 100,
    "temperature": 0.3,
    "thinking": {"type": "adaptive"},
    "system": "Be brief.",
    "messages": [user("Build it.")],
    "tools": [TOOL, tool("look")],
}
USAGE: Json = {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 2}


class Wise:
    """A model that is asked for advice."""

    def __init__(self, *content: Json, stop_reason: str = "end_turn", error: Exception | None = None) -> None:
        self._answer = {"content": [*content], "stop_reason": stop_reason, "usage": USAGE}
        self._error = error
        self.asked: list[Json] = []

    async def __call__(self, request: Json) -> Json:
        self.asked.append(request)
        if self._error is not None:
            raise self._error
        return self._answer


async def advised(wise: Any, request: Json = REQUEST, calls: int = 1, **tool_: Any) -> tuple[Json, Route]:
    request = {**request, "tools": [{**TOOL, **tool_}, *request["tools"][1:]]}
    plain, tools = await opened(request, ask=wise)
    first = answer(text("Hm."), *(tool_use(f"c{n}", "advisor") for n in range(calls)))
    route = Route(first, answer(text("Done.")))
    return await complete_message(Loop(plain, tools, "msg_1", max_calls=3), route.complete), route


async def test_advice_is_a_block_and_what_it_cost_stands_beside_the_calls() -> None:
    wise = Wise({"type": "thinking", "thinking": "x", "signature": "s"}, text("Test first."))
    message, route = await advised(wise)
    called, given = message["content"][1:3]
    assert (called["type"], called["name"], called["input"]) == ("server_tool_use", "advisor", {})
    BetaAdvisorToolResultBlock.model_validate(given)
    assert given["content"] == {"type": "advisor_result", "text": "Test first.", "stop_reason": "end_turn"}
    assert [each["type"] for each in message["usage"]["iterations"]] == ["message", "advisor_message", "message"]
    cost = BetaAdvisorMessageIterationUsage.model_validate(message["usage"]["iterations"][1])
    assert (cost.model, cost.input_tokens, cost.output_tokens, cost.cache_read_input_tokens) == ("wise", 7, 3, 2)
    assert message["usage"]["output_tokens"] == 60  # the model's own
    assert route.requests[1]["messages"][-1]["content"][0]["content"] == "Test first."


async def test_the_advisor_reads_the_conversation_and_may_call_nothing() -> None:
    wise = Wise(text("So."))
    thought = {"type": "thinking", "thinking": "x", "signature": "s"}
    turns = [
        user("Build it."),
        assistant(thought),
        assistant(thought, tool_use("t", "look")),
        user(tool_result("t", "x")),
    ]
    await advised(wise, {**REQUEST, "messages": turns}, max_tokens=50)
    [asked] = wise.asked
    assert asked.keys() == {"model", "max_tokens", "messages", "system", "tools", "tool_choice"}
    assert (asked["model"], asked["max_tokens"], asked["tool_choice"]) == ("wise", 50, {"type": "none"})
    assert [each["name"] for each in asked["tools"]] == ["advisor", "look"]
    assert all("type" not in each for each in asked["tools"])
    assert [each["role"] for each in asked["messages"]] == ["user", "assistant", "user"]
    assert asked["messages"][1] == assistant(tool_use("t", "look"))
    assert asked["messages"][2]["content"][0] == tool_result("t", "x")
    assert "advice" in asked["messages"][2]["content"][1]["text"]


def test_advice_is_asked_for_after_a_turn_that_was_begun() -> None:
    asked = advice_request({"messages": [user("Hi"), assistant(text("I"))]}, "wise", 9)
    assert [each["role"] for each in asked["messages"]] == ["user", "assistant", "user"]
    assert asked.keys() == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError(), "model_not_found"),
        (PermissionDeniedError(), "model_not_found"),
        (RateLimitError(), "too_many_requests"),
        (OverloadedError(), "overloaded"),
        (UpstreamTimeoutError(), "execution_time_exceeded"),
        (InvalidRequestError("prompt is too long: 9 tokens > 8 maximum"), "prompt_too_long"),
        (InvalidRequestError("tools: no"), "unavailable"),
        (ApiError(), "unavailable"),
        (RuntimeError(), "unavailable"),
    ],
)
async def test_a_failure_is_an_error_code_and_the_message_goes_on(error: Exception, code: str) -> None:
    message, route = await advised(Wise(error=error))
    BetaAdvisorToolResultBlock.model_validate(message["content"][2])
    assert message["content"][2]["content"]["error_code"] == code
    assert message["stop_reason"] == "end_turn"
    assert route.requests[1]["messages"][-1]["content"][0]["is_error"] is True


async def test_an_advisor_that_says_nothing_or_takes_too_long_is_an_error() -> None:
    message, _ = await advised(Wise(tool_use("t", "look")))
    assert message["content"][2]["content"]["error_code"] == "unavailable"

    async def forever(request: Json) -> Json:
        await asyncio.Event().wait()
        return {}

    kind = Advisor(AdvisorConfig(seconds=0.01))
    assert not await kind.available()
    kind.ask = forever
    tool_ = await kind.open(TOOL, "tools.0", DroppedFields())
    result = await tool_.run({"id": "srvtoolu_1", "input": {}}, {"messages": [user("Hi")]})
    assert result["content"]["error_code"] == "execution_time_exceeded"


async def test_no_more_advice_than_the_client_allows() -> None:
    wise = Wise(text("So."))
    message, _ = await advised(wise, calls=3, max_uses=2)
    codes = [block["content"].get("error_code") for block in message["content"] if "tool_use_id" in block]
    assert codes == [None, None, "max_uses_exceeded"]
    assert len(wise.asked) == 2


async def test_advice_that_was_cut_off_says_so_and_a_sealed_one_is_named() -> None:
    _, tools = await opened(REQUEST)
    dropped = DroppedFields()
    for content, told in (
        ({"type": "advisor_result", "text": "Test", "stop_reason": "max_tokens"}, "Test\n\n[The advice was cut off"),
        ({"type": "advisor_result", "text": "Test"}, "Test"),
        ({"type": "advisor_redacted_result", "encrypted_content": "x"}, "cannot be read"),
        ({"type": "advisor_tool_result_error", "error_code": "overloaded"}, "overloaded"),
    ):
        call = {"type": "server_tool_use", "id": "s", "name": "advisor", "input": {}}
        result = {"type": "advisor_tool_result", "tool_use_id": "s", "content": content}
        turns = plain_turns(assistant(call, result), "messages.1.content", tools, dropped)
        assert told in turns[1]["content"][0]["content"]
    assert dropped.names == ["messages.1.content.1.content"]


async def test_a_definition_that_is_not_as_documented_is_refused() -> None:
    for wrong in ({"model": 3}, {"max_uses": "x"}):
        with pytest.raises(InvalidRequestError, match=r"^tools\.0\."):
            await opened({**REQUEST, "tools": [{**TOOL, **wrong}]})
    with pytest.raises(InvalidRequestError, match=r"^tools\.0\.model"):
        await opened({**REQUEST, "tools": [{"type": "advisor_20260301", "name": "advisor"}]})
