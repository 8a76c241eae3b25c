"""Chat completions through Llama Stack's inference API.

Three ways, the same request: over the host's router, which keeps each completion in its inference store (only if
configured); over the provider's own inference API; or, where the provider would do no more than send the request to
an OpenAI-style server, to that server over our pooled connections with the provider's credentials and network settings.
The last one saves what the other two spend: a client built for each call, the SDK's request path, and an object for
each chunk.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from llama_stack_api import OpenAIChatCompletionRequestWithExtraBody
from openai import APIConnectionError, APIStatusError, APITimeoutError
from pydantic import BaseModel, ValidationError

from llama_stack_messages_provider.adaptation.upstream_errors import (
    from_event,
    from_status,
    malformed_answer,
    malformed_upstream_errors,
)
from llama_stack_messages_provider.errors import (
    InvalidRequestError,
    MessagesError,
    UpstreamError,
    UpstreamTimeoutError,
)
from llama_stack_messages_provider.host.providers import check_model_allowed, localizes_images, sends_what_we_send
from llama_stack_messages_provider.native.shapes import looks_like_events, looks_whole
from llama_stack_messages_provider.upstream.body import Body, Timeouts
from llama_stack_messages_provider.upstream.completion_shapes import chunks_as_completion, completion_as_chunk
from llama_stack_messages_provider.upstream.endpoint import Endpoint
from llama_stack_messages_provider.upstream.failures import ConnectionFailedError, did_not_begin, stopped
from llama_stack_messages_provider.upstream.sessions import (
    Sessions,
    UpstreamResponse,
    is_success,
    parsed,
    refusal,
)
from llama_stack_messages_provider.upstream.target import Target
from llama_stack_messages_provider.wire.lenient_json import JSONReader
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder

__all__ = ["ChatCompletions", "ChunkStream"]

Chunk = dict[str, Any]


class ChunkStream:
    """The chunks of a streamed completion, in batches of those that are there together.

    Attributes:
        ended: Whether the upstream said that it was done (`[DONE]`); a stream that just stops is not done.
    """

    def __init__(self, batches: AsyncGenerator[list[Chunk]]) -> None:
        self._batches = batches
        self.ended = False

    def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        return self

    async def __anext__(self) -> list[Chunk]:
        batch = await anext(self._batches)
        if batch and batch[-1] is _DONE:
            self.ended = True
            batch.pop()
        return batch

    async def drain(self) -> None:
        """Read what follows the end, if it comes soon, which gives the connection back to its pool."""
        with suppress(MessagesError):
            async for _ in self._batches:
                pass

    async def aclose(self) -> None:
        """End the stream, and the upstream's work with it."""
        await self._batches.aclose()


_DONE: Chunk = {}


