"""Names of Anthropic's dialect that the server and its commands both use; nothing is imported for them."""

from typing import Any

__all__ = ["API_VERSION", "CLAUDE_PREFIX", "without_fields"]

API_VERSION = "2023-06-01"
"""The one version of the API that there is, for the header `anthropic-version`."""

CLAUDE_PREFIX = "claude/"
"""Before a name it is the same name: Claude Code lists no others, and lets nobody set the window of those it knows."""


def without_fields(request: dict[str, Any], *names: str) -> dict[str, Any]:
    """A request without some of its fields; itself if it has none of them."""
    if request.keys().isdisjoint(names):
        return request
    return {name: value for name, value in request.items() if name not in names}
