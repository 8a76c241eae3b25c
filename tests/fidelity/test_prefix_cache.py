"""The second turn of a conversation reads the first from the cache of a real llama.cpp, as Claude Code sends them."""

from collections.abc import Iterator, Sequence
from typing import Any

import anthropic
import pytest

from tests.fidelity.cases import Json
from tests.support.wire import text_block

ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.330.{nonce}; cc_entrypoint=cli; cch={nonce};"
RULES = " ".join(f"Rule {n}: an otter that swims past buoy {n} is greeted once." for n in range(10))
MARK: Json = {"cache_control": {"type": "ephemeral"}}
# What the last tokens of a template and the answer's first ones may differ by.
SLACK_TOKENS = 16


@pytest.fixture(params=["native", "translation"])
def client(request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    fixture = {"native": "embedded_stack", "translation": "embedded_translation_stack"}[request.param]
    stack = request.getfixturevalue(fixture)
    with anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client:
        yield client


def turn(client: anthropic.Anthropic, first_line: str, messages: Sequence[Json], topic: str, **mark: Any) -> Any:
    """A turn of Claude Code's: a line that is new each time, then a system prompt that is not."""
    system = [
        text_block(first_line),
        text_block(f"You guard {topic}.", **mark),
        text_block(RULES, **mark),
    ]
    return client.messages.create(
        model="claude-any", max_tokens=8, system=system, messages=messages, extra_body={"temperature": 0}
    )  # type: ignore[call-overload]


def read(message: Any) -> int:
    """Tokens of the prompt, from the cache or not."""
    return int(message.usage.input_tokens + message.usage.cache_read_input_tokens)


def test_the_second_turn_reads_the_first_from_the_cache(client: anthropic.Anthropic) -> None:
    # A topic that no other test has put into the cache.
    topic = f"the river of {client.base_url.port}"
    asked: Json = {"role": "user", "content": [text_block("What is rule 3?", **MARK)]}
    first = turn(client, ATTRIBUTION.format(nonce="a1f0c"), [asked], topic)
    assert first.usage.cache_read_input_tokens < read(first) / 2
    # As the client does it, the same turn comes back as a string, its mark gone.
    said = {"role": "assistant", "content": first.content[0].text}
    asked["content"] = "What is rule 3?"
    both = [asked, said, {"role": "user", "content": "And 4?"}]
    second = turn(client, ATTRIBUTION.format(nonce="77b2e"), both, topic)
    assert read(second) > read(first)
    assert second.usage.cache_read_input_tokens >= read(first) - SLACK_TOKENS


def test_a_line_that_stays_in_the_prompt_would_cost_the_cache(client: anthropic.Anthropic) -> None:
    """What the test above would see if the line were not taken out."""
    topic = f"the canal of {client.base_url.port}"
    asked: list[Json] = [{"role": "user", "content": "What is rule 3?"}]
    turn(client, "request: a1f0c", asked, topic)
    again = turn(client, "request: 77b2e", asked, topic)
    assert again.usage.cache_read_input_tokens < SLACK_TOKENS


def test_marks_change_nothing_in_the_prompt(client: anthropic.Anthropic) -> None:
    topic = f"the lake of {client.base_url.port}"
    ask, lines = "Which rule is first?", [ATTRIBUTION.format(nonce=n) for n in (1, 2)]
    plain = turn(client, lines[0], [{"role": "user", "content": [text_block(ask)]}], topic)
    marked = turn(client, lines[1], [{"role": "user", "content": [text_block(ask, **MARK)]}], topic, **MARK)
    assert read(marked) == read(plain)
    assert marked.usage.cache_read_input_tokens >= read(plain) - SLACK_TOKENS
