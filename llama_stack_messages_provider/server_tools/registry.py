"""The server tools that a stack runs."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol

from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.server_tools.plain import server_tool_definitions
from llama_stack_messages_provider.server_tools.tool import ServerTool, ServerToolType

__all__ = ["ServerTools"]


class OpensServers(Protocol):
    """What a request's MCP servers offer."""

    async def open(
        self, request: Mapping[str, Any], taken: Set[str], dropped: DroppedFields
    ) -> Mapping[str, ServerTool | None]:
        """Their tools, by the paths of their definitions: see `ServerTools.open`.

        Args:
            request: The request.
            taken: Names of its other tools.
            dropped: Takes servers that may not be used.
        """
        ...


class ServerTools:
    """Finds the tools of a request that are run here.

    Args:
        types: Those that the stack can run.
        servers: Opens the MCP servers of a request; None if none are.
    """

    def __init__(self, types: Sequence[ServerToolType], servers: "OpensServers | None" = None) -> None:
        self._types = types
        self._servers = servers

    async def open(self, request: Mapping[str, Any], dropped: DroppedFields) -> dict[str, ServerTool | None]:
        """The tools of a request that are run here, by the paths of their definitions; None is one to be left out.

        Args:
            request: The request, not necessarily a valid one.
            dropped: Takes tools whose name another tool has.

        Raises:
            InvalidRequestError: A definition is not as Anthropic documents it.
        """
        definitions = [*server_tool_definitions(request)]
        types = {path: found for path, each in definitions if (found := self._type_of(each)) is not None}
        others = (each.get("name") for path, each in definitions if path not in types)
        names = {name for name in others if isinstance(name, str)}
        opened: dict[str, ServerTool | None] = {}
        for path, definition in definitions:
            if path not in types or not await types[path].available():
                continue
            tool = await types[path].open(definition, path, dropped)
            offered = {each["name"] for each in tool.definitions}
            if offered & names:
                dropped.drop(path, "another tool has the same name")
            opened[path] = None if offered & names else tool
            names |= offered
        if self._servers is not None:
            opened |= await self._servers.open(request, names, dropped)
        return opened

    def _type_of(self, definition: Mapping[str, Any]) -> ServerToolType | None:
        return next((kind for kind in self._types if kind.defines(definition)), None)
