"""The host's tool runtime: which tools there are, and who may use them.

| internal | used for |
|---|---|
| `routing_table.tool_to_toolgroup` | `may_use`: the tools that the host has known from its start on |
| `routing_table.get_object_by_identifier`, which applies the access policy | the same |

Tried with llama-stack 0.7.3.
"""

from typing import Any

__all__ = ["may_use"]


async def may_use(tools: Any, name: str | None) -> bool:
    """Whether the stack has a tool of that name, and the current user may use it."""
    table = tools.routing_table
    group = table.tool_to_toolgroup.get(name)
    return group is not None and await table.get_object_by_identifier("tool_group", group) is not None
