"""What goes down a route, made of what its client sent."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from llama_stack_messages_provider.batches.identity import current_identity
from llama_stack_messages_provider.documents.resolve import Documents
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.rewriting import RewriteOptions, Rewritten, rewrite
from llama_stack_messages_provider.rewriting.call_ids import MARK
from llama_stack_messages_provider.rewriting.signatures import CARRYING, Signer
from llama_stack_messages_provider.routing.offload import Offload
from llama_stack_messages_provider.routing.plan import NativePlan
from llama_stack_messages_provider.routing.state import RouteState
from llama_stack_messages_provider.server_tools.plain import plain_request
from llama_stack_messages_provider.wire.base import WireModel
from llama_stack_messages_provider.wire.models import CreateMessageRequest
from llama_stack_messages_provider.wire.sse import SSEDecoder, encode
from llama_stack_messages_provider.wire.validation import validate_in_steps

__all__ = ["Preparer", "restored_events", "restored_message"]


_CARRIED = {"carried_id": MARK.encode(), "carried_thinking": f'"{CARRYING}'.encode()}


class Preparer:
    """Makes of a client's request what goes down its route.

    Args:
        documents: Puts text in the place of documents.
        offload: Works on large requests.
        error_marker: Put before a tool result whose `is_error` is true.
        key: Signed what earlier answers carry.
    """

    def __init__(self, documents: Documents, offload: Offload, error_marker: str, key: bytes) -> None:
        self._documents = documents
        self._offload = offload
        self._error_marker = error_marker
        self._key = key

    async def prepare(
        self, request: dict[str, Any], raw: bytes, state: RouteState, kind: type[WireModel] = CreateMessageRequest
    ) -> dict[str, Any]:
        """The request for the planned route; the client's own object where nothing is to be changed.

        What is rewritten or translated has been validated, and its documents read; of anything else a native upstream
        is the judge. Server tools become custom tools.

        Args:
            request: The client's request.
            raw: Its bytes.
            state: How it goes; takes what is dropped.
            kind: What it is.

        Raises:
            InvalidRequestError: It is not valid, or would lose something in strict mode.
        """
        plan, dropped = state.plan, DroppedFields(strict=state.strict)
        state.rewritten = None
        rewrites = _rewrites(plan, raw) if isinstance(plan, NativePlan) else None
        if rewrites is None or rewrites:
            request = await _validated(kind, request, raw)
        if rewrites is None or "document" in rewrites:
            files = plan.dialect.files and rewrites is None
            request = await self._documents.resolve(request, body=raw, files=files, client=_client())
        if plan.server_tools:
            request = await self._offload.run(state.size, plain_request, request, plan.server_tools, dropped)
        if rewrites:
            # In its place, a system turn leaves the prompt before it as it was.
            signer = Signer(self._key, plan.target.identifier)
            options = RewriteOptions(self._error_marker, system_turns="user", signer=signer)
            rewritten = await self._offload.run(
                state.size, rewrite, request, lacks=rewrites, options=options, dropped=dropped
            )
            state.rewritten = rewritten if rewritten.restored else None
            request = dict(rewritten.request)
        state.drop(dropped.names)
        return request

    def close(self) -> None:
        """End the reading of documents, and what is done beside the loop."""
        self._documents.close()
        self._offload.close()


def _rewrites(plan: NativePlan, raw: bytes) -> frozenset[str]:
    """What a native request is rewritten for: what its endpoint lacks, and what earlier answers carry, which were
    translated. Anthropic's own endpoint gets nothing of what another engine's answer carries.
    """
    if ENGINES[plan.capability.engine].native.first_party:
        return plan.rewrites
    carried = {name for name, mark in _CARRIED.items() if mark in raw}
    return plan.rewrites | carried | {"reasoning_details"} if carried else plan.rewrites


async def _validated(kind: type[WireModel], request: dict[str, Any], raw: bytes) -> dict[str, Any]:
    """The request without its nulls; others go on while a large one is looked at."""
    steps = validate_in_steps(kind, request, size=len(raw), has_null=b"null" in raw)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return dict(done.value)
        await asyncio.sleep(0)


def _client() -> str | None:
    """Whose request it is, if that is known."""
    identity = current_identity()
    return identity.principal or None if identity else None


# --- the way back ---


def restored_message(message: Mapping[str, Any], rewritten: Rewritten) -> dict[str, Any]:
    """A native upstream's message with the blocks that its client knows."""
    return {**message, "content": [rewritten.restore_block(block) for block in message["content"]]}


async def restored_events(events: AsyncGenerator[bytes], rewritten: Rewritten) -> AsyncGenerator[bytes]:
    """A native upstream's events with the blocks that its client knows."""
    decoder = SSEDecoder()
    async with aclosing(events):
        async for piece in events:
            if b"content_block_start" not in piece:
                yield piece
                continue
            yield b"".join(_restored_event(each.data, each.frame(), rewritten) for each in decoder.decode(piece))


def _restored_event(data: bytes, frame: bytes, rewritten: Rewritten) -> bytes:
    event = orjson.loads(data)
    block = event.get("content_block")
    found = rewritten.restore_block(block) if isinstance(block, dict) else block
    return frame if found is block else encode({**event, "content_block": found})
