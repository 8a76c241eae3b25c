"""Ids of calls that carry what an upstream wants back: its own ids again."""

from llama_stack_messages_provider.rewriting.call_ids import MARK, decode_call_id
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place

FEATURES = frozenset({"carried_id"})
ORDER = 135


def rewrite(draft: Draft) -> None:
    """The ids of calls and of their results, as the model knows them."""
    model = draft.options.signer.model if draft.options.signer is not None else ""

    def change(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        name = "id" if block["type"] == "tool_use" else "tool_use_id"
        return [(path, {**block, name: decode_call_id(block[name], model).id})] if MARK in block[name] else None

    draft.change_blocks({"tool_use": change, "tool_result": change})
