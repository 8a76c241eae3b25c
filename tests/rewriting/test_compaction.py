"""What stands in place of what was summarised, and what is read as a summary."""

from typing import Any

import pytest

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.rewriting import RewriteOptions, rewrite
from llama_stack_messages_provider.rewriting.compaction import (
    continued,
    summary_of,
    summary_request,
    summary_text,
    tool_changes,
)
from llama_stack_messages_provider.rewriting.context_edits import Compact

type Json = dict[str, Any]

OLD: list[Json] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
NOW: Json = {"role": "user", "content": "And now?"}
FINE: Json = {"type": "text", "text": "fine"}
PLACED: Json = {"type": "text", "text": summary_text("They met.")}


def summary(content: str | None = "They met.", **fields: Any) -> Json:
    return {"type": "compaction", "content": content, **fields}


def says(*blocks: Json, role: str = "assistant") -> Json:
    return {"role": role, "content": list(blocks)}


def seen(*messages: Json, dropped: DroppedFields | None = None) -> Any:
    request = {"model": "m", "messages": list(messages)}
    options, lacks = RewriteOptions(), {"unknown_block"}
    return rewrite(request, lacks=lacks, options=options, dropped=dropped or DroppedFields()).request["messages"]


CASES: dict[str, tuple[list[Json], list[Json]]] = {
    "a message that went on": ([*OLD, says(summary(), FINE), NOW], [says(PLACED, role="user"), says(FINE), NOW]),
    "a message that paused": (
        [*OLD, says(summary()), NOW],
        [says(PLACED, {"type": "text", "text": "And now?"}, role="user")],
    ),
    "a block in front": ([says(summary(), role="user"), NOW], [says(PLACED, role="user"), NOW]),
    "the last of two counts": (
        [*OLD, says(summary("No."), FINE), NOW, says(summary(), FINE), NOW],
        [says(PLACED, role="user"), says(FINE), NOW],
    ),
    "a failed one is nothing": ([*OLD, NOW, says(summary(None), FINE), NOW], [*OLD, NOW, says(FINE), NOW]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_summary_stands_for_all_before_it(name: str) -> None:
    messages, plain = CASES[name]
    assert seen(*messages) == plain


def test_what_is_encrypted_is_named() -> None:
    dropped = DroppedFields()
    seen(*OLD, says({"type": "compaction", "encrypted_content": "x"}, FINE), NOW, dropped=dropped)
    assert dropped.names == ["messages.2.content.0"]


GONE: Json = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "a"}}
CAME: Json = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "b"}}


@pytest.mark.parametrize("changes", [[], [GONE, CAME]])
@pytest.mark.parametrize("answered", [[FINE], []], ids=["went on", "paused"])
def test_a_request_goes_on_as_the_next_turn_will_begin(changes: list[Json], answered: list[Json]) -> None:
    system = [says(*changes, role="system")] if changes else []
    messages = [*OLD, *system, NOW]
    request = {"model": "m", "messages": messages, "context_management": {"edits": [{"type": Compact.TYPE}]}}
    assert tool_changes(messages) == changes
    now = continued(request, "They met.", changes)["messages"]
    block = summary(tool_changes=changes)
    later = seen(*messages, says(block, *answered), NOW)
    assert later[0]["content"][0] == now[0]["content"][0] == PLACED
    if changes:
        assert now[1] == later[1] == says(*changes, role="system")
    again = tool_changes([*messages, says(block, *answered), says(GONE, role="system")])
    assert again == [*changes, GONE]


def test_a_summary_is_asked_for_behind_the_conversation() -> None:
    request = {"model": "m", "system": "s", "messages": [*OLD, NOW], "stream": True, "tool_choice": {"type": "any"}}
    asked = summary_request(request, Compact(instructions="In German."), 500)
    assert asked["messages"][:2] == OLD
    first, prompt = asked["messages"][2]["content"]
    assert first == {"type": "text", "text": "And now?"}
    assert prompt["text"].endswith("In German.")
    assert (asked["max_tokens"], asked["system"], "stream" in asked, "tool_choice" in asked) == (500, "s", False, False)
    assert summary_request({**request, "messages": OLD}, Compact(), 500)["messages"][:2] == OLD


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Well. <summary>\nThey met.\n</summary> Bye", "They met."),
        ("<summary>They met", "They met"),
        ("They met.", "They met."),
        ("<summary> </summary>", None),
        ("", None),
    ],
)
def test_what_is_read_as_a_summary(text: str, found: str | None) -> None:
    content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": text}]
    assert summary_of({"content": content, "stop_reason": "end_turn"}) == found
    assert summary_of({"content": content, "stop_reason": "refusal"}) is None
