"""The native route: a request as its client sent it, and the upstream's own answer."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import orjson

from llama_stack_messages_provider.adaptation.adaptations import native_adaptations_for
from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.changes import Translate
from llama_stack_messages_provider.adaptation.loop import Adapter, any_change, apply_change
from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.adaptation.refusals import Refusal
from llama_stack_messages_provider.adaptation.room import FitWindow, may_exceed
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.native.request import dumped_with_model, with_model
from llama_stack_messages_provider.rewriting import RewriteOptions, Rewritten, marked_features, rewrite_native
from llama_stack_messages_provider.rewriting.context_edits import changes_nothing
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.routing.offload import Offload
from llama_stack_messages_provider.routing.opened_stream import OpenedStream, opened
from llama_stack_messages_provider.routing.plan import NativePlan, Plan
from llama_stack_messages_provider.routing.state import RouteState, client_name
from llama_stack_messages_provider.upstream.messages import NativeMessages, NativeMissingError, renamed
from llama_stack_messages_provider.upstream.token_counts import Count
from llama_stack_messages_provider.wire.sse import SSEDecoder, encode
from llama_stack_messages_provider.wire.token_estimate import measured

__all__ = ["NativeRoute"]

_COUNT_PATH = "/v1/messages/count_tokens"


class NativeRoute:
    """Passes requests through, rewritten where their engine needs it.

    Args:
        messages: Sends them.
        key: Signs thinking blocks that an upstream left without a signature.
        error_marker: Put before a tool result whose `is_error` is true, for engines that do not show it.
        memory: What is known of models.
        offload: Works on large requests.
    """

    def __init__(
        self, messages: NativeMessages, key: bytes, error_marker: str, memory: AdaptationMemory, offload: Offload
    ) -> None:
        self._messages = messages
        self._key = key
        self._error_marker = error_marker
        self._memory = memory
        self._offload = offload

    async def complete(self, raw: bytes | None, request: Mapping[str, Any], state: RouteState) -> dict[str, Any]:
        """A whole message; a `PassedMessage` wherever it is right as the upstream wrote it.

        Args:
            raw: The request's bytes; None if they are not what is asked for.
            request: Its JSON.
            state: The way that it goes, which is native.

        Raises:
            NativeMissingError: There is no such endpoint.
            TranslateInsteadError: It refuses what a translation words otherwise.
            MessagesError: The upstream's refusal or failure.
        """
        plan, draft = _native(state), await self._draft(raw, request, state)
        headers = _headers(state)
        answer = await draft.send(lambda: self._messages.complete(plan.endpoint, draft.body(), headers), state)
        message = renamed(answer, request["model"], plan.capability.engine, self._signer(plan))
        return _restored_message(message, draft.rewritten) if draft.rewritten.restored else message

    async def open(
        self, raw: bytes | None, request: Mapping[str, Any], state: RouteState, start: LateMessageStart
    ) -> OpenedStream:
        """The events of a streamed message, each piece ending at an event's end; otherwise as `complete`."""
        plan, draft = _native(state), await self._draft(raw, request, state)

        async def begin() -> OpenedStream:
            events = self._messages.stream(
                plan.endpoint,
                draft.body(),
                _headers(state),
                engine=plan.capability.engine,
                client_model=request["model"],
                sign=self._signer(plan),
                start=start,
            )
            rewritten = draft.rewritten
            return await opened(_restored_events(events, rewritten.way_back) if rewritten.restored else events)

        return await draft.send(begin, state)

    async def count(self, raw: bytes | None, request: Mapping[str, Any], state: RouteState) -> Count:
        """The upstream's own count of a request's tokens; raises as `complete` does."""
        plan, draft = _native(state), await self._draft(raw, request, state)
        answer = await draft.send(
            lambda: self._messages.complete(plan.endpoint, draft.body(), state.headers, path=_COUNT_PATH), state
        )
        counted = answer.json()
        if not isinstance(counted, dict) or type(counted.get("input_tokens")) is not int:
            raise NativeMissingError("The upstream's count is not understood")
        prompt = await self._offload.run(state.size, measured, draft.params)
        self._memory.ratios.observe(plan.scope, client_name(), prompt, counted["input_tokens"])
        return Count(counted["input_tokens"], "native")

    async def _draft(self, raw: bytes | None, request: Mapping[str, Any], state: RouteState) -> "_Draft":
        """What is sent: rewritten for its engine, and changed as its model is known to need it."""
        plan = _native(state)
        upstream, model = plan.scope
        # What Anthropic itself refuses is its client's to know.
        candidates = _nothing if plan.profile.first_party else native_adaptations_for
        allowed = any_change if plan.may_translate else _no_translation
        adapter = Adapter(self._memory, (f"{upstream}/v1/messages", model), candidates, allowed=allowed)
        rewritten = await self._rewritten(raw, request, state)
        draft = _Draft(raw if rewritten.request is request else None, rewritten, model, adapter, state.strict)
        for change in self._memory.changes(adapter.scope):
            if not (state.strict and change.dropped(draft.params)):
                apply_change(change, draft)
        state.drop(draft.dropped)
        # What has no bytes of its own may have grown since its client sent it.
        if (window := plan.window) is not None and (raw is None or may_exceed(window, draft.params, len(raw))):
            await self._fit(draft, window, state)
        return draft

    async def _fit(self, draft: "_Draft", window: int, state: RouteState) -> None:
        """Ask for no more output than the window has room for, where that would be refused."""
        if state.plan.refuses_output:
            await self._offload.run(state.size, apply_change, FitWindow(window, self.density(state)), draft)

    async def _rewritten(self, raw: bytes | None, request: Mapping[str, Any], state: RouteState) -> Rewritten:
        plan, dropped = _native(state), DroppedFields(strict=state.strict)
        marked = marked_features(raw, plan.profile)
        if "context_edits" in marked and changes_nothing(request):
            marked.remove("context_edits")
        if not (marked or plan.rewrites):
            return Rewritten(request)
        # In its place, a system turn leaves the prompt before it as it was.
        options = RewriteOptions(
            self._error_marker,
            system_turns="user",
            signer=None if plan.profile.first_party else self._signer(plan),
            bytes_per_token=self.density(state),
        )
        rewritten = await self._offload.run(
            state.size if plan.rewrites or "context_edits" in marked else 0,
            rewrite_native,
            request,
            marked=marked,
            lacks=plan.rewrites,
            options=options,
            dropped=dropped,
        )
        state.drop(dropped.names)
        state.applied_edits = rewritten.applied_edits
        return rewritten

    def density(self, state: RouteState) -> float:
        """Bytes of a token of the model, where tokens are estimated."""
        return self._memory.ratios.bytes_per_token(state.plan.scope)

    def sign_summary(self, plan: Plan) -> Callable[[str], str]:
        """What signs summaries of the model."""
        return Signer(self._key, plan.target.identifier).of_summary

    def _signer(self, plan: NativePlan) -> Signer:
        return Signer(self._key, plan.target.identifier)


