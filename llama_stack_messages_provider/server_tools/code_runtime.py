"""Where programs are run: a tool of the stack's tool runtime, or one of an MCP server that the stack knows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llama_stack_messages_provider.server_tools.mcp.session import McpSession
from llama_stack_messages_provider.server_tools.tool import answer_text

__all__ = ["McpRunner", "Printed", "Runner", "RuntimeRunner"]


@dataclass(frozen=True, slots=True)
class Printed:
    """What a program printed, and how it ended."""

    stdout: str
    stderr: str
    return_code: int

    @classmethod
    def of(cls, output: str, error: str, *, failed: bool) -> "Printed":
        """What a tool's answer says: a JSON object with `stdout` tells its parts apart."""
        return _parts(output) or cls(output, error, 1 if failed or error else 0)


class Runner(Protocol):
    """Runs the programs of one message."""

    async def run(self, tool: str, arguments: Mapping[str, Any]) -> Printed:
        """What a call of a tool printed; it raises what it likes where there is no such tool."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class RuntimeRunner:
    """The stack's tool runtime.

    Args:
        tools: Its API.
    """

    def __init__(self, tools: Any) -> None:
        self._tools = tools

    async def run(self, tool: str, arguments: Mapping[str, Any]) -> Printed:
        """What a call printed."""
        answer = await self._tools.invoke_tool(tool, dict(arguments))
        return Printed.of(answer_text(answer.content), str(answer.error_message or ""), failed=bool(answer.error_code))

    async def close(self) -> None:
        """Nothing is open."""


class McpRunner:
    """A server, with one session for all programs of a message.

    Args:
        session: The session.
    """

    def __init__(self, session: McpSession) -> None:
        self._session = session

    async def run(self, tool: str, arguments: Mapping[str, Any]) -> Printed:
        """What a call printed; what is no text is named."""
        result = await self._session.call(tool, arguments)
        texts = [_text(item) for item in result.get("content") or ()]
        if not texts and (structured := result.get("structuredContent")) is not None:
            texts = [json.dumps(structured, ensure_ascii=False)]
        said = "\n".join(texts)
        return (
            Printed.of("", said, failed=True) if result.get("isError") is True else Printed.of(said, "", failed=False)
        )

    async def close(self) -> None:
        """End the session."""
        await self._session.close()


def _text(item: Mapping[str, Any]) -> str:
    text = item.get("text")
    return text if isinstance(text, str) else f"[{item.get('type')} that cannot be shown]"


def _parts(output: str) -> Printed | None:
    """The parts of an answer that tells them apart; None for any other."""
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("stdout"), str):
        return None
    code = answer.get("return_code", answer.get("exit_code", answer.get("returncode", 0)))
    return Printed(answer["stdout"], str(answer.get("stderr") or ""), code if type(code) is int else 0)
