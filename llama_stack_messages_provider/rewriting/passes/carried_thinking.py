"""Thinking whose text or details travelled in our signatures: the model reads again what it thought."""

from typing import Any

from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place
from llama_stack_messages_provider.rewriting.signatures import CARRYING, carrier_of, is_ours

FEATURES = frozenset({"carried_thinking"})
MARKS = {"carried_thinking": f'"{CARRYING}'.encode()}
ORDER = 85


def rewrite(draft: Draft) -> None:
    """Put back what signatures carry; what is forged, or of another model, is left out."""

    def change(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        carrier = carrier_of(block)
        return [(path, each) for each in _restored(draft, block, carrier, path)] if is_ours(carrier) else None

    draft.change_blocks({"thinking": change, "redacted_thinking": change})


def _restored(draft: Draft, block: Block, carrier: Any, path: str) -> list[Block]:
    shown, signer = block.get("thinking") or "", draft.options.signer
    if not isinstance(shown, str):  # its upstream is the judge
        return [block]
    carried = signer.carried(shown, carrier) if signer is not None else {}
    if carried is None and not shown:
        draft.dropped.drop(path, "its signature is not one of this model's")
    carried = carried or {}
    if "too_much" in carried:
        draft.dropped.drop(path, "the reasoning was too long to be carried")
    text, details = shown or str(carried.get("text") or ""), carried.get("details")
    kept = {"reasoning_details": details} if details and draft.options.reasoning_details else {}
    return [{"type": "thinking", "thinking": text, "signature": "", **kept}] if text or kept else []
