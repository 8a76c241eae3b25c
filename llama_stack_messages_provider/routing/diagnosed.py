"""Answers that tell why their prompt could not be read from a cache, for clients that ask for `diagnostics`."""

from collections.abc import Awaitable
from typing import Any

from llama_stack_messages_provider.cache_diagnostics.diagnostics import CacheDiagnostics, Compared, asked_of
from llama_stack_messages_provider.cache_diagnostics.fingerprint import fingerprint
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.routing.offload import Offload
from llama_stack_messages_provider.routing.opened_stream import OpenedStream, opened, pieces_of
from llama_stack_messages_provider.routing.plan import is_first_party
from llama_stack_messages_provider.routing.state import RouteState, client_name

__all__ = ["compared_request", "diagnosed"]


async def compared_request(
    caches: CacheDiagnostics, offload: Offload, request: dict[str, Any], state: RouteState
) -> Compared | None:
    """A request beside the one before it; None if its client asks for nothing, or Anthropic's own endpoint does it.

    Args:
        caches: Remembers requests.
        offload: Works on large ones.
        request: The client's JSON.
        state: The way that it goes.

    Raises:
        InvalidRequestError: `diagnostics` is not as documented.
    """
    if "diagnostics" not in request or is_first_party(state.plan):
        return None
    if (asked := asked_of(request)) is None:
        return None
    target = state.plan.target
    found = await offload.run(state.size, fingerprint, request, target.replica_of or target.identifier)
    return await caches.compared(asked, found, client_name(), lambda: _replica(state))


def _replica(state: RouteState) -> str:
    """The replica that a request goes to; empty where its model has one place only."""
    target = state.plan.target
    return target.identifier if target.replica_of else ""


async def diagnosed(
    compared: Compared | None, opening: Awaitable[OpenedStream], start: LateMessageStart
) -> OpenedStream:
    """The events of a message, with what is told of its prompt's cache if it was compared.

    Args:
        compared: What is told; None is nothing.
        opening: Opens the stream.
        start: Whether its `message_start` was sent.
    """
    if compared is None:
        return await opening
    start.diagnostics = compared.told
    stream = await opening
    start.diagnostics = compared.told  # another replica may have been asked
    return await opened(compared.events(pieces_of(stream), start))
