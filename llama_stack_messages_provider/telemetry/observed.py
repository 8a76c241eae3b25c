"""One request as it is told to OpenTelemetry: the one object that whoever serves it meets, or None."""

import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llama_stack_messages_provider.host.telemetry import listens
from llama_stack_messages_provider.telemetry.answers import AnswerReader
from llama_stack_messages_provider.telemetry.calls import MAX_NAME, Call, ToolCall, Way
from llama_stack_messages_provider.telemetry.content import Written, captures_content, prompt_attributes
from llama_stack_messages_provider.telemetry.instruments import (
    REQUEST_DURATION,
    TIME_TO_FIRST_TOKEN,
)
from llama_stack_messages_provider.telemetry.operation import Attributes, Operation, error_type_of
from llama_stack_messages_provider.telemetry.watched import WatchedEvents

__all__ = ["SHIELDS_OUTCOME", "UNOBSERVED", "Observed", "Observer", "Way", "current_batch"]

_OWN = "llama_stack.messages"
SHIELDS_OUTCOME = f"{_OWN}.shields.outcome"
"""What shields found: `passed`, `flagged`, or why they found nothing."""
_MAX_NAMED = 40
_TRACE = "traceparent"
_propagator = TraceContextTextMapPropagator()

current_batch: ContextVar[str | None] = ContextVar("current_batch", default=None)
"""The id of the batch that the request at hand is one of."""


class Observer:
    """Begins to observe requests, where somebody listens: that is asked once in a process."""

    def __init__(self) -> None:
        self._listens: bool | None = None
        self._content = False

    def begin(
        self,
        operation: str,
        request: Mapping[str, Any],
        headers: Mapping[str, str],
        tenant: Callable[[], str],
        *,
        inner: bool = False,
    ) -> "Observed | None":
        """What observes a request; None if nobody would be told.

        Args:
            operation: `chat` or `count_tokens`.
            request: Its JSON.
            headers: Its headers: `traceparent` is handed on even where nobody listens.
            tenant: Tells whose it is.
            inner: Whether it is a request of our own, for another: no client sees how long it takes.
        """
        if self._listens is None:
            self._listens, self._content = listens(), captures_content()
        if not self._listens and _TRACE not in headers:
            return None
        content = self._content and self._listens
        return Observed(operation, request, headers, tenant(), content=content, inner=inner)


