"""`is_error` for models that are not shown it: a marker before the result."""

from typing import Any

from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, is_text, text_block

FEATURES = frozenset({"is_error"})
MARKS = {"is_error": b'"is_error"'}
ORDER = 120


def rewrite(draft: Draft) -> None:
    """Mark the results of calls that failed."""
    marker = draft.options.tool_error_marker

    def mark(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        if not block.get("is_error"):
            return None
        return [(path, {**block, "content": _marked(block.get("content") or "", marker)})]

    draft.change_blocks({"tool_result": mark})


def _marked(content: Any, marker: str) -> Any:
    if isinstance(content, str):
        return marker + content
    if not isinstance(content, list):
        return content
    first = next((index for index, block in enumerate(content) if is_text(block)), None)
    if first is None:
        return [text_block(marker.rstrip()), *content]
    text = {**content[first], "text": marker + content[first]["text"]}
    return [*content[:first], text, *content[first + 1 :]]
