"""Conversations that are summarised: what a model is asked for, and what stands in place of what it summarised.

Sources: the SDK's `BetaCompactionBlock`, `BetaCompactionConfigParam`, `BetaCompact20260112EditParam`;
https://platform.claude.com/docs/en/build-with-claude/compaction.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.rewriting.context_edits import FIELD, Compact
from llama_stack_messages_provider.rewriting.documents import tagged
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Placed, Turn, kind_of, text_block

__all__ = [
    "continued",
    "drop_compacted",
    "has_turns",
    "summary_of",
    "summary_request",
    "summary_text",
    "tool_changes",
    "without_compaction",
]

PROMPT = (
    "Write a summary of this conversation, from which you can go on without having it before you. Say what was asked "
    "for and why; what was done and found out, with names, paths, numbers and decisions as they are; what is not done "
    "yet, and what comes next. Repeat word for word what was asked last, if it has no answer yet. Call no tool. Put "
    "the summary between <summary> and </summary>, in the language of the conversation."
)
_TAGGED = re.compile(r"<summary>(.*?)(?:</summary>|\Z)", re.DOTALL)
_CHANGES = ("tool_addition", "tool_removal")
# What is about the answer, and not about what was said so far.
_OF_THE_ANSWER = ("compaction", "output_format", "safeguards", "stop_sequences", "stream", "tool_choice")


def summary_text(content: str) -> str:
    """What a model reads in place of the messages that a summary is of."""
    return tagged("summary", content)


def summary_request(request: Mapping[str, Any], compact: Compact, max_tokens: int) -> dict[str, Any]:
    """The request for a summary: the conversation as it is, so that its beginning is found in a cache, and a prompt.

    Args:
        request: The client's request.
        compact: What it asks for.
        max_tokens: How long the summary may be.
    """
    asked = {name: value for name, value in request.items() if name not in _OF_THE_ANSWER}
    if isinstance(output := asked.get("output_config"), Mapping):
        asked["output_config"] = {name: value for name, value in output.items() if name != "format"}
    extra = compact.instructions or ""
    prompt = extra if extra and compact.replaces_prompt else f"{PROMPT}\n\n{extra}".strip()
    *before, last = request["messages"]
    said = [text_block(prompt)]
    if last.get("role") == "user":
        content = last["content"]
        told = [text_block(content)] if isinstance(content, str) else list(content)
        messages = [*before, {**last, "content": [*told, *said]}]
    else:
        messages = [*before, last, {"role": "user", "content": said}]
    return without_compaction({**asked, "messages": messages, "max_tokens": max_tokens})


def has_turns(request: Mapping[str, Any]) -> bool:
    """Whether a request has messages of the documented shape; of others its upstream is the judge."""
    messages = request.get("messages")
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(each, Mapping) and isinstance(each.get("content"), str | list) for each in messages)
    )


def without_compaction(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request that asks for no summary, with the other edits of its context."""
    kept = {name: value for name, value in request.items() if name != "compaction"}
    if isinstance(asked := kept.get(FIELD), Mapping) and isinstance(edits := asked.get("edits"), list):
        kept[FIELD] = {**asked, "edits": [edit for edit in edits if kind_of(edit) != Compact.TYPE]}
    return kept


def summary_of(message: Mapping[str, Any]) -> str | None:
    """The summary in a model's answer; None if there is none."""
    if message.get("stop_reason") == "refusal":
        return None
    blocks = message.get("content") or ()
    text = "".join(block["text"] for block in blocks if kind_of(block) == "text")
    found = _TAGGED.search(text)
    return (found[1] if found else text).strip() or None


def continued(request: Mapping[str, Any], summary: str, changes: Sequence[Block]) -> dict[str, Any]:
    """The request that goes on from a summary: as the next turn's history will have it.

    Args:
        request: The client's request.
        summary: The summary of its messages.
        changes: The changes of tools in them.
    """
    messages: list[dict[str, Any]] = [{"role": "user", "content": [text_block(summary_text(summary))]}]
    if changes:
        messages.append({"role": "system", "content": list(changes)})
    return without_compaction({**request, "messages": messages})


def tool_changes(messages: Sequence[Any]) -> list[Block]:
    """The blocks of a conversation that make the tools in effect at its end of those of the request."""
    changes: list[Block] = []
    for block in (block for message in messages for block in _blocks(message)):
        if kind_of(block) in _CHANGES:
            changes.append(block)
        elif kind_of(block) == "compaction" and block.get("content"):
            changes = [each for each in _blocks({"content": block.get("tool_changes")}) if kind_of(each) in _CHANGES]
    return changes


def _blocks(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return content if isinstance(content, list) else []


def drop_compacted(draft: Draft) -> None:
    """Leave out what stands before the last summary of a conversation, and summaries that failed."""
    where = None
    for number, turn in enumerate(draft.turns):
        kept = [placed for placed in turn.blocks if not _is_failed(placed.value)]
        if len(kept) < len(turn.blocks):
            turn.blocks, turn.changed = kept, True
        for place, placed in enumerate(turn.blocks):
            if kind_of(placed.value) == "compaction" and placed.value.get("content"):
                where = number, place
    if where is None:
        return
    number, place = where
    turn, after = draft.turns[number], draft.turns[number + 1 :]
    block = turn.blocks[place]
    changes = _changes(block)
    summary = Placed(block.path, text_block(summary_text(block.value["content"])), made=True)
    rest = turn.blocks[place + 1 :]
    if turn.role == "user":
        head = [_made("user", turn.path, [summary]), *changes] if changes else []
        draft.turns = [*head, _changed(turn, rest if changes else [summary, *rest]), *after]
    elif changes or rest or not after or after[0].role != "user":
        draft.turns = [_made("user", turn.path, [summary]), *changes, _changed(turn, rest), *after]
    else:
        draft.turns = [_changed(after[0], [summary, *after[0].blocks]), *after[1:]]


def _changes(block: Placed) -> list[Turn]:
    """The changes of tools that a summary's block carries, as the system's turn that they are."""
    path = f"{block.path}.tool_changes"
    changes = tool_changes([{"content": [block.value]}])
    placed = [Placed(f"{path}.{index}", change) for index, change in enumerate(changes)]
    return [_made("system", path, placed)] if placed else []


def _made(role: str, path: str, blocks: list[Placed]) -> Turn:
    return _changed(Turn(path, {"role": role}), blocks)


def _changed(turn: Turn, blocks: list[Placed]) -> Turn:
    turn.blocks, turn.changed = blocks, True
    return turn


def _is_failed(block: Any) -> bool:
    return kind_of(block) == "compaction" and not (block.get("content") or block.get("encrypted_content"))