class _Draft:
    """A native request that is about to be sent.

    Its bytes are the client's own with the model's name exchanged, as long as nothing else is changed.

    Args:
        raw: The bytes of the request; None if there are none.
        rewritten: The request, and the way back from what passes made of it.
        model: The upstream's name of the model.
        adapter: Sends it.
        strict: Whether nothing may be lost.
    """

    __slots__ = ("_adapter", "_model", "_raw", "dropped", "max_tokens", "params", "rewritten", "strict")

    def __init__(self, raw: bytes | None, rewritten: Rewritten, model: str, adapter: Adapter, strict: bool) -> None:
        self._raw = raw
        self._model = model
        self._adapter = adapter
        self.rewritten = rewritten
        self.params = cast("dict[str, Any]", rewritten.request)  # changed by exchanging it
        self.strict = strict
        self.dropped: list[str] = []
        self.max_tokens: int | None = None

    def body(self) -> bytes:
        """The bytes to send."""
        if self._raw is not None and self.params is self.rewritten.request:
            return with_model(self._raw, self.params, self._model)
        return dumped_with_model(self.params, self._model)

    async def send[T](self, attempt: Callable[[], Awaitable[T]], state: RouteState) -> T:
        """What an attempt gives, after as many changes as it takes; `state` is told what they cost."""
        result = await self._adapter.run(self, attempt)
        state.drop(self.dropped)
        state.adapt(self._adapter.names)
        return result


def _native(state: RouteState) -> NativePlan:
    assert isinstance(state.plan, NativePlan)
    return state.plan


def _headers(state: RouteState) -> Mapping[str, str]:
    return state.headers if state.session is None else {**state.headers, **state.session_headers}


def _nothing(refusal: Refusal, request: Mapping[str, Any]) -> Iterator[Change]:
    return iter(())


def _no_translation(change: Change) -> bool:
    return not isinstance(change, Translate)


# --- the way back ---


def _restored_message(message: dict[str, Any], rewritten: Rewritten) -> dict[str, Any]:
    """A native upstream's message with the blocks that its client knows."""
    return {**message, "content": [rewritten.restore_block(block) for block in message["content"]]}


async def _restored_events(events: AsyncGenerator[bytes], rewritten: Rewritten) -> AsyncGenerator[bytes]:
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
