"""Blocks of the system prompt that are no text: Anthropic has none, so that nobody knows them."""

from llama_stack_messages_provider.rewriting.draft import Draft

FEATURES = frozenset({"unknown_system_block"})
ORDER = 5


def rewrite(draft: Draft) -> None:
    """Leave them out."""
    kept = []
    for index, block in enumerate(draft.fields["system"]):
        if block["type"] == "text":
            kept.append(block)
        else:
            draft.dropped.drop(f"system.{index}", f"{block['type']} blocks are not understood here")
    draft.fields["system"] = kept
