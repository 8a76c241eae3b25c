"""Context editing: what is cleared, in which steps, and what never changes between two of them."""

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.rewriting import RewriteOptions, Rewritten, rewrite, rewrite_native
from llama_stack_messages_provider.rewriting.context_edits import changes_nothing
from llama_stack_messages_provider.rewriting.passes.context_edits import CLEARED
from llama_stack_messages_provider.wire.token_estimate import estimated_tokens

type Json = dict[str, Any]

USES, THINKING = "clear_tool_uses_20250919", "clear_thinking_20251015"
LONG = "word " * 400  # 2000 bytes


def call(n: int, name: str = "Read") -> Json:
    used = {"type": "tool_use", "id": f"t{n}", "name": name, "input": {"n": "x" * 70}}
    return {"role": "assistant", "content": [used]}


def result(n: int, content: Any = LONG) -> Json:
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{n}", "content": content}]}


def session(turns: int, name: str = "Read", content: Any = LONG) -> list[Json]:
    asked: list[Json] = [{"role": "user", "content": "Look."}]
    return asked + [message for n in range(turns) for message in (call(n, name), result(n, content))]


def edited(messages: list[Json], *edits: Json, dropped: DroppedFields | None = None, **fields: Any) -> Rewritten:
    request = {"model": "m", "messages": messages, "context_management": {"edits": list(edits)}, **fields}
    lacks = {"context_edits"}
    return rewrite(request, lacks=lacks, options=RewriteOptions(), dropped=dropped or DroppedFields())


def blocks_of(found: Rewritten, kind: str) -> list[Json]:
    contents = [message["content"] for message in found.request["messages"]]
    blocks = [block for content in contents if isinstance(content, list) for block in content]
    return [block for block in blocks if block["type"] == kind]


def cleared(found: Rewritten) -> list[str]:
    return [block["tool_use_id"] for block in blocks_of(found, "tool_result") if block["content"] == CLEARED]


def uses(**fields: Any) -> Json:
    return {"type": USES, **fields}


def over(kind: str, value: int) -> Json:
    return {"type": kind, "value": value}


def test_below_the_trigger_nothing_is_cleared_and_the_field_is_gone() -> None:
    found = edited(session(5), uses())

    assert found.applied_edits == []
    assert found.request == {"model": "m", "messages": session(5)}


def test_over_it_all_but_the_last_are_cleared_and_pairs_stay() -> None:
    found = edited(session(10), uses(trigger=over("tool_uses", 9), keep=over("tool_uses", 2)))

    assert cleared(found) == [f"t{n}" for n in range(8)]
    assert len(found.request["messages"]) == len(session(10))
    assert found.applied_edits == [
        {"type": USES, "cleared_tool_uses": 8, "cleared_input_tokens": int(8 * (2000 - len(CLEARED)) / 3.5)}
    ]


def test_three_are_kept_where_nothing_is_said() -> None:
    assert cleared(edited(session(5), uses(trigger=over("tool_uses", 4)))) == ["t0", "t1"]


def test_a_trigger_in_tokens() -> None:
    """Twelve results of some 570 tokens."""
    assert cleared(edited(session(12), uses(trigger=over("input_tokens", 9000)))) == []
    assert cleared(edited(session(12), uses(trigger=over("input_tokens", 6000))))


def test_less_than_is_to_be_cleared_at_least_is_not_cleared() -> None:
    edit = uses(trigger=over("tool_uses", 2), keep=over("tool_uses", 0))
    assert cleared(edited(session(3), {**edit, "clear_at_least": over("input_tokens", 1600)})) == ["t0", "t1", "t2"]
    assert cleared(edited(session(3), {**edit, "clear_at_least": over("input_tokens", 1700)})) == []


def test_tools_that_are_excluded_stay() -> None:
    messages = [*session(4), call(4, "Memory"), result(4), call(5), result(5)]
    edit = uses(trigger=over("tool_uses", 4), keep=over("tool_uses", 0), exclude_tools=["Memory"])

    assert cleared(edited(messages, edit)) == ["t0", "t1", "t2", "t3", "t5"]