class Observed:
    """A message or a count that somebody asked for. Entered, it is the current span, and ends with the block.

    Args:
        operation: `chat` or `count_tokens`.
        request: Its JSON.
        headers: Its headers.
        tenant: Whose it is.
        content: Whether prompts and answers are told.
        inner: Whether it is a request of our own, for another.
    """

    def __init__(
        self,
        operation: str,
        request: Mapping[str, Any],
        headers: Mapping[str, str],
        tenant: str,
        *,
        content: bool,
        inner: bool,
    ) -> None:
        self._name = operation
        self._request = request
        self._headers = headers
        self._tenant = tenant
        self._content = content
        self._inner = inner
        self._start = time.time_ns()
        self._operation: Operation | None = None
        self._way: Way | None = None
        self._dropped: Sequence[str] = ()
        self._adapted: list[str] = []
        self._reader = AnswerReader(Written() if content else None)
        self._within: Context | None = None

    def planned(self, way: Way, dropped: Sequence[str]) -> None:
        """It was decided where the request goes; said again when it goes elsewhere.

        Args:
            way: Where it goes.
            dropped: Takes the paths of what is dropped, as long as it lasts.
        """
        self._way, self._dropped = way, dropped
        told: Attributes = {
            "gen_ai.provider.name": way.provider,
            "gen_ai.response.model": way.model,
            f"{_OWN}.route": way.route,
            f"{_OWN}.engine": way.engine,
        }
        operation = self._begun(told, way.labels(self._name))
        operation.span.set_attributes(dict(told))
        operation.labels = dict(way.labels(self._name))

    def failed(self, exc: BaseException) -> None:
        """It ended before it was decided where it goes."""
        unknown = {"gen_ai.provider.name": "llama_stack"}
        self._begun(unknown, {"gen_ai.operation.name": self._name, **unknown}).end(error_type_of(exc))

    def adapted(self, names: Sequence[str]) -> None:
        """The request was changed until its upstream took it."""
        self._adapted += [name for name in names if name not in self._adapted]

    def answered(self, message: Mapping[str, Any]) -> None:
        """It was answered with a whole message."""
        self._reader.take(message)

    def events(self, source: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The same events of its answer, which are watched."""
        return WatchedEvents(source, self._reader, self._fed, self._end)

    def call(self, *, stream: bool) -> Call:
        """A call of the model that it goes to, which begins now."""
        assert self._way is not None
        return Call(self._name, self._way, self._within or self.context, stream=stream)

    def work(self, name: str) -> Operation:
        """Work for it that others are asked for, which begins now, such as `judge`."""
        return Operation(name, {"gen_ai.operation.name": name}, parent=self.context)

    def shields(self, side: str, shields: Sequence[str]) -> Operation:
        """Texts are judged by shields from now on."""
        told: Attributes = {f"{_OWN}.shields.side": side, f"{_OWN}.shields.names": list(shields)}
        return Operation("shield", {"gen_ai.operation.name": "shield", **told}, parent=self.context)

    @contextmanager
    def compaction(self) -> Iterator[None]:
        """Within it calls of the model are those of a summary."""
        with self.work("compact") as work:
            self._within = trace.set_span_in_context(work.span)
            try:
                yield
            finally:
                self._within = None

    def tool(self, block: Mapping[str, Any]) -> ToolCall:
        """A call of a tool that is run here, which begins now."""
        return ToolCall(block, self.context, content=self._content)

    @property
    def context(self) -> Context:
        """The context of what is done for it."""
        return trace.set_span_in_context(self._begun({}, {}).span)

    def __enter__(self) -> Self:
        self._begun({}, {}).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        operation = self._begun({}, {})
        operation.span.set_attributes(dict(self._told()))
        operation.__exit__(kind, exc, trace)

    def _begun(self, told: Attributes, labels: Attributes) -> Operation:
        if self._operation is None:
            parent, links = self._parent()
            model = str(self._request.get("model"))[:MAX_NAME]
            is_local = trace.get_current_span().get_span_context().is_valid
            self._operation = Operation(
                f"{self._name} {model}",
                {**_asked(self._name, model, self._request), **self._batch(), **told},
                kind=SpanKind.INTERNAL if is_local else SpanKind.SERVER,
                parent=parent,
                links=links,
                start=self._start,
                seconds=None if self._inner else REQUEST_DURATION,
                labels=labels,
            )
            if self._content:
                self._operation.span.set_attributes(prompt_attributes(self._request))
            self._request = {}  # told by now: a stream may last for an hour, and a prompt be of megabytes
        return self._operation

    def _parent(self) -> tuple[Context | None, Sequence[Link]]:
        """What is going on here; else what its client says. A batch's request is work of its own, and only linked."""
        if trace.get_current_span().get_span_context().is_valid or _TRACE not in self._headers:
            return None, ()
        theirs = _propagator.extract(self._headers)
        if current_batch.get() is None or not listens():
            return theirs, ()
        found = trace.get_current_span(theirs).get_span_context()
        return None, [Link(found)] if found.is_valid else ()

    def _batch(self) -> dict[str, str]:
        told = {} if (batch := current_batch.get()) is None else {f"{_OWN}.batch.id": batch}
        return {**told, "enduser.id": self._tenant[:MAX_NAME]} if self._tenant else told

    def _told(self) -> Attributes:
        told = dict(self._reader.attributes())
        if self._dropped:
            told[f"{_OWN}.dropped"] = [name[:MAX_NAME] for name in self._dropped[:_MAX_NAMED]]
        if self._adapted:
            told[f"{_OWN}.adaptations"] = self._adapted[:_MAX_NAMED]
        return told

    def _fed(self, *, first: bool, content: bool) -> None:
        operation = self._begun({}, {})
        if first:
            operation.span.set_attribute("gen_ai.response.time_to_first_chunk", operation.waited)
        if content:
            TIME_TO_FIRST_TOKEN.record(operation.waited, operation.labels)

    def _end(self, error: str | None) -> None:
        operation = self._begun({}, {})
        operation.span.set_attributes(dict(self._told()))
        operation.end(error)


class _Unobserved:
    """Tells nobody."""

    def answered(self, message: Mapping[str, Any]) -> None:
        """It was answered."""

    def see(self, piece: bytes) -> None:
        """A piece of a stream passed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


UNOBSERVED = _Unobserved()
"""Stands where a request is not observed."""


def _asked(operation: str, model: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What a client asked for."""
    told: dict[str, Any] = {"gen_ai.operation.name": operation, "gen_ai.request.model": model}
    if request.get("stream") is True:
        told["gen_ai.request.stream"] = True
    if type(limit := request.get("max_tokens")) is int and abs(limit) < 2**63:
        told["gen_ai.request.max_tokens"] = limit
    for name in ("temperature", "top_p", "top_k"):
        value = request.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            told[f"gen_ai.request.{name}"] = float(value)
    return told