class ChatCompletions:
    """Calls the inference API.

    Args:
        inference: The stack's inference API, for `store`.
        sessions: Pooled sessions.
        timeouts: How long an upstream may take.
        store: Go over the host's router and its inference store.
    """

    def __init__(self, inference: Any, sessions: Sessions, timeouts: Timeouts, *, store: bool) -> None:
        self._inference = inference
        self._sessions = sessions
        self._timeouts = timeouts
        self._store = store

    async def complete(
        self,
        target: Target,
        endpoint: Endpoint | None,
        params: dict[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """A whole completion, as JSON; `headers` go along over our own connections only.

        Raises:
            MessagesError: What the upstream's failure means to the client.
        """
        if endpoint is None or not self._on_the_wire(target, params):
            if params.get("stream"):  # the upstream answers in no other way
                return chunks_as_completion([c async for batch in self._called(target, params) for c in batch])
            return _plain(await self._call(target, params))
        _check_allowed(target)
        url, data = f"{endpoint.api_base}/chat/completions", orjson.dumps(params)
        answer = await self._sessions.fetch("POST", url, endpoint, self._timeouts, headers=headers, data=data)
        if not is_success(answer.status):
            raise refusal(answer)
        if looks_like_events(answer.body[:64]):
            with malformed_upstream_errors(None, "a chat completion"):
                return chunks_as_completion(_chunks_of(answer.body))
        return _completion_of(answer, "a chat completion")

    def stream(
        self,
        target: Target,
        endpoint: Endpoint | None,
        params: dict[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> ChunkStream:
        """A streamed completion; nothing is sent before the first batch is asked for."""
        if endpoint is None or not self._on_the_wire(target, params):
            return ChunkStream(self._called(target, params))
        return ChunkStream(self._wired(target, endpoint, params, headers))

    def _on_the_wire(self, target: Target, params: dict[str, Any]) -> bool:
        provider = target.provider
        return not self._store and sends_what_we_send(provider) and not _needs_localized_images(provider, params)

    async def _wired(
        self, target: Target, endpoint: Endpoint, params: dict[str, Any], headers: Mapping[str, str] | None
    ) -> AsyncGenerator[list[Chunk]]:
        _check_allowed(target)
        url, data = f"{endpoint.api_base}/chat/completions", orjson.dumps(params)
        response = await self._sessions.open("POST", url, endpoint, self._timeouts, headers=headers, data=data)
        del params, data  # nothing of the request is kept while its answer comes
        if not is_success(response.status):
            raise refusal(await self._sessions.whole(response, endpoint, self._timeouts))
        limits = self._sessions.limits
        decoder, reader = SSEDecoder(limits.event), JSONReader()
        # All in one generator: each more is some of what a small event costs.
        with Body(response, self._timeouts.of(endpoint), limits.stream) as received:
            data = await received.read()
            is_event_stream = response.content_type == "text/event-stream"
            is_stream = not looks_whole(data) and (looks_like_events(data) or is_event_stream)
            if not is_stream:
                received.hand_over()
            while data and is_stream:
                received.mark_received(data)
                for chunks in _together(decoder.decode(data), reader):
                    is_done = chunks[-1] is _DONE
                    yield chunks  # whoever takes them empties them
                    if is_done:
                        await received.close_soon()
                        return
                received.arm()
                data = await received.read()
        if not is_stream:
            whole = await self._sessions.whole(response, endpoint, self._timeouts, head=data)
            with malformed_upstream_errors(whole, "a chat completion"):
                yield [completion_as_chunk(_completion_of(whole, "a stream of events")), _DONE]
            return
        # The last blank line may be missing; half a chunk is not there at all.
        for chunks in _together((event for event in decoder.flush() if _is_whole(event.data)), reader):
            yield chunks

    async def _called(self, target: Target, params: dict[str, Any]) -> AsyncGenerator[list[Chunk]]:
        chunks = await self._call(target, params)
        del params
        try:
            with _map_sdk_errors():
                async for chunk in _in_time(chunks, self._timeouts):
                    if chunk is not None:
                        yield [_plain(chunk)]
        finally:
            await _aclose(chunks)

    async def _call(self, target: Target, params: dict[str, Any]) -> Any:
        with _map_sdk_errors():
            model = target.identifier if self._store else target.upstream_model
            request = OpenAIChatCompletionRequestWithExtraBody(**{**params, "model": model})
            api = self._inference if self._store else target.provider
            async with _within(self._timeouts.first_byte, did_not_begin):
                return await api.openai_chat_completion(request)


def _completion_of(answer: UpstreamResponse, wanted: str) -> dict[str, Any]:
    completion = answer.json()
    if not isinstance(completion, dict) or "choices" not in completion:
        raise malformed_answer(answer.body, wanted)
    if error := _error_in(completion):
        raise from_event(error)
    return completion


def _chunks_of(body: bytes) -> Iterator[Chunk]:
    """The chunks of a whole stream."""
    decoder = SSEDecoder(len(body))
    for chunks in _together((*decoder.decode(body), *decoder.flush()), JSONReader()):
        yield from (chunk for chunk in chunks if chunk is not _DONE)


def _together(events: Iterable[ServerSentEvent], reader: JSONReader) -> Iterator[list[Chunk]]:
    """The chunks in one list, if there are any; an error comes after those before it, and nothing after the end."""
    chunks: list[Chunk] = []
    try:
        for event in events:
            if not event.data.strip():  # a sign of life
                continue
            chunks.append(_chunk(event.data, reader))
            if chunks[-1] is _DONE:
                break
    except MessagesError:
        if chunks:
            yield chunks
        raise
    if chunks:
        yield chunks


def _chunk(data: bytes, reader: JSONReader) -> Chunk:
    if data == b"[DONE]" or data.strip() == b"[DONE]":
        return _DONE
    try:
        chunk = reader.read(data)
    except ValueError:
        chunk = None
    if isinstance(chunk, list) and len(chunk) == 1:  # Gemini's way to tell an error
        chunk = chunk[0]
    if not isinstance(chunk, dict):
        raise UpstreamError("The upstream sent a chunk that is not JSON")
    if error := _error_in(chunk):
        raise from_event(error)
    return chunk


def _error_in(chunk: Chunk) -> Chunk | None:
    """What holds the error that a chunk or a completion says: itself, in `error` or flat (vLLM), or its choice,
    as OpenRouter has it.
    """
    if chunk.get("error") or chunk.get("object") == "error":
        return chunk
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) and first.get("error") else None


def _is_whole(data: bytes) -> bool:
    return data.strip() == b"[DONE]" or parsed(data) is not None


def _needs_localized_images(provider: Any, params: dict[str, Any]) -> bool:
    if not localizes_images(provider):
        return False
    contents = (m.get("content") for m in params["messages"])
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return any(part["type"] == "image_url" and part["image_url"]["url"].startswith("http") for part in parts)


def _check_allowed(target: Target) -> None:
    try:
        check_model_allowed(target.provider, target.upstream_model)
    except ValueError as exc:
        raise InvalidRequestError(f"model: {exc}") from exc


def _plain(completion: Any) -> dict[str, Any]:
    if isinstance(completion, BaseModel):
        return completion.model_dump(mode="json", exclude_none=True)
    return dict(completion)


async def _in_time(chunks: Any, timeouts: Timeouts) -> AsyncGenerator[Any]:
    """The chunks of a provider, whose own limits cannot be set here."""
    source = aiter(chunks)
    seconds, late = timeouts.first_byte, did_not_begin
    while True:
        async with _within(seconds, late):
            chunk = await anext(source, _DONE)
        if chunk is _DONE:
            return
        yield chunk
        seconds, late = timeouts.idle, stopped


@asynccontextmanager
async def _within(seconds: float, late: Callable[[float], MessagesError]) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise late(seconds) from exc


async def _aclose(chunks: Any) -> None:
    # Async generators have `aclose`, the OpenAI SDK's streams have `close`.
    close = getattr(chunks, "aclose", None) or getattr(chunks, "close", None)
    if close is not None:
        await close()


class _map_sdk_errors:  # noqa: N801 - a context manager, read as a verb
    """Errors of providers and their SDKs as `MessagesError`; the one place that knows them."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: Any) -> None:
        if exc is None or isinstance(exc, MessagesError) or not isinstance(exc, Exception):
            return
        raise _mapped(exc) from exc


# The first match wins, so that a class stands before those it derives from.
_SDK_ERRORS: tuple[tuple[type[Exception], Callable[[Any], MessagesError]], ...] = (
    (APITimeoutError, lambda exc: UpstreamTimeoutError()),
    (APIConnectionError, lambda exc: ConnectionFailedError(f"The upstream is out of reach: {exc.__cause__ or exc}")),
    (APIStatusError, lambda exc: from_status(exc.status_code, exc.response.headers, exc.body or exc.message)),
    (ValidationError, lambda exc: InvalidRequestError(f"The inference API refused the translation: {_first(exc)}")),
    (ValueError, lambda exc: from_status(400, {}, str(exc))),
    # A parameter that an SDK's method does not take: its words are those of a refusal, and so is what is done about it.
    (TypeError, lambda exc: from_status(400, {}, str(exc))),
    (TimeoutError, lambda exc: UpstreamTimeoutError()),
    (ConnectionError, lambda exc: ConnectionFailedError(str(exc) or None)),
    (PermissionError, lambda exc: from_status(403, {}, str(exc))),
    (NotImplementedError, lambda exc: InvalidRequestError(str(exc) or "The provider cannot do this")),
)


def _mapped(exc: Exception) -> MessagesError:
    for kind, translate in _SDK_ERRORS:
        if isinstance(exc, kind):
            return translate(exc)
    if isinstance(status := getattr(exc, "status_code", None), int) and status >= 400:
        return from_status(status, {}, str(exc))
    # No upstream has spoken: what fails in the provider itself fails again.
    return UpstreamError(
        f"The provider failed: {type(exc).__name__}: {exc}", status=500, headers={"x-should-retry": "false"}
    )


def _first(exc: ValidationError) -> str:
    error = exc.errors(include_url=False)[0]
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
