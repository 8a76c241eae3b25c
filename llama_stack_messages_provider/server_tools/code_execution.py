"""Anthropic's code execution where the stack has a tool that runs programs; there is no sandbox of our own.

Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack_messages_provider.config import CodeExecutionConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.host.log import get_logger
from llama_stack_messages_provider.host.tool_runtime import may_use
from llama_stack_messages_provider.rewriting.documents import encodable
from llama_stack_messages_provider.server_tools.one_name import OneName, custom_tool, is_of_kind
from llama_stack_messages_provider.server_tools.tool import Block, PlainResult, answer_text

__all__ = ["CodeExecution"]

logger = get_logger(name=__name__, category="providers")

_NAME, _KIND, _RESULT = "code_execution", "code_execution_", "code_execution_tool_result"


class CodeExecution:
    """The stack's tool that runs programs: a `ServerToolType`.

    Args:
        tools: The stack's tool runtime API; None if it has none.
        config: Which tool, and its bounds.
    """

    def __init__(self, tools: Any, config: CodeExecutionConfig) -> None:
        self._tools = tools
        self._config = config

    def defines(self, definition: Block) -> bool:
        """Whether a tool of a request is Anthropic's code execution, of any version."""
        return is_of_kind(definition, _KIND)

    async def available(self) -> bool:
        """Whether there is such a tool, and the current user may use it."""
        name = self._config.tool
        return name is not None and self._tools is not None and await may_use(self._tools, name)

    async def run_by(self) -> str | None:
        """Who runs programs for the current user, in words; None where nobody does."""
        return f"the stack's tool {self._config.tool}" if await self.available() else None

    async def open(self, definition: Block, path: str, dropped: DroppedFields) -> "_Programs":
        """The programs of a request."""
        return _Programs(self._tools, self._config, strict=definition.get("strict") is True)


class _Programs(OneName):
    """The code execution of one request: a `ServerTool`."""

    name = _NAME
    usage_field = "code_execution_requests"

    def __init__(self, tools: Any, config: CodeExecutionConfig, *, strict: bool) -> None:
        self._tools = tools
        self._config = config
        self._strict = strict

    @property
    def definitions(self) -> Sequence[dict[str, Any]]:
        """The custom tool that the model is offered."""
        code = {"type": "string", "description": "The program, in Python. What it prints is the result."}
        text = "Runs a Python program."
        return [custom_tool(_NAME, text, {"code": code}, required=["code"], strict=self._strict)]

    def refusal(self, call: Block, uses: int) -> dict[str, Any] | None:
        """The result of a program that is not run."""
        return None if _code_of(call).strip() else _failed(call, "invalid_tool_input")

    async def run(self, call: Block, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a program printed; a failure is a result with an error code."""
        config = self._config
        try:
            async with asyncio.timeout(config.seconds):
                answer = await self._tools.invoke_tool(config.tool, {config.argument: _code_of(call)})
            output, error = answer_text(answer.content), str(answer.error_message or "")
        except TimeoutError:
            return _failed(call, "execution_time_exceeded")
        except Exception as exc:  # a tool may answer anything, and none ends a message
            logger.warning("A program could not be run", error=repr(exc))
            return _failed(call, "unavailable")
        result = {"stdout": output, "stderr": error, "return_code": 1 if error or answer.error_code else 0}
        result |= _parts_of(output)
        for name in ("stdout", "stderr"):
            result[name] = encodable(str(result[name]))[: config.characters]
        return _block(call, {"type": "code_execution_result", **result, "content": []})

    def plain_result(self, block: Block, path: str, dropped: DroppedFields) -> PlainResult | None:
        """What a program printed, if a block says it."""
        content = block.get("content")
        if block.get("type") != _RESULT or not isinstance(content, Mapping):
            return None
        if isinstance(code := content.get("error_code"), str):
            return PlainResult(f"The program was not run: {code}", is_error=True)
        if content.get("type") != "code_execution_result":  # sealed
            return None
        printed = [text for name in ("stdout", "stderr") if isinstance(text := content.get(name), str) and text]
        failed = content.get("return_code") not in (0, None)
        end = [f"The program ended with {content.get('return_code')}."] if failed else []
        return PlainResult("\n".join([*printed, *end]) or "The program printed nothing.", is_error=failed)


def _code_of(call: Block) -> str:
    code = call["input"].get("code") if isinstance(call.get("input"), Mapping) else None
    return code if isinstance(code, str) else ""


def _parts_of(output: str) -> dict[str, Any]:
    """The parts of an answer that tells them apart; nothing of any other."""
    try:
        answer = json.loads(output)
    except ValueError:
        return {}
    if not isinstance(answer, dict) or not isinstance(answer.get("stdout"), str):
        return {}
    code = answer.get("return_code", answer.get("exit_code", answer.get("returncode", 0)))
    return {
        "stdout": answer["stdout"],
        "stderr": str(answer.get("stderr") or ""),
        "return_code": code if type(code) is int else 0,
    }


def _failed(call: Block, code: str) -> dict[str, Any]:
    return _block(call, {"type": "code_execution_tool_result_error", "error_code": code})


def _block(call: Block, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": _RESULT, "tool_use_id": call["id"], "content": content}
