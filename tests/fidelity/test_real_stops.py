"""A real llama.cpp: where it stopped and what it read is told on both routes, and a schema is kept."""

import json
from typing import Any

import anthropic

from tests.fidelity.cases import Json

SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "big": {"type": "boolean"}},
    "required": ["city"],
    "additionalProperties": False,
}


def ask(**more: Any) -> Any:
    messages = [{"role": "user", "content": "Say: one two three four five six seven"}]
    return {"model": "claude-any", "max_tokens": 24, "messages": messages, **more}


def test_the_stop_sequence_is_told(client: anthropic.Anthropic) -> None:
    request = ask(stop_sequences=["@@", "e"])  # which every answer has sooner or later
    whole = client.messages.create(**request)
    with client.messages.stream(**request) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "e")


def test_a_schema_with_optional_properties_is_kept(client: anthropic.Anthropic) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    message = client.messages.create(**ask(max_tokens=60, extra_body={"output_config": {"format": form}}))
    answer = json.loads(message.content[0].text)
    assert {"city"} <= answer.keys() <= {"city", "big"}


def test_the_prompt_s_tokens_are_told_at_the_start(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="claude-any", messages=ask()["messages"]).input_tokens
    with client.messages.stream(**ask()) as stream:
        started: Any = next(iter(stream))
        folded = stream.get_final_message().usage
    usage = started.message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == counted
    assert (folded.input_tokens, folded.cache_read_input_tokens) == (usage.input_tokens, usage.cache_read_input_tokens)
