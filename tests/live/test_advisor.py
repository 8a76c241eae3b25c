"""A model of the stack that gives another one advice, through the real server, on both routes."""

from typing import Any

import anthropic
import pytest

from tests.conftest import Fleet
from tests.support.laws import assert_well_formed
from tests.support.model import CHAT, MESSAGES, serve
from tests.support.wire import Json, text_block, tool_use_block

LOOK: Json = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
HELLO: Any = {"role": "user", "content": "Build it."}
WAYS = {"translated": "openai/openai-model", "native": "vllm/vllm-model"}


def is_advisor(body: Json) -> bool:
    return "You are asked for advice" in str(body.get("messages", [""])[-1])


def blocks(body: Json) -> list[Json]:
    """A model that wants advice, and takes it; the advisor is another one of its kind."""
    if is_advisor(body):
        return [text_block("Test first.")]
    return [text_block("I test.") if "Test first." in str(body["messages"]) else tool_use_block("advisor", {})]


@pytest.fixture
def client(fleet: Fleet) -> Any:
    for name in ("openai", "vllm"):
        serve(fleet.upstreams[name], blocks)
    with anthropic.Anthropic(base_url=fleet.base_url, api_key="any", max_retries=0) as client:
        yield client


def request(way: str, advisor: str, **tool: Any) -> Any:
    tools = [{"type": "advisor_20260301", "name": "advisor", "model": advisor, **tool}, LOOK]
    return {"model": WAYS[way], "max_tokens": 100, "messages": [HELLO], "tools": tools}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("advisor", WAYS)
@pytest.mark.parametrize("way", WAYS)
def test_another_model_gives_advice(way: str, advisor: str, streamed: bool, client: Any, fleet: Fleet) -> None:
    body = request(way, WAYS[advisor], max_tokens=33)
    if streamed:
        with client.beta.messages.stream(**body) as stream:
            message = stream.get_final_message()
        assert_well_formed([event.to_dict() for event in client.beta.messages.create(**body, stream=True)])
    else:
        message = client.beta.messages.create(**body)
    asked, advice, said = message.content
    assert (asked.type, asked.name) == ("server_tool_use", "advisor")
    assert (advice.type, advice.tool_use_id) == ("advisor_tool_result", asked.id)
    assert (advice.content.type, advice.content.text) == ("advisor_result", "Test first.")
    assert said.text == "I test."
    kinds = [(each.type, each.model) for each in message.usage.iterations]
    assert kinds == [("message", None), ("advisor_message", WAYS[advisor]), ("message", None)]
    upstream, path = ("openai", CHAT) if advisor == "translated" else ("vllm", MESSAGES)
    [told] = [each.json for each in fleet.upstreams[upstream].requests_to(path) if is_advisor(each.json)][:1]
    assert 33 in (told.get("max_tokens"), told.get("max_completion_tokens"))
    assert told["tool_choice"] in ("none", {"type": "none"})


def test_a_model_that_is_not_there_gives_none(client: Any) -> None:
    message = client.beta.messages.create(**request("native", "nobody/knows"))
    assert message.content[1].content.error_code == "model_not_found"
