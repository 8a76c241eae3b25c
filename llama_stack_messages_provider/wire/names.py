"""Names of Anthropic's dialect that the server and its commands both use; nothing is imported for them."""

__all__ = ["API_VERSION", "CLAUDE_PREFIX"]

API_VERSION = "2023-06-01"
"""The one version of the API that there is, for the header `anthropic-version`."""

CLAUDE_PREFIX = "claude/"
"""Before a name it is the same name: Claude Code lists no others, and lets nobody set the window of those it knows."""
