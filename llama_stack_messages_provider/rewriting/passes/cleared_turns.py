"""System turns that hold until the next user message only."""

from llama_stack_messages_provider.rewriting.draft import Draft

FEATURES = frozenset({"clear_at"})
ORDER = 105


def rewrite(draft: Draft) -> None:
    """Leave out those that no longer hold: https://platform.claude.com/docs/en/api/messages."""
    last_user = max((index for index, turn in enumerate(draft.turns) if turn.role == "user"), default=-1)
    draft.turns = [
        turn
        for index, turn in enumerate(draft.turns)
        if index > last_user or not (turn.role == "system" and turn.message.get("clear_at") == "next_user_message")
    ]
