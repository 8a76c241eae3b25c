"""System turns in mid-conversation, for models that take none there."""

from llama_stack_messages_provider.rewriting.draft import Block, Draft, Turn, text_block

FEATURES = frozenset({"system_turn"})
ORDER = 110


def rewrite(draft: Draft) -> None:
    """They go into the system prompt or become the user's words, as the options say.

    In the user's words they keep their place, so that a longer conversation still begins with the shorter one.
    """
    if draft.options.system_turns == "user":
        draft.turns = [_as_user(turn) if turn.role == "system" else turn for turn in draft.turns]
        return
    moved = [placed.value for turn in draft.turns if turn.role == "system" for placed in turn.blocks]
    draft.turns = [turn for turn in draft.turns if turn.role != "system"]
    system = draft.fields.get("system")
    head: list[Block] = [text_block(system)] if isinstance(system, str) and system else list(system or ())
    if moved:
        draft.fields["system"] = [*head, *moved]


def _as_user(turn: Turn) -> Turn:
    return Turn(turn.path, {"role": "user"}, turn.blocks, changed=True)
