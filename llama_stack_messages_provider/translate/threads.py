"""Conversations that a server is asked to keep, of which it would then be sent the new turns only.

Nothing but Anthropic's API keeps any. Whoever ignores the wish is next sent a turn without its history, so it is
refused in the words that make the SDK send conversations whole: its tool runners wish for a thread by default.

Source: `anthropic.types.ThreadUnsupportedRequestErrorDetails`.
"""

from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.api.errors import InvalidRequestError

__all__ = ["refuse_thread"]


def refuse_thread(request: Mapping[str, Any]) -> None:
    """Raise `InvalidRequestError` if a request wants its conversation kept, or goes on with one that was."""
    if request.get("thread"):
        text = "thread: conversations are not kept here; send the whole conversation without it"
        raise InvalidRequestError(text, details={"error_code": "thread_unsupported_request"})
