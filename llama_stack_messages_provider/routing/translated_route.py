"""The translated route: a request in the inference API's terms, and its answer in Anthropic's."""

import hmac
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from llama_stack_messages_provider.adaptation.adaptations import adaptations_for
from llama_stack_messages_provider.adaptation.change import Change
from llama_stack_messages_provider.adaptation.changes import DropImages, MergeSystem
from llama_stack_messages_provider.adaptation.loop import Adapter, any_change, apply_change
from llama_stack_messages_provider.adaptation.memory import AdaptationMemory
from llama_stack_messages_provider.adaptation.room import FitWindow, may_exceed
from llama_stack_messages_provider.adaptation.upstream_errors import malformed_upstream_errors
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError, UpstreamError
from llama_stack_messages_provider.images.describer import Describer
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.rewriting.image_refs import sources_of
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.routing.offload import Offload
from llama_stack_messages_provider.routing.opened_stream import OpenedStream, opened
from llama_stack_messages_provider.routing.state import RouteState, client_name
from llama_stack_messages_provider.translation.reasons import input_tokens
from llama_stack_messages_provider.translation.request import Translation, TranslationOptions, to_chat_completion
from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.upstream.chat_completions import ChatCompletions, ChunkStream
from llama_stack_messages_provider.upstream.token_counts import Count, TokenCounter, count_of_refusal
from llama_stack_messages_provider.wire.sse import encode_all
from llama_stack_messages_provider.wire.token_estimate import Measure, measured

__all__ = ["TranslatedRoute"]


