"""The MCP servers of a request: which may be used, what they list, and their tools as the loop runs them."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cachetools import TTLCache

from llama_stack_messages_provider.config import McpConfig
from llama_stack_messages_provider.documents.fetch import allowing
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.errors import InvalidRequestError
from llama_stack_messages_provider.findings import Problem
from llama_stack_messages_provider.host.access import AccessRule
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.mcp import RegisteredServer, registered_servers
from llama_stack_messages_provider.server_tools.mcp.addresses import AllowedServers
from llama_stack_messages_provider.server_tools.mcp.blocks import (
    RESULT,
    USE,
    error_block,
    listing_block,
    plain_result,
    result_block,
    result_texts,
)
from llama_stack_messages_provider.server_tools.mcp.definitions import Listing, McpServer, Toolset, toolsets_of
from llama_stack_messages_provider.server_tools.mcp.guarded_http import Resolve, public_addresses
from llama_stack_messages_provider.server_tools.mcp.names import custom_name
from llama_stack_messages_provider.server_tools.mcp.session import Endpoint, McpSession, ServerFailedError, listed
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult, ServerTool

__all__ = ["McpConnector", "McpTools", "openings", "tells_listings"]

logger = get_logger(name=__name__, category="providers")

# Since this version of the connector an answer begins with the listings that were asked for.
_LISTINGS_SINCE = "mcp-client-2026-09-15"
_VERSION = re.compile(r"mcp-client-\d{4}-\d\d-\d\d")
_UNAUTHORIZED = frozenset({401, 403})
_CACHED_CHARACTERS = 32 * 1024 * 1024


class McpConnector:
    """Opens the MCP servers of requests.

    Args:
        config: Which servers clients may name, and what they may cost.
        tools: The stack's tool runtime API, whose tool groups may be MCP servers; None if it has none.
        connectors: The stack's connectors API, if it has one.
        policy: The host's access policy.
    """

    def __init__(
        self, config: McpConfig, tools: Any = None, connectors: Any = None, policy: Sequence[AccessRule] = ()
    ) -> None:
        self._config = config
        self._known = partial(registered_servers, tools, connectors, policy)
        self._allowed = AllowedServers(config.allow)
        self._resolve: Resolve = partial(public_addresses, allowing(config.networks))
        self._listings: TTLCache[str, Listing] = TTLCache(
            _CACHED_CHARACTERS, config.listed_seconds, getsizeof=lambda tools: len(str(tools))
        )

    async def open(
        self, request: Mapping[str, Any], taken: Set[str], dropped: DroppedFields
    ) -> dict[str, "McpTools | None"]:
        """The tools of a request's servers, by the paths of its toolsets; None is one to be left out. Empty if no
        server can be used.

        Args:
            request: The request, not necessarily a valid one.
            taken: Names of its other tools.
            dropped: Takes the servers that may not be used here.

        Raises:
            InvalidRequestError: A definition is not as Anthropic documents it, or a server does not list its tools.
        """
        toolsets = toolsets_of(request, most_servers=self._config.servers)
        if not toolsets:
            return {}
        known = await self._known()
        endpoints = [self._endpoint(toolset.server, known) for toolset in toolsets]
        if not any(endpoints):
            return {}
        for toolset, endpoint in zip(toolsets, endpoints, strict=True):
            if endpoint is None:
                dropped.drop(toolset.server.path, "it is not a server that may be used here")
        opened = await asyncio.gather(
            *(self._opened(toolset, endpoint, taken) for toolset, endpoint in zip(toolsets, endpoints, strict=True))
        )
        return {toolset.path: tools for toolset, tools in zip(toolsets, opened, strict=True)}

    async def kept_in_batches(self) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
        """What makes of a request of the current user what may be kept for later: tokens are not kept, and only the
        stack's own servers are called. It raises an `InvalidRequestError` with the path of the field.
        """
        return partial(_kept_for_batch, await self._known(), self._allowed)

    async def session(self, name: str, *, seconds: float) -> McpSession | None:
        """A session with a server of the stack's own, not opened yet; None if the current user has no such server.

        Args:
            name: The id of its tool group or connector.
            seconds: For one answer to begin, or to go on.
        """
        known = await self._known()
        endpoint = self._endpoint(McpServer(name, name), known) if name in known else None
        return McpSession(replace(endpoint, seconds=seconds)) if endpoint is not None else None

    async def run_by(self) -> str | None:
        """Which servers the current user can have called, in words; None if there are none."""
        known = await self._known()
        words = [f"the stack's own: {', '.join(sorted(known))}"] if known else []
        words += [f"those at {', '.join(self._config.allow)}"] if self._config.allow else []
        return "; ".join(words) or None

    async def problems(self) -> list[Problem]:
        """Servers of the stack's own that do not list their tools; each is asked."""
        known = await self._known()
        found = await asyncio.gather(*(self._problem(McpServer(name, name)) for name in sorted(known)))
        return [problem for problem in found if problem is not None]

    async def _problem(self, server: McpServer) -> Problem | None:
        endpoint = self._endpoint(server, await self._known())
        try:
            if endpoint is not None:
                await listed(endpoint, most=self._config.tools, seconds=min(5.0, self._config.listing_seconds))
        except ServerFailedError as exc:
            what = f"The MCP server {server.name!r} does not list its tools: {exc}"
            return Problem("warning", what, "Requests that use it are refused. Its token goes under `mcp.tokens`.")
        return None

    def _endpoint(self, server: McpServer, known: Mapping[str, RegisteredServer]) -> Endpoint | None:
        """Where a server is; None if it may not be used."""
        most, seconds = self._config.answer_bytes, self._config.seconds
        if (found := _registered(server, known)) is not None:
            secret = self._config.tokens.get(found.name)
            token = server.token or (secret.get_secret_value() if secret else None)
            return Endpoint(found.url, token, None, most, seconds)
        if self._allowed.allows(server.url):
            return Endpoint(server.url, server.token, self._resolve, most, seconds)
        return None

    async def _opened(self, toolset: Toolset, endpoint: Endpoint | None, taken: Set[str]) -> "McpTools | None":
        if endpoint is None:
            return None
        asked = toolset.pinned is None
        listing = await self._listed(toolset.server, endpoint) if toolset.pinned is None else toolset.pinned
        return McpTools(toolset, listing, McpSession(endpoint), taken, self._config, asked=asked)

    async def _listed(self, server: McpServer, endpoint: Endpoint) -> Listing:
        key = hashlib.sha256(f"{endpoint.resolve is None} {endpoint.token} {endpoint.url}".encode()).hexdigest()
        if (known := self._listings.get(key)) is not None:
            return known
        try:
            tools = await listed(endpoint, most=self._config.tools, seconds=self._config.listing_seconds)
        except ServerFailedError as exc:
            if exc.status in _UNAUTHORIZED:
                raise InvalidRequestError(
                    f"{server.path}.authorization_token: Invalid authorization token for MCP server {server.name!r}. "
                    "Please check your token and try again."
                ) from exc
            raise InvalidRequestError(
                f"{server.path}.url: MCP server {server.name!r} does not list its tools: {exc}"
            ) from exc
        if len(str(tools)) <= self._listings.maxsize:
            self._listings[key] = tools
        return tools


