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
    body = {"temperature": 0, **more.pop("extra_body", {})}
    return {"model": "claude-any", "max_tokens": 24, "messages": messages, "extra_body": body, **more}


def test_the_stop_sequence_is_told(real_client: anthropic.Anthropic) -> None:
    # A short answer may be all figures.
    request = ask(stop_sequences=["@@", "e"], max_tokens=256)
    whole = real_client.messages.create(**request)
    with real_client.messages.stream(**request) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "e")


def test_a_schema_with_optional_properties_is_kept(real_client: anthropic.Anthropic) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    message = real_client.messages.create(**ask(max_tokens=60, extra_body={"output_config": {"format": form}}))
    answer = json.loads(message.content[0].text)
    assert {"city"} <= answer.keys() <= {"city", "big"}


def test_the_prompt_s_tokens_are_told_at_the_start(real_client: anthropic.Anthropic) -> None:
    counted = real_client.messages.count_tokens(model="claude-any", messages=ask()["messages"]).input_tokens
    with real_client.messages.stream(**ask()) as stream:
        started: Any = next(iter(stream))
        folded = stream.get_final_message().usage
    usage = started.message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == counted
    assert (folded.input_tokens, folded.cache_read_input_tokens) == (usage.input_tokens, usage.cache_read_input_tokens)
