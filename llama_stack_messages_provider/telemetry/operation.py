"""One operation: its span, its clock, and how it ended."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, get_args

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from llama_stack_messages_provider.errors import ErrorType, MessagesError

__all__ = ["CANCELLED", "Attributes", "Operation", "error_type_of", "known_error"]

type Attributes = Mapping[str, str | bool | int | float | Sequence[str]]

CANCELLED = "cancelled"
"""`error.type` of what was given up: its client left, or the server stops."""

_tracer = trace.get_tracer("llama_stack.messages")


_TYPES = frozenset(get_args(ErrorType))
_OTHER = "_OTHER"


def known_error(kind: str) -> str:
    """An error type that an upstream told: Anthropic's, or the conventions' word for any other."""
    return kind if kind in _TYPES else _OTHER


def error_type_of(exc: BaseException) -> str:
    """The `error.type` of a failure: Anthropic's error type, `cancelled`, or the name of an exception of ours."""
    if isinstance(exc, MessagesError):
        return known_error(exc.error_type)
    if isinstance(exc, (asyncio.CancelledError, GeneratorExit)):
        return CANCELLED
    return type(exc).__qualname__


class Operation:
    """An operation that has begun. Entered, it is the current span, and ends with the block.

    No exception is recorded with its words: an upstream's repeat what it was sent.

    Args:
        name: Of the span.
        attributes: Of the span, known from the start.
        kind: Of the span.
        parent: The context that it belongs to; the current one by default.
        links: What else it belongs to.
        start: When it began, in nanoseconds since 1970; now by default.
        seconds: Takes its duration, with the attributes `labels`.
        labels: Attributes of its metrics.
    """

    __slots__ = ("_begun", "_seconds", "_token", "ended", "labels", "span")

    def __init__(
        self,
        name: str,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: Context | None = None,
        links: Sequence[Link] = (),
        start: int | None = None,
        seconds: Histogram | None = None,
        labels: Attributes | None = None,
    ) -> None:
        self.span = _tracer.start_span(
            name, parent, kind, dict(attributes), links, start_time=start, record_exception=False
        )
        ago = 0.0 if start is None else (time.time_ns() - start) / 1e9
        self._begun = time.perf_counter() - ago
        self._seconds = seconds
        self._token: object = None
        self.labels: dict[str, str | bool | int | float | Sequence[str]] = dict(labels or {})
        self.ended = False

    @property
    def waited(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._begun

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within it this is the current span; nothing is yielded to others meanwhile but by `await`."""
        token = otel_context.attach(trace.set_span_in_context(self.span))
        try:
            yield
        finally:
            otel_context.detach(token)

    def end(self, error: str | None = None) -> None:
        """It is over; what comes later changes nothing."""
        if self.ended:
            return
        self.ended = True
        if error is not None:
            self.span.set_attribute("error.type", error)
            self.span.set_status(Status(StatusCode.ERROR))
        if self._seconds is not None:
            self._seconds.record(self.waited, {**self.labels, "error.type": error} if error else self.labels)
        self.span.end()

    def __enter__(self) -> Self:
        self._token = otel_context.attach(trace.set_span_in_context(self.span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)  # type: ignore[arg-type]
        self.end(None if exc is None else error_type_of(exc))
