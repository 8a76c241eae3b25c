"""Conversations that a server is asked to keep, of which it is then sent the new turns only.

Nothing but Anthropic's API keeps any. A wish to keep one does no harm; but whoever ignored that a request goes on with
one would answer a turn without its history. So that is refused, in the words upon which the SDK sends the conversation
whole: its tool runners wish for a thread by default.

Source: `anthropic.types.shared.error_details`, `anthropic.lib.threads`.
"""

from collections.abc import Mapping
from typing import Any

from llama_stack_messages_provider.errors import InvalidRequestError, NotFoundError
from llama_stack_messages_provider.wire.validation import goes_on_with_thread

__all__ = ["reject_server_thread"]

_LOST = "thread: conversations are not kept here; send the whole conversation"


def reject_server_thread(request: Mapping[str, Any], *, strict: bool = False) -> None:
    """Refuse what cannot be without a thread.

    Args:
        request: A request.
        strict: Refuse the wish for one too.

    Raises:
        NotFoundError: The request goes on with a conversation.
        InvalidRequestError: In strict mode, it wants one kept.
    """
    if goes_on_with_thread(request):
        raise NotFoundError(_LOST, details={"error_code": "thread_not_found"})
    if request.get("thread") and strict:
        text = "thread: cannot be honoured (conversations are not kept), and strict mode is on"
        raise InvalidRequestError(text, details={"error_code": "thread_unsupported_request"})
