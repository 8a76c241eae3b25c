"""What goes down a route, made of what its client sent."""

import asyncio
from typing import Any

from llama_stack_messages_provider.documents.resolve import Documents
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.routing.offload import Offload
from llama_stack_messages_provider.routing.plan import NativePlan
from llama_stack_messages_provider.routing.state import RouteState, client_name
from llama_stack_messages_provider.server_tools.plain import plain_request
from llama_stack_messages_provider.wire.base import WireModel
from llama_stack_messages_provider.wire.request import CreateMessageRequest
from llama_stack_messages_provider.wire.validation import validate_in_steps

__all__ = ["Preparer"]


class Preparer:
    """Makes of a client's request what goes down its route.

    Args:
        documents: Puts text in the place of documents.
        offload: Works on large requests.
    """

    def __init__(self, documents: Documents, offload: Offload) -> None:
        self._documents = documents
        self.offload = offload

    async def prepare(
        self,
        request: dict[str, Any],
        raw: bytes,
        state: RouteState,
        kind: type[WireModel] = CreateMessageRequest,
        client: str | None = None,
    ) -> dict[str, Any]:
        """The request for the planned route; the client's own object where nothing is to be changed.

        What is rewritten or translated, or has tools that are run here, has been validated, and its documents read; of
        anything else a native upstream is the judge. Server tools become custom tools.

        Args:
            request: The client's request.
            raw: Its bytes.
            state: How it goes; takes what is dropped.
            kind: What it is.
            client: Where it came from: who has no name is one client for each address.

        Raises:
            InvalidRequestError: It is not valid, or would lose something in strict mode.
        """
        plan, dropped = state.plan, DroppedFields(strict=state.strict)
        rewrites = plan.rewrites if isinstance(plan, NativePlan) else None
        if rewrites is None or rewrites or plan.server_tools:
            request = await _validated(kind, request, raw)
        if rewrites is None or "document" in rewrites:
            files = plan.dialect.files and rewrites is None
            request = await self._documents.resolve(request, body=raw, files=files, client=client_name() or client)
        if plan.server_tools:
            request = await self.offload.run(state.size, plain_request, request, plan.server_tools, dropped)
        state.drop(dropped.names)
        return request

    def close(self) -> None:
        """End the reading of documents, and what is done beside the loop."""
        self._documents.close()
        self.offload.close()


async def _validated(kind: type[WireModel], request: dict[str, Any], raw: bytes) -> dict[str, Any]:
    """The request without its nulls; others go on while a large one is looked at."""
    steps = validate_in_steps(kind, request, size=len(raw), has_null=b"null" in raw)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return dict(done.value)
        await asyncio.sleep(0)
