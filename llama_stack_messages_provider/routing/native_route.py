"""The native route: a request as its client sent it, and the upstream's own answer."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.native.request import native_body
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.routing.plan import NativePlan
from llama_stack_messages_provider.routing.state import RouteState
from llama_stack_messages_provider.upstream.messages import NativeMessages, NativeMissingError, renamed
from llama_stack_messages_provider.upstream.token_counts import Count

__all__ = ["NativeRoute"]

_COUNT_PATH = "/v1/messages/count_tokens"


class NativeRoute:
    """Passes requests through.

    Args:
        messages: Sends them.
        key: Signs thinking blocks that an upstream left without a signature.
        error_marker: Put before a tool result whose `is_error` is true, for engines that do not show it.
    """

    def __init__(self, messages: NativeMessages, key: bytes, error_marker: str) -> None:
        self._messages = messages
        self._key = key
        self._error_marker = error_marker

    async def complete(self, raw: bytes, request: Mapping[str, Any], state: RouteState) -> bytes:
        """A whole message, as the upstream wrote it wherever that is right.

        Args:
            raw: The request's bytes.
            request: Its JSON.
            state: The way that it goes, which is native.

        Raises:
            NativeMissingError: There is no such endpoint.
            MessagesError: The upstream's refusal or failure.
        """
        plan = _native(state)
        answer = await self._messages.complete(plan.endpoint, self._body(raw, request, plan), state.headers)
        return renamed(answer, request["model"], plan.capability.engine, self._signer(plan))

    def stream(
        self, raw: bytes, request: Mapping[str, Any], state: RouteState, start: LateMessageStart
    ) -> AsyncGenerator[bytes]:
        """The events of a streamed message, each piece ending at an event's end; otherwise as `complete`."""
        plan = _native(state)
        return self._messages.stream(
            plan.endpoint,
            self._body(raw, request, plan),
            state.headers,
            engine=plan.capability.engine,
            client_model=request["model"],
            sign=self._signer(plan),
            start=start,
        )

    async def count(self, raw: bytes, request: Mapping[str, Any], state: RouteState) -> Count:
        """The upstream's own count of a request's tokens; raises as `complete` does."""
        plan = _native(state)
        body = self._body(raw, request, plan)
        answer = (await self._messages.complete(plan.endpoint, body, state.headers, path=_COUNT_PATH)).json()
        if not isinstance(answer, dict) or type(answer.get("input_tokens")) is not int:
            raise NativeMissingError("The upstream's count is not understood")
        return Count(answer["input_tokens"], "native")

    def _body(self, raw: bytes, request: Mapping[str, Any], plan: NativePlan) -> bytes:
        return native_body(
            raw,
            request,
            model=plan.target.upstream_model,
            engine=plan.capability.engine,
            error_marker=self._error_marker,
        )

    def _signer(self, plan: NativePlan) -> Signer:
        return Signer(self._key, plan.target.identifier)


def _native(state: RouteState) -> NativePlan:
    assert isinstance(state.plan, NativePlan)
    return state.plan
