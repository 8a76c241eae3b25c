"""The second turn of a conversation reads the first from the cache of a real llama.cpp, as Claude Code sends them."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import anthropic
import orjson
import pytest

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.rewriting import RewriteOptions, marked_features, rewrite_native
from llama_stack_messages_provider.rewriting.document_refs import documents, with_sources
from llama_stack_messages_provider.rewriting.documents import pages_source
from llama_stack_messages_provider.translation.request import TranslationOptions, to_chat_completion
from llama_stack_messages_provider.wire.request import CreateMessageRequest
from tests.fidelity.cases import Json
from tests.fidelity.claude_code import SHAPES
from tests.support.wire import text_block

ATTRIBUTION = "x-anthropic-billing-header: cc_version=2.1.330.{nonce}; cc_entrypoint=cli; cch={nonce};"
RULES = " ".join(f"Rule {n}: an otter that swims past buoy {n} is greeted once." for n in range(10))
MARK: Json = {"cache_control": {"type": "ephemeral"}}
# What the last tokens of a template and the answer's first ones may differ by.
SLACK_TOKENS = 16


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


def test_the_second_turn_reads_the_first_from_the_cache(real_client: anthropic.Anthropic) -> None:
    # A topic that no other test has put into the cache.
    topic = f"the river of {real_client.base_url.port}"
    asked: Json = {"role": "user", "content": [text_block("What is rule 3?", **MARK)]}
    first = turn(real_client, ATTRIBUTION.format(nonce="a1f0c"), [asked], topic)
    assert first.usage.cache_read_input_tokens < read(first) / 2
    # As the client does it, the same turn comes back as a string, its mark gone.
    said = {"role": "assistant", "content": first.content[0].text}
    asked["content"] = "What is rule 3?"
    both = [asked, said, {"role": "user", "content": "And 4?"}]
    second = turn(real_client, ATTRIBUTION.format(nonce="77b2e"), both, topic)
    assert read(second) > read(first)
    assert second.usage.cache_read_input_tokens >= read(first) - SLACK_TOKENS


def test_a_line_that_stays_in_the_prompt_would_cost_the_cache(real_client: anthropic.Anthropic) -> None:
    """What the test above would see if the line were not taken out."""
    topic = f"the canal of {real_client.base_url.port}"
    asked: list[Json] = [{"role": "user", "content": "What is rule 3?"}]
    turn(real_client, "request: a1f0c", asked, topic)
    again = turn(real_client, "request: 77b2e", asked, topic)
    assert again.usage.cache_read_input_tokens < SLACK_TOKENS


def test_marks_change_nothing_in_the_prompt(real_client: anthropic.Anthropic) -> None:
    topic = f"the lake of {real_client.base_url.port}"
    ask, lines = "Which rule is first?", [ATTRIBUTION.format(nonce=n) for n in (1, 2)]
    plain = turn(real_client, lines[0], [{"role": "user", "content": [text_block(ask)]}], topic)
    marked = turn(real_client, lines[1], [{"role": "user", "content": [text_block(ask, **MARK)]}], topic, **MARK)
    assert read(marked) == read(plain)
    # All of the prompt but its last token, which is always evaluated: it is the same prompt.
    assert marked.usage.cache_read_input_tokens == read(plain) - 1


def test_what_the_server_ran_is_read_from_the_cache_in_the_next_turn(real_client: anthropic.Anthropic) -> None:
    """The model is too small to call a tool; the turn in which one was called is given."""
    name = "tool_search_tool_bm25"
    boats = {"name": "list_boats", "description": "Lists boats.", "input_schema": {"type": "object"}}
    asked = {"role": "user", "content": f"Which boats are on the river of {real_client.base_url.port}? {RULES}"}
    content = {
        "type": "tool_search_tool_search_result",
        "tool_references": [{"type": "tool_reference", "tool_name": "list_boats"}],
    }
    ran = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": {"query": "boats"}},
        {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_1", "content": content},
        text_block("There is a list of them."),
    ]
    tools = [{"type": f"{name}_20251119", "name": name}, {**boats, "defer_loading": True}]
    create = partial(
        real_client.messages.create, model="claude-any", max_tokens=8, tools=tools, extra_body={"temperature": 0}
    )  # type: ignore[call-overload]
    turns = [asked, {"role": "assistant", "content": ran}, {"role": "user", "content": "And nets?"}]
    first = create(messages=turns)
    second = create(
        messages=[*turns, {"role": "assistant", "content": first.content}, {"role": "user", "content": "Why?"}]
    )
    assert read(second) > read(first)
    assert second.usage.cache_read_input_tokens >= read(first) - SLACK_TOKENS


# --- the same, for everything that Claude Code sends ---


def without_marks(value: Any) -> Any:
    if isinstance(value, list):
        return [without_marks(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: without_marks(each) for name, each in value.items() if name != "cache_control"}


def with_marks(body: Json) -> Json:
    """A mark on the request, on each tool, and on each block that may have one."""
    messages = [{**turn, "content": marked(turn["content"])} for turn in body["messages"] if "content" in turn]
    tools = [{**tool, **MARK} for tool in body.get("tools", ())]
    return {**body, **MARK, "messages": messages, "system": marked(body["system"]), "tools": tools}


def marked(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    nested = ({**block, "content": marked(block["content"])} if "content" in block else block for block in content)
    return [block if block["type"] == "thinking" else {**block, **MARK} for block in nested]


def translated(body: Json, dialect: str = "llama.cpp") -> bytes:
    """What is sent to an upstream that is translated to."""
    request = {**body, "model": "m"}
    CreateMessageRequest.model_validate(request)
    # PDFs have been read before.
    request = with_sources(request, {ref.keys: pages_source(["A page."]) for ref in documents(request)})
    translation = to_chat_completion(request, model="m", dialect=ENGINES[dialect].chat, options=TranslationOptions())
    return orjson.dumps(translation.params)


@pytest.mark.parametrize("shape", SHAPES)
def test_marks_change_nothing_of_what_is_sent(shape: str) -> None:
    body = SHAPES[shape][1]
    assert with_marks(body) != without_marks(body)
    assert translated(with_marks(body)) == translated(without_marks(body)) == translated(body)


def other_line(body: Json) -> Json:
    first, *others = body["system"]
    assert first["text"].startswith("x-anthropic-billing-header")
    return {**body, "system": [text_block(ATTRIBUTION.format(nonce="9e9e9")), *others]}


def rewritten(body: Json) -> Mapping[str, Any]:
    """What is sent to an upstream that is native."""
    made = rewrite_native(
        body,
        marked=marked_features(orjson.dumps(body), ENGINES["llama.cpp"].native),
        lacks=frozenset(),
        options=RewriteOptions(),
        dropped=DroppedFields(),
    )
    return made.request


@pytest.mark.parametrize("shape", SHAPES)
def test_the_line_that_changes_changes_nothing_of_what_is_sent(shape: str) -> None:
    body = {**SHAPES[shape][1], "model": "m"}
    other = other_line(body)
    assert translated(other) == translated(body)
    one, two = map(rewritten, (body, other))
    assert one == two
    assert one["system"] == body["system"][1:]


def test_each_turn_s_messages_begin_with_those_of_the_turn_before() -> None:
    """Blocks or a string, marked or not: what was sent stays at the front."""
    asked: Json = {"role": "user", "content": [text_block("Look.", **MARK)]}
    call: Json = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/n", "limit": 2}}
    result: Json = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text_block("Otters.")], **MARK}
    history: list[Json] = [
        {**asked, "content": "Look."},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [text_block("They swim.")]},
        {"role": "user", "content": "Why?"},
    ]
    requests = [[asked, *history[1:2]], history[:4], history]
    sent = [translated({**SHAPES["330 first, stream-json"][1], "messages": messages}) for messages in requests]
    for before, now in pairwise(orjson.loads(params) for params in sent):
        assert now["messages"][: len(before["messages"])] == before["messages"]
        assert now["tools"] == before["tools"]
