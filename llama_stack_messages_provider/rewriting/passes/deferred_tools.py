"""Deferred tools are left out until something names them, and then stand behind the others."""

from llama_stack_messages_provider.rewriting.deferred_tools import check_deferred, is_deferred, mentions
from llama_stack_messages_provider.rewriting.draft import Draft, Placed

FEATURES = frozenset({"deferred_tool", "tool_reference"})
MARKS = {"deferred_tool": b'"defer_loading"'}
# After tools that are defined on the way have joined the others.
ORDER = 25


def rewrite(draft: Draft) -> None:
    """Offer what is loaded, in the order in which it was: a prompt's tools grow at their end.

    Raises:
        InvalidRequestError: A reference has no definition.
    """
    defined: dict[str, list[Placed]] = {}
    for placed in draft.tools:
        if isinstance(placed.value, dict) and isinstance(name := placed.value.get("name"), str):
            defined.setdefault(name, []).append(placed)
    check_deferred(draft.fields, defined)
    if not any(is_deferred(placed.value) for placed in draft.tools):
        return
    if all(is_deferred(placed.value) for placed in draft.tools):  # nothing is left that could find them
        draft.tools = list(map(_offered, draft.tools))
        return
    named = dict.fromkeys(each.name for each in mentions(draft.fields))
    loaded = [placed for name in named for placed in defined.get(name, ()) if is_deferred(placed.value)]
    draft.tools = [placed for placed in draft.tools if not is_deferred(placed.value)] + list(map(_offered, loaded))


def _offered(placed: Placed) -> Placed:
    tool = {name: value for name, value in placed.value.items() if name != "defer_loading"}
    return Placed(placed.path, tool, made=True)
