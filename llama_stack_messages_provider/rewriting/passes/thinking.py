"""Thinking that only its maker can read, where an engine refuses it."""

from llama_stack_messages_provider.rewriting.draft import Draft

FEATURES = frozenset({"redacted_thinking"})
ORDER = 90


def rewrite(draft: Draft) -> None:
    """Leave it out: it means nothing to any other model."""
    draft.change_blocks({"redacted_thinking": lambda block, path, place: []})
