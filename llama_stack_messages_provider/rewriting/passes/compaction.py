"""Summaries in a conversation stand for all that was said before them."""

from llama_stack_messages_provider.rewriting.compaction import drop_compacted
from llama_stack_messages_provider.rewriting.draft import Draft

FEATURES = frozenset({"unknown_block"})
ORDER = 4


def rewrite(draft: Draft) -> None:
    """Leave out what the last summary is of."""
    drop_compacted(draft)
