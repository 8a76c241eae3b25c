"""The translated route: a request in the inference API's terms, and its answer in Anthropic's."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from llama_stack_messages_provider.adaptation.changes import Anew, Limited, NoImages, Remedy, SystemFirst
from llama_stack_messages_provider.adaptation.refusals import remedy_for
from llama_stack_messages_provider.adaptation.upstream_errors import understood
from llama_stack_messages_provider.errors import InvalidRequestError, MessagesError, UpstreamError
from llama_stack_messages_provider.native.late_start import LateMessageStart
from llama_stack_messages_provider.rewriting.document_refs import has_pdfs
from llama_stack_messages_provider.rewriting.signatures import Signer
from llama_stack_messages_provider.routing.plan import Plan
from llama_stack_messages_provider.server_tools.loop import Rounds
from llama_stack_messages_provider.server_tools.search_runtime import WebSearch
from llama_stack_messages_provider.translation.reasons import Stop, added_usage
from llama_stack_messages_provider.translation.request import Translation, TranslationOptions, to_chat_completion
from llama_stack_messages_provider.translation.response import to_message
from llama_stack_messages_provider.translation.stream import StreamTranslator
from llama_stack_messages_provider.upstream.chat_completions import ChatCompletions, ChunkStream
from llama_stack_messages_provider.wire.sse import encode_all

__all__ = ["TranslatedRoute"]

_MAX_REMEDIES = 4


class TranslatedRoute:
    """Runs translated requests.

    Args:
        completions: The inference API.
        key: Signs thinking blocks.
        options: The configured options of translations.
        merge_system: The configured handling of system messages: `auto`, `keep` or `merge`.
        search: The stack's web search.
    """

    def __init__(
        self,
        completions: ChatCompletions,
        key: bytes,
        options: TranslationOptions,
        merge_system: str,
        search: WebSearch,
    ) -> None:
        self._completions = completions
        self._key = key
        self._options = options
        self._merge_system = merge_system
        self._search = search
        self._remedies: dict[str, list[Remedy]] = {}

    def translate(self, plan: Plan, request: Mapping[str, Any], *, strict: bool) -> Translation:
        """The chat completion for a request, with what its model is known to refuse left out.

        Raises:
            InvalidRequestError: It cannot be translated, or not without loss in strict mode.
        """
        learned = self._remedies.get(plan.target.identifier, ())
        merge = self._merge_system == "merge" or any(isinstance(r, SystemFirst) for r in learned)
        options = TranslationOptions(strict, self._options.tool_error_marker, merge, plan.searches)
        dialect = replace(plan.dialect, images=False) if any(isinstance(r, NoImages) for r in learned) else plan.dialect
        translation = to_chat_completion(request, model=plan.target.upstream_model, dialect=dialect, options=options)
        for remedy in learned:
            _apply(remedy, translation)
        return translation

    async def translated(self, plan: Plan, request: Mapping[str, Any], *, strict: bool) -> Translation:
        """As `translate`, in a thread where PDFs are to be read: a long one takes a second."""
        if has_pdfs(request):
            return await asyncio.to_thread(self.translate, plan, request, strict=strict)
        return self.translate(plan, request, strict=strict)

    async def complete(
        self, plan: Plan, request: Mapping[str, Any], translation: Translation, message_id: str
    ) -> dict[str, Any]:
        """The whole message.

        Raises:
            MessagesError: The upstream's failure.
        """
        search = translation.plan.search
        if search is None:
            return await self._turn(plan, request, translation, message_id)
        rounds, usage = Rounds(request, search, self._search.rounds), None
        current = translation
        while True:
            message = await self._turn(plan, rounds.request, current, message_id, rounds.count)
            translation.lose(current.dropped)
            usage = added_usage(usage, message["usage"]) if usage else message["usage"]
            rounds.take(message["content"])
            results = await self._search.results(rounds, message["stop_reason"])
            if reason := rounds.end(message["stop_reason"], results):
                return {**message, "content": rounds.content, "stop_reason": reason, "usage": rounds.counted(usage)}
            current = await self._next(plan, rounds, current, usage)

    async def _turn(
        self,
        plan: Plan,
        request: Mapping[str, Any],
        translation: Translation,
        message_id: str,
        round_number: int = 0,
    ) -> dict[str, Any]:
        """The message of one completion."""
        completion = await self._remedied(
            plan,
            request,
            translation,
            lambda: self._completions.complete(plan.target, plan.endpoint, translation.params),
        )
        with understood(completion, "a chat completion"):
            return to_message(
                completion,
                message_id=message_id,
                model=request["model"],
                round_number=round_number,
                **self._back(plan, translation),
            )

    async def infer(self, plan: Plan, params: dict[str, Any]) -> dict[str, Any]:
        """A chat completion as it is."""
        return await self._completions.complete(plan.target, plan.endpoint, params)

    def stream(
        self,
        plan: Plan,
        request: Mapping[str, Any],
        translation: Translation,
        message_id: str,
        start: LateMessageStart,
    ) -> AsyncGenerator[bytes]:
        """The events of a streamed message, each piece ending at an event's end.

        Raises:
            MessagesError: The upstream's failure, before or between pieces.
        """
        translator = StreamTranslator(message_id, request["model"], **self._back(plan, translation))
        if translation.plan.search is None:
            return self._events(plan, request, translation, translator, start)
        rounds = Rounds(request, translation.plan.search, self._search.rounds)
        return self._events_of_rounds(plan, translation, translator, start, rounds)

    async def _events(
        self,
        plan: Plan,
        request: Mapping[str, Any],
        translation: Translation,
        translator: StreamTranslator,
        start: LateMessageStart,
        rounds: Rounds | None = None,
    ) -> AsyncGenerator[bytes]:
        """The events of one completion, and those of the message's end unless other rounds may follow."""
        chunks, first = await self._opened(plan, request, translation)
        batch: list[dict[str, Any]] | None = first
        translator.started = translator.started or start.sent
        translator.max_tokens = translation.max_tokens  # a remedy may have changed it
        said = False
        try:
            while batch is not None:
                said = said or bool(batch)
                if events := _fed(translator, batch):
                    if rounds is not None:
                        rounds.read(events)
                    yield encode_all(events)
                batch = None if chunks.ended else await anext(chunks, None)
            if not (translator.finished or (chunks.ended and said)):
                raise UpstreamError("The upstream's stream ended before its message did")
            yield _last(translator) if rounds is None else _last_of_round(translator, rounds)
            await chunks.drain()
        finally:
            await chunks.aclose()

    async def _events_of_rounds(
        self,
        plan: Plan,
        translation: Translation,
        translator: StreamTranslator,
        start: LateMessageStart,
        rounds: Rounds,
    ) -> AsyncGenerator[bytes]:
        """The events of a message in which searches are run."""
        current = translation
        while True:
            events = self._events(plan, rounds.request, current, translator, start, rounds)
            async with aclosing(events):
                async for piece in events:
                    yield piece
            translation.lose(current.dropped)
            with understood(None, "a chat completion"):
                stop = translator.stop
            results = await self._search.results(rounds, stop.reason)
            if results:
                yield encode_all(event for block in results for event in translator.insert(block))
            if reason := rounds.end(stop.reason, results):
                stop = stop if stop.reason == reason else Stop(reason)
                yield encode_all(translator.close(stop, rounds.counted(translator.usage)))
                return
            current = await self._next(plan, rounds, current, translator.usage)
            translator.next_round()

    async def _next(
        self, plan: Plan, rounds: Rounds, translation: Translation, usage: Mapping[str, Any]
    ) -> Translation:
        """The translation of the next round's request."""
        rounds.go_on(usage["output_tokens"])
        return await self.translated(plan, rounds.request, strict=translation.strict)

    async def _opened(
        self, plan: Plan, request: Mapping[str, Any], translation: Translation
    ) -> tuple[ChunkStream, list[dict[str, Any]]]:
        """A stream of chunks with its first batch."""

        async def begin() -> tuple[ChunkStream, list[dict[str, Any]]]:
            chunks = self._completions.stream(plan.target, plan.endpoint, translation.params)
            try:
                return chunks, await anext(chunks, [])
            except InvalidRequestError:
                await chunks.aclose()
                raise

        return await self._remedied(plan, request, translation, begin)

    async def _remedied[T](
        self,
        plan: Plan,
        request: Mapping[str, Any],
        translation: Translation,
        attempt: Callable[[], Awaitable[T]],
    ) -> T:
        """What an attempt gives, after as many remedies of the translation as it takes."""
        for _ in range(_MAX_REMEDIES):
            try:
                return await attempt()
            except InvalidRequestError as exc:
                await self._remedy(exc, plan, request, translation)
        return await attempt()

    def _back(self, plan: Plan, translation: Translation) -> dict[str, Any]:
        return {
            "sign": Signer(self._key, plan.target.identifier),
            "stop_sequences": translation.stop_sequences,
            "max_tokens": translation.max_tokens,
            "restore": translation.plan.restored,
            "show_thinking": translation.show_thinking,
        }

    def learn(self, refusal: MessagesError, plan: Plan, params: Mapping[str, Any], *, strict: bool) -> Remedy:
        """The change that a refusal asks for, which is remembered for its model.

        Raises:
            MessagesError: The refusal, where nothing can be done about it.
        """
        remedy = remedy_for(refusal.message, params)
        if remedy is None or (strict and remedy.lost(params)):
            raise refusal
        if isinstance(remedy, SystemFirst) and self._merge_system == "keep":
            raise refusal
        learned = self._remedies.setdefault(plan.target.identifier, [])
        if remedy.lasts and remedy not in learned:
            learned.append(remedy)
        return remedy

    async def _remedy(
        self, refusal: MessagesError, plan: Plan, request: Mapping[str, Any], translation: Translation
    ) -> None:
        """Change the translation so that the upstream takes it."""
        remedy = self.learn(refusal, plan, translation.params, strict=translation.strict)
        if isinstance(remedy, Anew):
            anew = await self.translated(plan, request, strict=translation.strict)
            translation.params, translation.dropped = anew.params, anew.dropped
        else:
            _apply(remedy, translation)


def _apply(remedy: Remedy, translation: Translation) -> None:
    lost = remedy.lost(translation.params)
    if lost and translation.strict:
        raise InvalidRequestError(f"{lost[0]}: cannot be honoured (the upstream refuses it), and strict mode is on")
    translation.dropped += lost
    translation.params = remedy.apply(translation.params)
    if (
        isinstance(remedy, Limited) and remedy.of_model
    ):  # an answer of that length has reached its limit, and not the end of the window
        translation.max_tokens = remedy.max_tokens


def _fed(translator: StreamTranslator, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with understood(batch, "a chunk of a chat completion"):
        return [event for chunk in batch for event in translator.feed(chunk)]


def _last(translator: StreamTranslator) -> bytes:
    with understood(None, "a chat completion"):
        return encode_all(translator.close())


def _last_of_round(translator: StreamTranslator, rounds: Rounds) -> bytes:
    with understood(None, "a chat completion"):
        events = translator.end_round()
    rounds.read(events)
    return encode_all(events)
