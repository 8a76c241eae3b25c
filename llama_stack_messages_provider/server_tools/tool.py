"""What a tool has to offer that is run here.

To add one is to write a `ServerToolType`, which recognises its definition and opens it for one request, and a
`ServerTool`, which the loop asks the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llama_stack_messages_provider.dropped import DroppedFields

__all__ = ["Block", "PlainResult", "ServerTool", "ServerToolType", "answer_text"]

type Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PlainResult:
    """What the model reads for a result block: the content of a `tool_result`, a string or blocks."""

    content: str | list[dict[str, Any]]
    is_error: bool = False


class ServerTool(Protocol):
    """A server tool as one request defines it."""

    @property
    def definitions(self) -> Sequence[dict[str, Any]]:
        """The custom tools that the model is offered in its place; their names are the tool's."""
        ...

    @property
    def usage_field(self) -> str:
        """What counts its calls: a field of `usage.server_tool_use`, or a name that is counted but not told."""
        ...

    def call_fields(self, name: str) -> dict[str, Any]:
        """The `type`, `name` and further fields of the block that stands in the message for a call of a custom tool."""
        ...

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """The result block of a call that is not to be made, after so many that were; None if it is to be made."""
        ...

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """The result block of a call. It never raises: a failure is a result with an error code.

        Args:
            call: The block.
            request: The plain request that the model answered with it: the tools, and all that was said before.
        """
        ...

    def custom_name(self, block: Block) -> str | None:
        """The custom tool that a block of the history called; None if it is no call of this tool's."""
        ...

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """What the model reads for a block of the history; None if it is no result of this tool's.

        Args:
            block: The block, of any shape.
            path: Where it stands in the request.
            dropped: Takes what cannot be read.
        """
        ...


class ServerToolType(Protocol):
    """A server tool that the stack can run."""

    def defines(self, definition: Block) -> bool:
        """Whether a tool of a request is of this type."""
        ...

    async def available(self) -> bool:
        """Whether the stack can run it for the current user."""
        ...

    async def open(self, definition: Block, path: str, dropped: DroppedFields) -> ServerTool:
        """The tool as a request defines it at `path`; `dropped` takes what it cannot do.

        Raises:
            InvalidRequestError: A field is not as Anthropic documents it.
        """
        ...


def answer_text(content: Any) -> str:
    """The text of a tool's answer: a string, an item, or a list of them."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(map(answer_text, content))
    return str(getattr(content, "text", "") or "")