@pytest.mark.parametrize(("inputs", "gone"), [(True, True), (["Read"], True), (["Write"], False), (False, False)])
def test_inputs_are_cleared_where_that_is_asked_for(inputs: Any, gone: bool) -> None:
    edit = uses(trigger=over("tool_uses", 1), keep=over("tool_uses", 1), clear_tool_inputs=inputs)
    found = edited(session(2), edit)

    first, last = (found.request["messages"][n]["content"][0] for n in (1, 3))
    assert (first["input"] == {}, last["input"] == {}) == (gone, False)
    assert first["id"] == "t0"


def thought(text: str = LONG) -> Json:
    return {"type": "thinking", "thinking": text, "signature": ""}


def thinking_session(turns: int) -> list[Json]:
    """Each turn with a call between two thoughts."""
    messages: list[Json] = []
    for n in range(turns):
        called = {"type": "tool_use", "id": f"t{n}", "name": "Read", "input": {}}
        messages += [
            {"role": "user", "content": f"Question {n}"},
            {"role": "assistant", "content": [thought(), called]},
            result(n, "found"),
            {"role": "assistant", "content": [thought(), {"type": "text", "text": "Answer."}]},
        ]
    return messages


def thinking_of(found: Rewritten) -> list[int]:
    return [
        n
        for n, message in enumerate(found.request["messages"])
        if isinstance(message["content"], list) and any(block["type"] == "thinking" for block in message["content"])
    ]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [(None, [9, 11]), (over("thinking_turns", 2), [5, 7, 9, 11]), (over("thinking_turns", 9), [1, 3, 5, 7, 9, 11])],
)
def test_thinking_is_kept_in_the_last_turns(keep: Any, kept: list[int]) -> None:
    found = edited(thinking_session(3), {"type": THINKING, **({"keep": keep} if keep else {})})

    assert thinking_of(found) == kept
    gone = 3 - len(kept) // 2
    assert [edit["cleared_thinking_turns"] for edit in found.applied_edits or ()] == ([gone] if gone else [])


@pytest.mark.parametrize("keep", ["all", {"type": "all"}])
def test_claude_code_keeps_all(keep: Any) -> None:
    request = {"model": "m", "context_management": {"edits": [{"type": THINKING, "keep": keep}]}}

    assert changes_nothing(request)
    assert edited(thinking_session(3), {"type": THINKING, "keep": keep}).applied_edits is None


def test_thinking_comes_first_whatever_the_order() -> None:
    edits = [uses(trigger=over("tool_uses", 2), keep=over("tool_uses", 0)), {"type": THINKING}]
    found = edited(thinking_session(3), *edits)

    assert [edit["type"] for edit in found.applied_edits or ()] == [THINKING]
    assert found.applied_edits == edited(thinking_session(3), *reversed(edits)).applied_edits


def test_an_edit_that_is_not_made_here_is_named() -> None:
    dropped = DroppedFields()
    found = edited(session(1), uses(), {"type": "clear_everything_20300101"}, dropped=dropped)

    assert dropped.names == ["context_management.edits.1"]
    assert found.applied_edits == []


AT_LEAST = "value: Input should be greater than or equal to"
BAD: list[tuple[Json, str]] = [
    (uses(trigger=7), "trigger: Input should be an object"),
    (uses(trigger=over("messages", 7)), "trigger.type: Input should be 'input_tokens' or 'tool_uses'"),
    (uses(trigger=over("tool_uses", 0)), f"trigger.{AT_LEAST} 1"),
    (uses(keep={"type": "tool_uses"}), "keep.value: Input should be a valid integer"),
    (uses(keep=over("tool_uses", -1)), f"keep.{AT_LEAST} 0"),
    (uses(exclude_tools="Read"), "exclude_tools: Input should be a valid list"),
    (uses(exclude_tools=["Read", 7]), "exclude_tools.1: Input should be a valid string"),
    (uses(clear_tool_inputs=7), "clear_tool_inputs: Input should be a valid list"),
    ({"type": THINKING, "keep": "some"}, "keep: Input should be an object"),
    ({"type": THINKING, "keep": over("thinking_turns", 0)}, f"keep.{AT_LEAST} 1"),
    ({"type": 7}, "type: Input should be a valid string"),
]


