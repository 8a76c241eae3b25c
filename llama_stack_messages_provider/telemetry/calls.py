"""Calls of models and of tools, as they are told to OpenTelemetry."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from llama_stack_messages_provider.telemetry.answers import AnswerReader
from llama_stack_messages_provider.telemetry.content import clipped
from llama_stack_messages_provider.telemetry.instruments import (
    CACHED_TOKENS,
    OPERATION_DURATION,
    TOKENS,
    TOOL_DURATION,
)
from llama_stack_messages_provider.telemetry.operation import Operation, error_type_of
from llama_stack_messages_provider.telemetry.watched import WatchedEvents

__all__ = ["MAX_NAME", "Call", "ToolCall", "Way"]

MAX_NAME: int = 200
"""Characters of a name that somebody else chose."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a request goes.

    Args:
        route: `native` or `translation`.
        provider: `gen_ai.provider.name`.
        model: The model's name in this stack.
        upstream_model: The upstream's name of it.
        label: The model's name as an attribute of metrics: one of as many as there are registered models.
        engine: The software behind it.
        address: The upstream's host; None where only its provider knows it.
        port: The upstream's port.
    """

    route: str
    provider: str
    model: str
    upstream_model: str
    label: str
    engine: str
    address: str | None = None
    port: int | None = None

    def labels(self, operation: str) -> dict[str, str]:
        """The attributes of metrics."""
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": self.provider,
            "gen_ai.request.model": self.label,
        }


class Call:
    """One call of a model. Entered, it is the current span; a failure in the block ends it.

    Args:
        operation: `chat` or `count_tokens`.
        way: The model.
        parent: The context of its message.
        stream: Whether its answer is streamed.
    """

    def __init__(self, operation: str, way: Way, parent: Context, *, stream: bool) -> None:
        name = way.upstream_model[:MAX_NAME]
        told: dict[str, str | bool | int | float | Sequence[str]] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": way.provider,
            "gen_ai.request.model": name,
            "gen_ai.response.model": name,
        }
        if stream:
            told["gen_ai.request.stream"] = True
        if way.address is not None:
            told["server.address"] = way.address
        if way.port is not None:
            told["server.port"] = way.port
        self._operation = Operation(
            f"{operation} {name}",
            told,
            kind=SpanKind.CLIENT,
            parent=parent,
            seconds=OPERATION_DURATION,
            labels=way.labels(operation),
        )
        self._reader = AnswerReader()

    def answered(self, message: Mapping[str, Any]) -> None:
        """It was answered with a whole message."""
        self._reader.take(message)

    def counted(self, tokens: int) -> None:
        """It was answered with a count."""
        self._operation.span.set_attribute("gen_ai.usage.input_tokens", tokens)

    def events(self, first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """The rest of its events, which are watched; with their end it ends."""
        watched = WatchedEvents(rest, self._reader, self._fed, self._end)
        watched.saw(first)
        return watched

    def __enter__(self) -> Self:
        self._operation.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell()
        self._operation.__exit__(kind, exc, trace)

    def current(self) -> AbstractContextManager[None]:
        """Within it this is the current span; it does not end with the block."""
        return self._operation.current()

    def failed(self, exc: BaseException) -> None:
        """It failed before its first event."""
        self._operation.end(error_type_of(exc))

    def _fed(self, *, first: bool, content: bool) -> None:
        if first:
            self._operation.span.set_attribute("gen_ai.response.time_to_first_chunk", self._operation.waited)

    def _end(self, error: str | None) -> None:
        self._tell()
        self._operation.end(error)

    def _tell(self) -> None:
        reader, labels = self._reader, self._operation.labels
        if self._operation.ended:
            return
        self._operation.span.set_attributes(dict(reader.attributes()))
        if not reader.told:
            return
        TOKENS.record(reader.input_tokens, {**labels, "gen_ai.token.type": "input"})
        TOKENS.record(reader.output_tokens, {**labels, "gen_ai.token.type": "output"})
        for kind, tokens in reader.cached().items():
            CACHED_TOKENS.add(tokens, {**labels, "kind": kind})


class ToolCall:
    """One call of a tool that is run here. Entered, it is the current span, and ends with the block.

    Args:
        block: The call.
        parent: The context of its message.
        content: Whether arguments and results are told.
    """

    def __init__(self, block: Mapping[str, Any], parent: Context, *, content: bool) -> None:
        name = str(block.get("name"))[:MAX_NAME]
        # Tools of MCP servers have any name; those that the platform knows are few.
        label = "mcp" if block.get("type") == "mcp_tool_use" else name
        told = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": str(block.get("id"))[:MAX_NAME],
            "gen_ai.tool.type": "extension",
        }
        if content:
            told["gen_ai.tool.call.arguments"] = clipped(block.get("input"))
        self._content = content
        self._operation = Operation(
            f"execute_tool {name}", told, parent=parent, seconds=TOOL_DURATION, labels={"gen_ai.tool.name": label}
        )

    def answered(self, result: Mapping[str, Any]) -> None:
        """It gave a result block, which may be a failure."""
        content = result.get("content")
        code = content.get("error_code") if isinstance(content, Mapping) else None
        if isinstance(code, str) or result.get("is_error") is True:
            self._operation.end(code if isinstance(code, str) else "tool_error")
        elif self._content:
            self._operation.span.set_attribute("gen_ai.tool.call.result", clipped(content))

    def __enter__(self) -> Self:
        self._operation.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._operation.__exit__(kind, exc, trace)
