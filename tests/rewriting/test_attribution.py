"""The line at the head of Claude Code's system prompt, which changes with each request."""

from typing import Any

import pytest

from llama_stack_messages_provider.rewriting.attribution import without_attribution
from tests.translation.helpers import text, translated

type Json = dict[str, Any]

LINE = "x-anthropic-billing-header: cc_version=2.1.330.abc; cc_entrypoint=cli; cch=0f1e2;"
AGENT = "You are an agent."


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"{LINE}\n{AGENT}", AGENT),
        (f"{LINE}\n\n{AGENT}", f"\n{AGENT}"),
        (f"\n {LINE}\n{AGENT}", AGENT),
        (LINE, ""),
        ([text(LINE), text(AGENT)], [text(AGENT)]),
        ([text(f"{LINE}\n"), text(AGENT)], [text(AGENT)]),
        (
            [text(f"{LINE}\n{AGENT}", cache_control={"type": "ephemeral"})],
            [text(AGENT, cache_control={"type": "ephemeral"})],
        ),
        ([text(LINE)], []),
    ],
    ids=[
        "a line",
        "a line and an empty one",
        "white space before",
        "alone",
        "a block",
        "a block's line",
        "in a block",
        "one block",
    ],
)
def test_the_line_is_taken_out(given: Any, expected: Any) -> None:
    assert without_attribution(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        AGENT,
        f"{AGENT}\n{LINE}",
        "The x-anthropic-billing-header: is a header.",
        [],
        [text(AGENT)],
        [text(AGENT), text(LINE)],
        [{"type": "hologram"}],
        [{"type": "hologram", "text": 3}],
        ["text"],
        {"text": LINE},
        3,
    ],
)
def test_everything_else_is_left_as_the_object_it_is(given: Any) -> None:
    assert without_attribution(given) is given


def test_the_blocks_that_came_are_not_changed() -> None:
    given = [text(f"{LINE}\n{AGENT}")]

    without_attribution(given)

    assert given == [text(f"{LINE}\n{AGENT}")]


@pytest.mark.parametrize("as_blocks", [False, True])
def test_two_requests_that_differ_in_it_make_the_same_prompt(as_blocks: bool) -> None:
    prompts = [f"{LINE.replace('0f1e2', nonce)}\n{AGENT}" for nonce in ("11111", "22222")]

    sent = [translated(system=[text(prompt)] if as_blocks else prompt).params for prompt in prompts]

    assert sent[0] == sent[1]
    assert sent[0]["messages"][0] == {"role": "system", "content": AGENT}


def test_a_prompt_of_nothing_else_is_no_prompt() -> None:
    assert [message["role"] for message in translated(system=LINE).params["messages"]] == ["user"]
    assert [message["role"] for message in translated(system=[text(LINE)]).params["messages"]] == ["user"]
