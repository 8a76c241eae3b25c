"""The MCP servers that a stack's operator registered: tool groups of its MCP provider, and connectors.

| internal | used for |
|---|---|
| `routing_table.get_all_with_type("tool_group")`, which applies the access policy | the tool groups |
| `routing_table.impls_by_provider_id`, `__provider_spec__.provider_type` | those of the MCP provider |
| `mcp_endpoint.uri` of a tool group | where its server is |
| `list_connectors` of the connectors API | connectors; the host asks no policy for them, this package does |

Tried with llama-stack 0.7.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.host.access import AccessRule, Action, current_user, is_allowed

__all__ = ["RegisteredServer", "registered_servers"]

_PROVIDER = "remote::model-context-protocol"


@dataclass(frozen=True, slots=True)
class RegisteredServer:
    """A server that the stack knows.

    Args:
        name: The id of its tool group or connector.
        url: Where it is.
    """

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class _Connector:
    """A connector as an access policy's `resource:` calls it: `connector::<id>`."""

    identifier: str
    type: str = "connector"
    owner: None = None


async def registered_servers(tools: Any, connectors: Any, policy: Sequence[AccessRule]) -> dict[str, RegisteredServer]:
    """The servers that the current user may use, by their names.

    Args:
        tools: The stack's tool runtime API; None if it has none.
        connectors: Its connectors API; None if it has none.
        policy: The host's access policy.
    """
    found = [*(await _connectors(connectors, policy)), *(await _tool_groups(tools))]
    return {server.name: server for server in found}


async def _tool_groups(tools: Any) -> list[RegisteredServer]:
    if tools is None:
        return []
    table = tools.routing_table
    groups = await table.get_all_with_type("tool_group")
    return [
        RegisteredServer(group.identifier, str(group.mcp_endpoint.uri))
        for group in groups
        if group.mcp_endpoint is not None and _provider_type(table, group.provider_id) == _PROVIDER
    ]


def _provider_type(table: Any, provider_id: str) -> str | None:
    spec = getattr(table.impls_by_provider_id.get(provider_id), "__provider_spec__", None)
    return getattr(spec, "provider_type", None)


async def _connectors(connectors: Any, policy: Sequence[AccessRule]) -> list[RegisteredServer]:
    if connectors is None:
        return []
    listed, user = await connectors.list_connectors(), current_user()
    return [
        RegisteredServer(each.connector_id, str(each.url))
        for each in listed.data
        if is_allowed(policy, Action.READ, _Connector(each.connector_id), user)
    ]
