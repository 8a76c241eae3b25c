"""Anthropic's code execution where the stack has a tool that runs programs; there is no sandbox of our own.

| what the model calls | since | what answers it |
| --- | --- | --- |
| `code_execution`, a program in Python | `code_execution_20250522` | `code_execution_tool_result` |
| `bash_code_execution`, a command of a shell | `code_execution_20250825` | `bash_code_execution_tool_result` |

`text_editor_code_execution` needs files that stay, for which there is no place; a shell can do the same.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_stack_messages_provider.config import CodeExecutionConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tool_runtime import may_use
from llama_stack_messages_provider.rewriting.documents import encodable
from llama_stack_messages_provider.server_tools.code_runtime import McpRunner, Runner, RuntimeRunner
from llama_stack_messages_provider.server_tools.mcp.connector import McpConnector
from llama_stack_messages_provider.server_tools.one_name import custom_tool, is_of_kind
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult

__all__ = ["CodeExecution"]

logger = get_logger(name=__name__, category="providers")

_KIND, _WITHOUT_BASH = "code_execution_", "code_execution_20250522"


@dataclass(frozen=True, slots=True)
class _Language:
    """One of the tools that stand behind a definition.

    Args:
        name: The model's name for it; its blocks are named so, too.
        field: What a call has the program in.
        about: What the model is told of it, and of the field.
    """

    name: str
    field: str
    about: tuple[str, str]

    @property
    def result_type(self) -> str:
        """The type of the block that answers a call."""
        return f"{self.name}_tool_result"

    @property
    def definition(self) -> dict[str, Any]:
        """The custom tool."""
        text, field = self.about
        properties = {self.field: {"type": "string", "description": field}}
        return custom_tool(self.name, text, properties, required=[self.field])

    def program(self, call: Block) -> str:
        """What a call wants to have run; nothing where it says nothing."""
        given = call["input"].get(self.field) if isinstance(call.get("input"), Mapping) else None
        return given if isinstance(given, str) else ""

    def result(self, call: Block, **printed: Any) -> dict[str, Any]:
        """The block that answers a call."""
        return self._block(call, {"type": f"{self.name}_result", **printed, "content": []})

    def failure(self, call: Block, code: str) -> dict[str, Any]:
        """The block that says why a program was not run."""
        return self._block(call, {"type": f"{self.name}_tool_result_error", "error_code": code})

    def _block(self, call: Block, content: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": self.result_type, "tool_use_id": call["id"], "content": content}


_PYTHON = _Language(
    "code_execution",
    "code",
    ("Runs a Python program.", "The program, in Python. What it prints is the result."),
)
_BASH = _Language(
    "bash_code_execution",
    "command",
    ("Runs a command in a shell, where Python programs are run too.", "The command."),
)


class CodeExecution:
    """The stack's tools that run programs: a `ServerToolType`.

    Args:
        tools: The stack's tool runtime API; None if it has none.
        servers: Knows the stack's MCP servers.
        config: Which tools, and their bounds.
    """

    def __init__(self, tools: Any, servers: McpConnector, config: CodeExecutionConfig) -> None:
        self._tools = tools
        self._servers = servers
        self._config = config

    def defines(self, definition: Block) -> bool:
        """Whether a tool of a request is Anthropic's code execution, of any version."""
        return is_of_kind(definition, _KIND)

    async def available(self) -> bool:
        """Whether there is such a tool, and the current user may use it."""
        return await self._runner() is not None

    async def run_by(self) -> str | None:
        """Who runs programs for the current user, in words; None where nobody does."""
        if not await self.available():
            return None
        server = f" of the MCP server {self._config.server}" if self._config.server else ""
        return f"the stack's tool {self._config.tool}{server}"

    async def open(self, definition: Block, path: str, dropped: DroppedFields) -> "_Programs":
        """The programs of a request."""
        runner = await self._runner()
        assert runner is not None
        has_bash = self._config.bash is not None and definition.get("type") != _WITHOUT_BASH
        languages = [_PYTHON, _BASH] if has_bash else [_PYTHON]
        return _Programs(runner, self._config, languages, strict=definition.get("strict") is True)

    async def _runner(self) -> Runner | None:
        config = self._config
        if config.tool is None:
            return None
        if config.server is not None:
            session = await self._servers.session(config.server, seconds=config.seconds)
            return McpRunner(session) if session is not None else None
        has_tool = self._tools is not None and await may_use(self._tools, config.tool)
        return RuntimeRunner(self._tools) if has_tool else None


class _Programs:
    """The code execution of one request: a `ServerTool`."""

    usage_field = "code_execution_requests"

    def __init__(
        self, runner: Runner, config: CodeExecutionConfig, languages: Sequence[_Language], *, strict: bool
    ) -> None:
        self._runner = runner
        self._config = config
        self._tools = {_PYTHON.name: (config.tool, config.argument), _BASH.name: (config.bash, config.bash_argument)}
        strictly = {"strict": True} if strict else {}
        self.definitions: Sequence[dict[str, Any]] = [{**each.definition, **strictly} for each in languages]
        self._languages = {each.name: each for each in languages}
        self._by_result = {each.result_type: each for each in languages}

    def call_fields(self, name: str) -> dict[str, Any]:
        """The fields of a call's block."""
        return {"type": "server_tool_use", "name": name}

    def custom_name(self, block: Block) -> str | None:
        """The custom tool, if a block is a call of one of these."""
        name = block.get("name")
        return name if block.get("type") == "server_tool_use" and name in self._languages else None

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """The result of a program that is not run."""
        language = self._languages[call["name"]]
        return None if language.program(call).strip() else language.failure(call, "invalid_tool_input")

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a program printed; a failure is a result with an error code."""
        language = self._languages[call["name"]]
        tool, argument = self._tools[language.name]
        try:
            async with asyncio.timeout(self._config.seconds):
                printed = await self._runner.run(str(tool), {argument: language.program(call)})
        except TimeoutError:
            return language.failure(call, "execution_time_exceeded")
        except Exception as exc:  # a tool may answer anything, and none ends a message
            logger.warning("A program could not be run", error=repr(exc))
            return language.failure(call, "unavailable")
        most = self._config.characters
        out, err = (encodable(text)[:most] for text in (printed.stdout, printed.stderr))
        return language.result(call, stdout=out, stderr=err, return_code=printed.return_code)

    async def close(self) -> None:
        """Let go of who runs programs."""
        await self._runner.close()

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """What a program printed, if a block says it."""
        language, content = self._by_result.get(str(block.get("type"))), block.get("content")
        if language is None or not isinstance(content, Mapping):
            return None
        if isinstance(code := content.get("error_code"), str):
            return PlainResult(f"The program was not run: {code}", is_error=True)
        if content.get("type") != f"{language.name}_result":  # sealed
            return None
        printed = [text for name in ("stdout", "stderr") if isinstance(text := content.get(name), str) and text]
        failed = content.get("return_code") not in (0, None)
        end = [f"The program ended with {content.get('return_code')}."] if failed else []
        return PlainResult("\n".join([*printed, *end]) or "The program printed nothing.", is_error=failed)
