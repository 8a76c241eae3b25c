"""The native route: a request as its client sent it, and the upstream's own answer."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import orjson

from llama_stack_messages_provider.adaptation.adaptations import native_adaptations_for
from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.loop import Adapter, NativeDraft, apply_change
from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.engines import ENGINES
from llama_stack_messages_provider.errors import MessagesError
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
        memory: What is known of models.
    """

    def __init__(self, messages: NativeMessages, key: bytes, error_marker: str, memory: AdaptationMemory) -> None:
        self._messages = messages
        self._key = key
        self._error_marker = error_marker
        self._memory = memory

    async def complete(self, raw: bytes | None, request: Mapping[str, Any], state: RouteState) -> bytes:
        """A whole message, as the upstream wrote it wherever that is right.

        Args:
            raw: The request's bytes; None if it was rewritten.
            request: Its JSON.
            state: The way that it goes, which is native.

        Raises:
            NativeMissingError: There is no such endpoint.
            MessagesError: The upstream's refusal or failure.
        """
        plan, draft = _native(state), self._draft(raw, request, state)
        answer = await draft.adapter.run(
            draft, lambda: self._messages.complete(plan.endpoint, self._body(draft, plan), state.headers)
        )
        state.drop(draft.dropped)
        return renamed(answer, request["model"], plan.capability.engine, self._signer(plan))

    def stream(
        self, raw: bytes | None, request: Mapping[str, Any], state: RouteState, start: LateMessageStart
    ) -> AsyncGenerator[bytes]:
        """The events of a streamed message, each piece ending at an event's end; otherwise as `complete`.

        It is sent once. After a refusal `adapt` changes it, and the next call sends what it became; a generator around
        this one that does so would cost some of each small event.
        """
        plan = _native(state)
        if state.draft is None:
            state.draft = self._draft(raw, request, state)
        return self._messages.stream(
            plan.endpoint,
            self._body(state.draft, plan),
            state.headers,
            engine=plan.capability.engine,
            client_model=request["model"],
            sign=self._signer(plan),
            start=start,
        )

    def adapt(self, state: RouteState, refused: MessagesError) -> bool:
        """Change what is streamed as its refusal asks for; false if no change is left."""
        if state.draft is None:
            return False
        try:
            state.draft.adapter.adapt(state.draft, refused)
        except MessagesError:
            return False
        state.drop(state.draft.dropped)
        return True

    async def count(self, raw: bytes | None, request: Mapping[str, Any], state: RouteState) -> Count:
        """The upstream's own count of a request's tokens; raises as `complete` does."""
        plan, draft = _native(state), self._draft(raw, request, state)
        answer = await draft.adapter.run(
            draft,
            lambda: self._messages.complete(plan.endpoint, self._body(draft, plan), state.headers, path=_COUNT_PATH),
        )
        counted = answer.json()
        if not isinstance(counted, dict) or type(counted.get("input_tokens")) is not int:
            raise NativeMissingError("The upstream's count is not understood")
        return Count(counted["input_tokens"], "native")

    def _draft(self, raw: bytes | None, request: Mapping[str, Any], state: RouteState) -> NativeDraft:
        """What is sent, changed as its model is known to need it."""
        plan = _native(state)
        # What Anthropic itself refuses is its client's to know.
        candidates = _nothing if ENGINES[plan.capability.engine].native.first_party else native_adaptations_for
        upstream, model = plan.scope
        adapter = Adapter(self._memory, (f"{upstream}/v1/messages", model), candidates)
        draft = NativeDraft(orjson.dumps(request) if raw is None else raw, dict(request), adapter, state.strict)
        for change in self._memory.changes(adapter.scope):
            if not (state.strict and change.dropped(draft.params)):
                apply_change(change, draft)
        state.drop(draft.dropped)
        return draft

    def _body(self, draft: NativeDraft, plan: NativePlan) -> bytes:
        return native_body(
            draft.body(),
            draft.params,
            model=plan.target.upstream_model,
            engine=plan.capability.engine,
            error_marker=self._error_marker,
        )

    def _signer(self, plan: NativePlan) -> Signer:
        return Signer(self._key, plan.target.identifier)


def _native(state: RouteState) -> NativePlan:
    assert isinstance(state.plan, NativePlan)
    return state.plan


def _nothing(refusal: Refusal, request: Mapping[str, Any]) -> Iterator[Change]:
    return iter(())