@pytest.mark.parametrize(("edit", "message"), BAD)
def test_what_is_wrong_is_named_by_its_path(edit: Json, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        edited(session(1), edit)

    assert refused.value.message == f"context_management.edits.0.{message}"


# --- laws ---

sizes = st.lists(st.integers(0, 3000), min_size=1, max_size=30)
amounts = st.builds(over, st.sampled_from(["input_tokens", "tool_uses"]), st.integers(1, 4000))
tool_edits = st.fixed_dictionaries(
    {
        "type": st.just(USES),
        "trigger": amounts,
        "keep": st.builds(over, st.just("tool_uses"), st.integers(0, 5)),
        "clear_at_least": st.builds(over, st.just("input_tokens"), st.integers(0, 2000)),
        "clear_tool_inputs": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(sizes=sizes, edit=tool_edits, thinks=st.booleans())
def test_a_prompt_is_the_beginning_of_the_next_one_unless_a_step_was_made(
    sizes: list[int], edit: Json, thinks: bool
) -> None:
    edits = [{"type": THINKING, "keep": over("thinking_turns", 1)}, edit] if thinks else [edit]
    messages: list[Json] = [{"role": "user", "content": "Look."}]
    found = [edited(list(messages), *edits)]
    for n, size in enumerate(sizes):
        called = call(n)
        if thinks:
            called["content"].insert(0, thought("hm " * (size % 50)))
        messages += [called, result(n, "x" * size)]
        found.append(edited(list(messages), *edits))
    for before, after in pairwise(found):
        prompt, grown = before.request["messages"], after.request["messages"]
        assert set(cleared(before)) <= set(cleared(after))
        if before.applied_edits == after.applied_edits:
            assert grown[: len(prompt)] == prompt
        ids = [block["id"] for block in blocks_of(after, "tool_use")]
        assert ids == [block["tool_use_id"] for block in blocks_of(after, "tool_result")]


def test_two_hundred_turns_are_edited_in_few_steps() -> None:
    edit = uses(
        trigger=over("input_tokens", 9000), clear_at_least=over("input_tokens", 2000), clear_tool_inputs=["Read"]
    )
    steps, before = 0, 0
    for turns in range(1, 201):
        found = edited(session(turns), edit)
        now = len(cleared(found))
        steps += now != before
        before = now
        assert estimated_tokens(found.request) < 16_384 - 1024
        assert not {f"t{n}" for n in range(turns - 3, turns)} & set(cleared(found))
    assert 5 < steps < 50


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "value", "edits", "keep"]), inner, max_size=3)
    ),
    max_leaves=8,
)


blocks = st.fixed_dictionaries(
    {"type": st.sampled_from(["tool_use", "tool_result", "thinking", "compaction", "text", 7])},
    optional={
        "id": junk,
        "tool_use_id": junk,
        "name": junk,
        "input": junk,
        "content": junk,
        "text": junk,
        "thinking": junk,
        "tool_changes": junk,
    },
)
turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "other"])}, optional={"content": st.lists(blocks) | junk}
)


@given(messages=st.lists(turns | junk, max_size=6))
def test_a_native_request_of_any_shape_is_edited_without_a_fault(messages: list[Any]) -> None:
    """Its upstream is the judge of it."""
    edits = [{"type": THINKING}, uses(trigger=over("tool_uses", 1), keep=over("tool_uses", 0), clear_tool_inputs=True)]
    request = {"messages": messages, "context_management": {"edits": edits}}
    found = rewrite_native(
        request, marked=["context_edits"], lacks=frozenset(), options=RewriteOptions(), dropped=DroppedFields()
    )
    assert "context_management" not in found.request


@given(asked=junk)
def test_whatever_is_asked_for_is_edited_or_refused(asked: Any) -> None:
    with suppress(InvalidRequestError):
        edited(session(2), context_management=asked)
