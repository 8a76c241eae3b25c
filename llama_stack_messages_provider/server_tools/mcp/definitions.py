"""What a request says of MCP servers: `mcp_servers`, `mcp_toolset` tools, and the older `tool_configuration`. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.server_tools.one_name import check_definition
from llama_stack_messages_provider.server_tools.plain import server_tool_definitions
from llama_stack_messages_provider.wire.types import wire_type

__all__ = ["LISTING", "TOOLSET", "Listing", "McpServer", "Toolset", "toolsets_of"]

TOOLSET = "mcp_toolset"
LISTING = "mcp_tool_listing"

_SERVER = wire_type("RequestMCPServerURLDefinitionParam")
_TOOLSET = wire_type("MCPToolsetParam")

type Listing = Sequence[Mapping[str, Any]]
"""Tools as a server lists them: `name`, `description`, `input_schema`."""


@dataclass(frozen=True, slots=True)
class McpServer:
    """An entry of `mcp_servers`.

    Args:
        name: What the request calls it.
        path: Where it stands, such as `mcp_servers.0`.
        url: Where it is; empty for one that the stack knows by its name.
        token: What the client brings for it.
    """

    name: str
    path: str
    url: str = ""
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Toolset:
    """Which tools of a server are offered, and how.

    Args:
        server: The server.
        path: Where it stands: `tools.0`, or that of the server where the request is of the older version.
        default: The `default_config`.
        configs: What differs from it, by the names of tools.
        enabled: What the older `tool_configuration` says of all.
        allowed: The tools that it allows; None allows all.
        pinned: The listing that is not asked for.
    """

    server: McpServer
    path: str
    default: Mapping[str, Any] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    enabled: bool = True
    allowed: frozenset[str] | None = None
    pinned: Listing | None = None

    def offered(self, listing: Listing) -> Iterator[tuple[Mapping[str, Any], bool]]:
        """The tools of a listing that are offered, each once, and whether their loading is deferred."""
        seen: set[str] = set()
        for tool in listing:
            name = tool["name"]
            config = {**self.default, **self.configs.get(name, {})}
            is_allowed = self.enabled and (self.allowed is None or name in self.allowed)
            if is_allowed and config.get("enabled") is not False and name not in seen:
                seen.add(name)
                yield tool, config.get("defer_loading") is True


def toolsets_of(request: Mapping[str, Any], *, most_servers: int) -> list[Toolset]:
    """The toolsets of a request, not necessarily a valid one. Every server is used by exactly one of them; where a
    request has none at all, it is of the version that had no toolsets, and offers the tools of all servers.

    Raises:
        InvalidRequestError: A definition is not as Anthropic documents it.
    """
    given = request.get("mcp_servers") or ()
    definitions = [(path, each) for path, each in server_tool_definitions(request) if each.get("type") == TOOLSET]
    if not given and not definitions:
        return []
    servers = _servers(given, most_servers)
    pinned = _pinned(request)
    if not definitions:
        return [_toolset(server, fields, server.path, {}, pinned) for server, fields in servers.values()]
    toolsets: dict[str, Toolset] = {}
    for path, definition in definitions:
        checked = _checked(_TOOLSET, definition, path)
        name = checked["mcp_server_name"]
        if name not in servers:
            raise InvalidRequestError(f"{path}.mcp_server_name: there is no server {name!r} in mcp_servers")
        if name in toolsets:
            raise InvalidRequestError(f"{path}.mcp_server_name: {name!r} has a toolset already")
        toolsets[name] = _toolset(*servers[name], path, checked, pinned)
    for name, (server, _) in servers.items():
        if name not in toolsets:
            raise InvalidRequestError(f"{server.path}.name: no mcp_toolset in tools uses the server {name!r}")
    return list(toolsets.values())


def _servers(given: Any, most: int) -> dict[str, tuple[McpServer, Mapping[str, Any]]]:
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidRequestError("mcp_servers: Input should be a valid array")
    if len(given) > most:
        raise InvalidRequestError(f"mcp_servers: at most {most} servers can be used")
    servers: dict[str, tuple[McpServer, Mapping[str, Any]]] = {}
    for index, each in enumerate(given):
        path = f"mcp_servers.{index}"
        fields = _checked(_SERVER, each, path)
        name = fields["name"]
        if name in servers:
            raise InvalidRequestError(f"{path}.name: another server has the name {name!r}")
        server = McpServer(name, path, fields.get("url") or "", fields.get("authorization_token") or None)
        servers[name] = server, fields.get("tool_configuration") or {}
    return servers


def _toolset(
    server: McpServer,
    older: Mapping[str, Any],
    path: str,
    definition: Mapping[str, Any],
    pinned: Mapping[str, Listing],
) -> Toolset:
    allowed = older.get("allowed_tools")
    return Toolset(
        server,
        path,
        definition.get("default_config") or {},
        definition.get("configs") or {},
        older.get("enabled") is not False,
        None if allowed is None else frozenset(allowed),
        definition.get("tools") if definition.get("tools") is not None else pinned.get(server.name),
    )


def _checked(kind: Any, given: Any, path: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"{path}: Input should be an object")
    check_definition(kind, given, path)
    return dict(given)


def _pinned(request: Mapping[str, Any]) -> dict[str, Listing]:
    """The listings that earlier answers recorded, by the names of servers; what is none is passed over."""
    found: dict[str, Listing] = {}
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, Mapping) and block.get("type") == LISTING and _is_listing(block.get("tools")):
                found[str(block.get("mcp_server_name"))] = block["tools"]
    return found


def _is_listing(tools: Any) -> bool:
    return isinstance(tools, list) and all(
        isinstance(tool, Mapping)
        and isinstance(tool.get("name"), str)
        and isinstance(tool.get("input_schema"), Mapping)
        for tool in tools
    )