def _kept_for_batch(
    known: Mapping[str, RegisteredServer], allowed: AllowedServers, request: Mapping[str, Any]
) -> Mapping[str, Any]:
    servers = request.get("mcp_servers")
    if not isinstance(servers, list):
        return request
    return {**request, "mcp_servers": [_kept(known, allowed, each, index) for index, each in enumerate(servers)]}


def _kept(known: Mapping[str, RegisteredServer], allowed: AllowedServers, given: Any, index: int) -> Any:
    """An entry of `mcp_servers` as it may be kept for later."""
    path = f"mcp_servers.{index}"
    if not isinstance(given, Mapping):
        raise InvalidRequestError(f"{path}: Input should be an object")
    server = McpServer(str(given.get("name")), path, str(given.get("url") or ""))
    is_known = _registered(server, known) is not None
    if not (is_known or allowed.allows(server.url)):  # it is left out of any request
        return {name: value for name, value in given.items() if name != "authorization_token"}
    if given.get("authorization_token") is not None:
        raise InvalidRequestError(f"{path}.authorization_token: a batch keeps no tokens")
    if not is_known:
        raise InvalidRequestError(f"{path}.url: a batch can use only MCP servers that the stack knows")
    return given


def _registered(server: McpServer, known: Mapping[str, RegisteredServer]) -> RegisteredServer | None:
    """The server of the stack's own that a request means: by its name alone, or by its address."""
    if (found := known.get(server.name)) is not None and server.url in ("", found.url):
        return found
    return next((each for each in known.values() if each.url == server.url), None)


