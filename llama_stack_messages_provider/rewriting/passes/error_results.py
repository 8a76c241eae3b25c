"""`is_error` for models that are not shown it: a marker before the result."""

from llama_stack_messages_provider.rewriting.draft import Block, Draft, Place, text_block

FEATURES = frozenset({"is_error"})
ORDER = 120


def rewrite(draft: Draft) -> None:
    """Mark the results of calls that failed."""
    marker = draft.options.tool_error_marker

    def mark(block: Block, path: str, place: Place) -> list[tuple[str, Block]] | None:
        if not block.get("is_error"):
            return None
        marked = {name: value for name, value in block.items() if name != "is_error"}
        return [(path, {**marked, "content": _marked(block.get("content") or "", marker)})]

    draft.change_blocks({"tool_result": mark})


def _marked(content: str | list[Block], marker: str) -> str | list[Block]:
    if isinstance(content, str):
        return marker + content
    first = next((index for index, block in enumerate(content) if block["type"] == "text"), None)
    if first is None:
        return [text_block(marker), *content]
    text = {**content[first], "text": marker + content[first]["text"]}
    return [*content[:first], text, *content[first + 1 :]]
