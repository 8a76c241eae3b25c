"""Ids of calls that carry what an upstream wants back: its own ids again."""

from llama_stack_messages_provider.rewriting.call_ids import MARK, decode_call_id, plain_call_id
from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place

FEATURES = frozenset({"carried_id"})
MARKS = {"carried_id": MARK.encode()}
ORDER = 135

_NAMES = {"tool_use": "id", "tool_result": "tool_use_id"}


def rewrite(draft: Draft) -> None:
    """The ids of calls and of their results, as the model knows them; without what they carry where it is nobody's."""
    signer = draft.options.signer

    def change(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        given = block.get(name := _NAMES[block["type"]])
        if not isinstance(given, str) or MARK not in given:
            return None
        known = plain_call_id(given) if signer is None else decode_call_id(given, signer.model).id
        return [(path, {**block, name: known})]

    draft.change_blocks(dict.fromkeys(_NAMES, change))
