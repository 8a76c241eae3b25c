"""Two tools of one name: the first one is offered."""

from llama_stack_messages_provider.rewriting.draft import Draft, Placed

FEATURES = frozenset({"tools_of_one_name"})
ORDER = 50


def rewrite(draft: Draft) -> None:
    """Leave the others out; a tool that is many functions is named once."""
    taken: set[str] = set()
    kept: list[Placed] = []
    for placed in draft.tools:
        name = placed.value.get("name")
        if isinstance(name, str) and name in taken:
            draft.dropped.drop(placed.path, "another tool has the same name")
        else:
            kept.append(placed)
            taken.update([name] if isinstance(name, str) else [])
    draft.tools = kept
