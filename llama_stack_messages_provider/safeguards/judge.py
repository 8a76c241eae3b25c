"""Calls are judged while the rest of their message still comes, each by a request of its own to a classifier."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from traceback import format_exception
from typing import Any

import orjson

from llama_stack_messages_provider.config import SafeguardsConfig
from llama_stack_messages_provider.errors import MessagesError
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.metrics import count_verdict
from llama_stack_messages_provider.safeguards.calls import CallReader, ToolCall, calls_of
from llama_stack_messages_provider.safeguards.prompt import Case, classifier_request
from llama_stack_messages_provider.safeguards.verdicts import (
    NOT_FLAGGED,
    TYPE,
    Verdict,
    asked_types,
    available,
    read_verdict,
    reason_of,
    safeguard_results,
    unavailable,
)
from llama_stack_messages_provider.wire.sse import ServerSentEvent, SSEDecoder, encode

__all__ = ["MAX_CALLS", "Classifier", "Judge", "Safeguards"]

logger = get_logger(name=__name__, category="providers")

MAX_CALLS = 64
"""Calls of a message that are judged; any more are unavailable."""

_MIN_CHARACTERS = 2000

CALLS_AT_ONCE = 4
"""Calls of a message that are judged at the same time."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A model that judges.

    Args:
        model: Its identifier in the stack.
        ask: Gives its message in answer to a request; raises `MessagesError`.
        window: Its context window in tokens, if that is known.
    """

    model: str
    ask: Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
    window: int | None = None

    def characters(self, limit: int) -> int:
        """How much it can read, with room for its answer: no tokenizer makes more than a token of two characters."""
        return limit if self.window is None else max(_MIN_CHARACTERS, min(limit, 2 * self.window))


type OpenClassifier = Callable[[dict[str, Any]], Awaitable[Classifier]]


class Safeguards:
    """Opens a `Judge` for each message whose request asks for one.

    Args:
        config: The settings.
    """

    def __init__(self, config: SafeguardsConfig) -> None:
        self._config = config

    async def open(self, request: Mapping[str, Any], find: OpenClassifier) -> "Judge | None":
        """The judge of the message that answers a request; None if the request asks for none.

        Args:
            request: The client's request.
            find: Finds the classifier that a request for a verdict names, with the access of the current user.

        Raises:
            InvalidRequestError: `safeguards` is no array.
        """
        if not (types := asked_types(request.get("safeguards"))):
            return None
        config = self._config
        if TYPE not in types or not config.enabled:
            return Judge(types, unavailable("disabled"))
        try:
            classifier = await find(classifier_request(config.model or request["model"]))
        except MessagesError as exc:
            logger.warning("Calls cannot be judged", model=config.model or request["model"], reason=exc.message)
            return Judge(types, unavailable("error"))
        return Judge(types, None, classifier, Case(request, classifier.characters(config.characters)), config)


class Judge:
    """Judges the calls of one message.

    Args:
        types: The safeguards that were asked for.
        status: What is told of all of them, if nothing is judged.
        classifier: Judges, if something is.
        case: What it is judged by.
        config: The settings.
    """

    def __init__(
        self,
        types: list[str],
        status: Mapping[str, Any] | None,
        classifier: Classifier | None = None,
        case: Case | None = None,
        config: SafeguardsConfig | None = None,
    ) -> None:
        self._types = types
        self._status = status
        self._classifier = classifier
        self._case = case
        self._config = config or SafeguardsConfig()
        self._turn = asyncio.Semaphore(CALLS_AT_ONCE)
        self._calls: list[ToolCall] = []
        self._tasks: list[asyncio.Task[Verdict]] = []
        self._unjudged: list[str] = []

    async def message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A whole message with what was found of its calls."""
        try:
            for call in calls_of(message):
                self.begin(call)
            return {**message, "safeguard_results": await self.results()}
        finally:
            await self.close()

    async def events(self, events: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The events of a message with what was found of its calls in the event that tells its end.

        Args:
            events: Pieces of bytes, each ending at an event's end.
        """
        decoder, reader = SSEDecoder(), CallReader(self._config.characters)
        told = False
        try:
            async with aclosing(events):
                async for piece in events:
                    received = decoder.decode(piece)
                    for event in received:
                        if call := reader.read(event):
                            self.begin(call)
                    end = next((n for n, event in enumerate(received) if event.event == b"message_delta"), -1)
                    if told or end < 0:
                        yield piece
                        continue
                    told = True
                    if end:
                        yield _frames(received[:end])
                    yield _with_results(received[end], await self.results()) + _frames(received[end + 1 :])
        finally:
            await self.close()

    def begin(self, call: ToolCall) -> None:
        """Begin to judge a call."""
        if self._status is not None:
            return
        if len(self._calls) == MAX_CALLS:
            self._unjudged.append(call.id)
            return
        self._tasks.append(asyncio.create_task(self._judged(call, len(self._calls))))
        self._calls.append(call)

    async def results(self) -> list[dict[str, Any]]:
        """`safeguard_results`, once all calls are judged."""
        status = self._status
        if status is None:
            verdicts = zip((call.id for call in self._calls), await asyncio.gather(*self._tasks), strict=True)
            status = available([*verdicts, *((ident, unavailable("error")) for ident in self._unjudged)])
        return safeguard_results(self._types, status)

    async def close(self) -> None:
        """Nobody waits for verdicts any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _judged(self, call: ToolCall, index: int) -> Verdict:
        """The verdict of the call at an index. It never raises: a failure is a reason for none."""
        assert self._classifier is not None
        try:
            verdict = await self._verdict(call, index)
        except TimeoutError:
            verdict = unavailable("timeout")
        except MessagesError as exc:
            verdict = unavailable(reason_of(exc))
            logger.warning("A call was not judged", model=self._classifier.model, tool=call.name, error=exc.message)
        except Exception as exc:
            verdict = unavailable("error")
            logger.error("A call was not judged", tool=call.name, trace="".join(format_exception(exc)))
        self._report(call, verdict)
        return verdict

    async def _verdict(self, call: ToolCall, index: int) -> Verdict:
        assert self._classifier is not None
        assert self._case is not None
        if call.unjudged:
            return unavailable(call.unjudged)
        async with self._turn:
            content = self._case.content(call, self._calls[:index])
            if content is None:
                return unavailable("input_too_long")
            async with asyncio.timeout(self._config.seconds):
                return read_verdict(await self._classifier.ask(classifier_request(self._classifier.model, content)))

    def _report(self, call: ToolCall, verdict: Verdict) -> None:
        assert self._classifier is not None
        model, outcome = self._classifier.model, verdict.get("outcome") or verdict["type"]
        count_verdict(model, outcome, verdict.get("reason"))
        if verdict is not NOT_FLAGGED:
            # Not the explanation: it may repeat what the call holds.
            reason = verdict.get("reason")
            logger.info("A call is not to be run", model=model, tool=call.name, outcome=outcome, reason=reason)


def _frames(received: list[ServerSentEvent]) -> bytes:
    return b"".join(event.frame() for event in received)


def _with_results(received: ServerSentEvent, results: list[dict[str, Any]]) -> bytes:
    event = orjson.loads(received.data)
    delta = {**(event.get("delta") or {}), "safeguard_results": results}
    return encode({**event, "type": "message_delta", "delta": delta})
