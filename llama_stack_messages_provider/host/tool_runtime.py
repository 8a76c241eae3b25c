"""The host's tool runtime: which tools there are, and who may use them.

| internal | used for |
|---|---|
| `routing_table.tool_to_toolgroup` | `may_use`: the tools that the host has known from its start on |
| `routing_table.get_object_by_identifier`, which applies the access policy | the same |
| `routing_table.impls_by_provider_id`, `config.api_key` of the host's web searches | `keyless_provider` |

Tried with llama-stack 0.7.3.
"""

from typing import Any

__all__ = ["keyless_provider", "may_use"]


async def may_use(tools: Any, name: str | None) -> bool:
    """Whether the stack has a tool of that name, and the current user may use it."""
    table = tools.routing_table
    group = table.tool_to_toolgroup.get(name)
    return group is not None and await table.get_object_by_identifier("tool_group", group) is not None


async def keyless_provider(tools: Any, name: str | None) -> str | None:
    """The id of the provider that runs the tool of that name, if its configuration could have a key and has none."""
    table = tools.routing_table
    group_id = table.tool_to_toolgroup.get(name)
    group = await table.get_object_by_identifier("tool_group", group_id) if group_id is not None else None
    if group is None:
        return None
    config = getattr(table.impls_by_provider_id.get(group.provider_id), "config", None)
    return str(group.provider_id) if getattr(config, "api_key", "none is taken") in (None, "") else None