class TranslatedRoute:
    """Runs translated requests.

    Args:
        completions: The inference API.
        counter: Counts the tokens of chat completions.
        key: Signs thinking blocks.
        options: The configured options of translations.
        merge_system: The configured handling of system messages: `auto`, `keep` or `merge`.
        memory: What is known of models.
        offload: Works on large requests.
        describer: Describes images for models that see none.
        salt_key: Makes what keeps users from each other's cached prompts; None where nothing is to.
    """

    def __init__(
        self,
        completions: ChatCompletions,
        counter: TokenCounter,
        key: bytes,
        options: TranslationOptions,
        merge_system: str,
        memory: AdaptationMemory,
        offload: Offload,
        describer: Describer | None = None,
        salt_key: bytes | None = None,
    ) -> None:
        self._salt_key = salt_key
        self._describer = describer
        self._completions = completions
        self._counter = counter
        self._key = key
        self._options = options
        self._merge_system = merge_system
        self._memory = memory
        self._offload = offload

    async def complete(self, request: Mapping[str, Any], state: RouteState, message_id: str) -> dict[str, Any]:
        """The whole message.

        Args:
            request: The request's JSON, validated.
            state: The way that it goes, which is a translation; takes the names of what is dropped.
            message_id: Id of the message, `msg_...`.

        Raises:
            InvalidRequestError: It cannot be translated, or not without loss in strict mode.
            MessagesError: The upstream's failure.
        """
        translation, plan = await self._translated(request, state), state.plan
        completion = await self._attempt(
            request,
            translation,
            state,
            lambda: self._completions.complete(plan.target, plan.endpoint, translation.params, state.session_headers),
        )
        with malformed_upstream_errors(completion, "a chat completion"):
            message = to_message(
                completion, message_id=message_id, model=request["model"], **self._back(state, translation)
            )
        await self._observe(translation, state, input_tokens(message["usage"]))
        return message

    async def open(self, request: Mapping[str, Any], state: RouteState, start: LateMessageStart) -> OpenedStream:
        """The events of a streamed message, each piece ending at an event's end.

        Raises:
            InvalidRequestError, MessagesError: As `complete`, now or between pieces.
        """
        translation = await self._translated(request, state)
        chunks, first = await self._begun(request, translation, state)
        translator = StreamTranslator(start.message_id, request["model"], **self._back(state, translation))
        measure = partial(self._measured, translation, state) if self._wants_count(state) else None
        learn = partial(self._memory.ratios.observe, state.plan.scope, client_name())
        return await opened(self._pieces(chunks, first, translator, start, measure, learn))

    async def _pieces(
        self,
        chunks: ChunkStream,
        first: list[dict[str, Any]],
        translator: StreamTranslator,
        start: LateMessageStart,
        measure: Callable[[], Awaitable[Measure]] | None,
        learn: Callable[[Measure, int], None],
    ) -> AsyncGenerator[bytes]:
        batch: list[dict[str, Any]] | None = first
        said, prompt = False, None
        try:
            while batch is not None:
                said = said or bool(batch)
                translator.started = translator.started or start.sent
                if piece := _fed(translator, batch):
                    yield piece
                batch.clear()  # whoever handed it on would keep it until the next one
                if measure is not None:  # the client has its first events, and the prompt need not be kept any longer
                    prompt, measure = await measure(), None
                # After a stop sequence that the upstream ignores, nothing that it says reaches anybody.
                batch = None if chunks.ended or translator.cut else await anext(chunks, None)
            if not (translator.finished or translator.cut or (chunks.ended and said)):
                raise UpstreamError("The upstream's stream ended before its message did")
            yield _last(translator)
            if not translator.cut:
                await chunks.drain()
            if prompt is not None:
                learn(prompt, input_tokens(translator.usage))
        finally:
            await chunks.aclose()

    async def count(self, request: Mapping[str, Any], state: RouteState) -> Count:
        """The number of a request's input tokens: exactly what would be sent is counted. Raises as `complete` does."""
        state.asks_others = False
        # One token, where nothing but a generation counts: under the name, and in the company, that the model takes.
        translation = await self._translated({**request, "max_tokens": 1}, state)
        plan = state.plan
        infer = partial(self._completions.complete, plan.target, plan.endpoint)
        try:
            count = await self._attempt(
                request,
                translation,
                state,
                lambda: self._counter.count(translation.params, plan.endpoint, plan.engine, infer),
            )
        except MessagesError as exc:
            return count_of_refusal(exc) or await self._estimated(translation, state)
        if count is None:
            return await self._estimated(translation, state)
        await self._observe(translation, state, count.tokens)
        return count

    async def _estimated(self, translation: Translation, state: RouteState) -> Count:
        """An estimate from the length of the texts, rounded up."""
        prompt = await self._measured(translation, state)
        ratios = self._memory.ratios.ratios(state.plan.scope, client_name())
        return Count(math.ceil(prompt.tokens(ratios)), "estimate")

    async def _observe(self, translation: Translation, state: RouteState, tokens: int) -> None:
        """Learn from a count of the upstream's what its tokens are."""
        if self._wants_count(state):
            prompt = await self._measured(translation, state)
            self._memory.ratios.observe(state.plan.scope, client_name(), prompt, tokens)

    def _wants_count(self, state: RouteState) -> bool:
        return self._memory.ratios.wants(state.plan.scope, client_name())

    async def _measured(self, translation: Translation, state: RouteState) -> Measure:
        return await self._offload.run(state.size, measured, translation.params)

    # --- the translation ---

    async def _translated(
        self, request: Mapping[str, Any], state: RouteState, changes: tuple[Change, ...] = ()
    ) -> Translation:
        """The chat completion for a request, changed as its model is known to need it, and in these ways."""
        plan = state.plan
        learned = dict.fromkeys((*self._memory.changes(plan.scope), *changes))
        merge = self._merge_system == "merge" or MergeSystem() in learned
        window = plan.window
        density = self._memory.ratios.bytes_per_token(plan.scope)
        options = TranslationOptions(state.strict, self._options.tool_error_marker, merge, window, density)
        dialect = replace(plan.dialect, images=False) if DropImages() in learned else plan.dialect
        if not dialect.images:
            options = replace(options, descriptions=await self._descriptions(request, state))
        if self._salt_key is not None and dialect.cache_salt and (user := client_name()):
            options = replace(options, salt=salt_of(self._salt_key, user))
        signer = Signer(self._key, plan.target.identifier)
        model = plan.target.upstream_model
        translation = await self._offload.run(
            state.size,
            to_chat_completion,
            request,
            model=model,
            dialect=dialect,
            options=options,
            signer=signer,
        )
        for change in learned:
            lost = change.dropped(translation.params)
            if lost and state.strict:
                text = f"{lost[0]}: cannot be honoured (the upstream refuses it), and strict mode is on"
                raise InvalidRequestError(text)
            await self._offload.run(state.size, apply_change, change, translation)
        if window is not None and self._may_exceed(window, request, state) and plan.refuses_output:
            await self._offload.run(state.size, apply_change, FitWindow(window, density), translation)
        state.drop(translation.dropped)
        state.applied_edits = translation.rewritten.applied_edits
        return translation

    async def _descriptions(self, request: Mapping[str, Any], state: RouteState) -> Mapping[str, str]:
        """What stands for images; strict mode wants the images."""
        if self._describer is None or state.strict:
            return {}
        sources = await self._offload.run(state.size, sources_of, request, *self._describer.limits)
        return await self._describer.describe(sources, client_name(), state.observed, asks=state.asks_others)

    def _may_exceed(self, window: int, request: Mapping[str, Any], state: RouteState) -> bool:
        """By the bytes that its client sent; a loop's request has grown since."""
        return bool(state.plan.server_tools) or may_exceed(window, request, state.size)

    def _back(self, state: RouteState, translation: Translation) -> dict[str, Any]:
        """What the answer is translated with."""
        return {
            "sign": Signer(self._key, state.plan.target.identifier),
            "stop_sequences": translation.stop_sequences,
            "max_tokens": translation.max_tokens,
            "restore": translation.restore,
            "thinking": translation.thinking,
            "window": translation.window,
        }

    async def _begun(
        self, request: Mapping[str, Any], translation: Translation, state: RouteState
    ) -> tuple[ChunkStream, list[dict[str, Any]]]:
        """A stream of chunks with its first batch."""
        plan = state.plan

        async def begin() -> tuple[ChunkStream, list[dict[str, Any]]]:
            chunks = self._completions.stream(plan.target, plan.endpoint, translation.params, state.session_headers)
            try:
                return chunks, await anext(chunks, [])
            except MessagesError:
                await chunks.aclose()
                raise

        return await self._attempt(request, translation, state, begin)

    # --- adaptation ---

    async def _attempt[T](
        self,
        request: Mapping[str, Any],
        translation: Translation,
        state: RouteState,
        send: Callable[[], Awaitable[T]],
    ) -> T:
        """What sending the translation gives, after as many changes of it as it takes: messages, streams and counts
        all pass here.
        """

        async def rebuild(changes: tuple[Change, ...]) -> None:
            anew = await self._translated(request, state, changes)
            translation.params, translation.dropped = anew.params, anew.dropped
            translation.max_tokens = anew.max_tokens

        allowed = _leaves_system if self._merge_system == "keep" else any_change
        adapter = Adapter(self._memory, state.plan.scope, adaptations_for, rebuild, allowed)
        result = await adapter.run(translation, send)
        state.drop(translation.dropped)
        state.adapt(adapter.names)
        return result


def _leaves_system(change: Change) -> bool:
    return not isinstance(change, MergeSystem)


def _fed(translator: StreamTranslator, batch: list[dict[str, Any]]) -> bytes:
    with malformed_upstream_errors(batch, "a chunk of a chat completion"):
        return encode_all(event for chunk in batch for event in translator.feed(chunk))


def _last(translator: StreamTranslator) -> bytes:
    with malformed_upstream_errors(None, "a chat completion"):
        return encode_all(translator.close())


def salt_of(key: bytes, user: str) -> str:
    """What the cached prompts of a user are read with, for as long as the key stays: 64 hexadecimal digits."""
    return hmac.new(key, b"cache_salt " + user.encode(errors="surrogatepass"), "sha256").hexdigest()
