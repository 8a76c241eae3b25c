"""The attribution line that Claude Code puts at the head of its system prompt means something to Anthropic alone."""

from llama_stack_messages_provider.rewriting.attribution import MARK, without_attribution
from llama_stack_messages_provider.rewriting.draft import Draft

FEATURES = frozenset({"attribution"})
MARKS = {"attribution": MARK.encode()}
ORDER = 10


def rewrite(draft: Draft) -> None:
    """Take the line out."""
    if "system" in draft.fields:
        draft.fields["system"] = without_attribution(draft.fields["system"])
