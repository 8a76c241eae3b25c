"""Names of custom tools for the tools of MCP servers: valid for every engine, and never the same for two tools. Pure.

A name depends on nothing but the server's and the tool's, so that it stays the same from turn to turn whatever else is
offered; only a tool of the client's that has the name already changes it.
"""

import hashlib
import re
from collections.abc import Container

__all__ = ["MOST", "custom_name"]

MOST = 64
"""Characters of a name: OpenAI's limit, the smallest."""

_DIGEST = 10
_OTHERS = re.compile(r"[^A-Za-z0-9_-]+")
# The first two underscores of a plain name end the server's: it has none of them, nor one at its end.
_SERVER = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*")
_TOOL = re.compile(r"[A-Za-z0-9_-]+")


def custom_name(server: str, tool: str, taken: Container[str] = ()) -> str:
    """The name of the custom tool for a tool of a server.

    Args:
        server: The server's name in the request.
        tool: The tool's name on that server.
        taken: Names of the request's other tools.
    """
    name = f"mcp__{server}__{tool}"
    if len(name) <= MOST and _SERVER.fullmatch(server) and _TOOL.fullmatch(tool) and name not in taken:
        return name
    digest = hashlib.sha256(f"{len(server)}:{server}{tool}".encode(errors="replace")).hexdigest()[:_DIGEST]
    return f"{_OTHERS.sub('_', name)[: MOST - _DIGEST - 1]}_{digest}"