@dataclass(slots=True)
class McpTools:
    """The offered tools of one server: a `ServerTool`.

    Args:
        toolset: What the request says of them.
        listing: What the server lists.
        session: Calls it.
        taken: Names of the request's other tools.
        config: What a call may cost.
        asked: Whether the server was asked for the listing.
    """

    toolset: Toolset
    listing: Listing
    session: McpSession
    taken: Set[str]
    config: McpConfig
    asked: bool
    definitions: Sequence[dict[str, Any]] = field(init=False)
    usage_field: str = field(default="mcp_requests", init=False)
    _names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        offered = [(self._custom_name(tool["name"]), tool, deferred) for tool, deferred in self._offered()]
        self._names = {name: tool["name"] for name, tool, _ in offered}
        self.definitions = [
            {
                "name": name,
                **({"description": tool["description"]} if tool.get("description") else {}),
                "input_schema": {**tool["input_schema"], "type": "object"},
                **({"defer_loading": True} if deferred else {}),
            }
            for name, tool, deferred in offered
        ]

    def _offered(self) -> Any:
        return self.toolset.offered(self.listing)

    def _custom_name(self, tool: str) -> str:
        return custom_name(self.toolset.server.name, tool, self.taken)

    @property
    def opening(self) -> dict[str, Any] | None:
        """The block that records the listing; None if it was not asked for."""
        return listing_block(self.toolset.server.name, self.listing) if self.asked else None

    def call_fields(self, name: str) -> dict[str, Any]:
        """The fields of a call's block."""
        return {"type": USE, "name": self._names[name], "server_name": self.toolset.server.name}

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """The result of a call that is not made."""
        if "_unparsed" in call["input"]:
            return error_block(call["id"], "The input of the call is not a JSON object.")
        return None

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the tool answers; a failure is a result that says so."""
        try:
            async with asyncio.timeout(self.config.seconds):
                result = await self.session.call(call["name"], call["input"])
            texts = result_texts(result, most_characters=self.config.characters)
            return result_block(call["id"], texts, is_error=result.get("isError") is True)
        except TimeoutError:
            reason = f"it did not answer within {self.config.seconds:g} s"
        except ServerFailedError as exc:
            reason = str(exc)
        except Exception as exc:  # a server may answer anything, and no tool ends a message
            reason = "its answer is not understood"
            logger.warning("A call of an MCP tool failed", error=type(exc).__name__)
        return error_block(call["id"], f"The MCP server {self.toolset.server.name!r} failed: {reason}"[:2000])

    async def close(self) -> None:
        """End the session."""
        await self.session.close()

    def custom_name(self, block: Block) -> str | None:
        """The custom tool, if a block is a call of this server's."""
        name, server = block.get("name"), block.get("server_name")
        if block.get("type") != USE or server != self.toolset.server.name or not isinstance(name, str):
            return None
        return self._custom_name(name)

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """What the model reads for a result."""
        return plain_result(block) if block.get("type") == RESULT else None


def tells_listings(headers: Mapping[str, str], request: Mapping[str, Any]) -> bool:
    """Whether a client wants to be told what servers list: by its `anthropic-beta`, or by the field `betas`."""
    betas = request.get("betas")
    named = [headers.get("anthropic-beta", ""), *(map(str, betas) if isinstance(betas, list) else ())]
    return any(version >= _LISTINGS_SINCE for version in _VERSION.findall(",".join(named)))


def openings(tools: Iterable[ServerTool]) -> list[dict[str, Any]]:
    """The blocks that a message with these tools begins with."""
    return [block for tool in tools if isinstance(tool, McpTools) and (block := tool.opening) is not None]
