"""Programs that a tool of the stack runs."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types.beta import BetaBashCodeExecutionToolResultBlock, BetaCodeExecutionToolResultBlock

from llama_stack_messages_provider.config import CodeExecutionConfig, McpConfig
from llama_stack_messages_provider.dropped import DroppedFields
from llama_stack_messages_provider.server_tools.code_execution import CodeExecution
from llama_stack_messages_provider.server_tools.loop import Loop, complete_message
from llama_stack_messages_provider.server_tools.mcp.connector import McpConnector
from llama_stack_messages_provider.server_tools.plain import plain_turns
from tests.server_tools.helpers import Runtime, opened
from tests.server_tools.test_loop import Route, answer
from tests.support.wire import Json
from tests.translation.helpers import assistant, text, tool, tool_use, user

TOOL: Json = {"type": "code_execution_20250825", "name": "code_execution"}


class Interpreter(Runtime):
    """A tool that runs programs, as far as it is asked here."""

    def __init__(self, content: Any = "42", error: str | None = None, raises: Exception | None = None) -> None:
        super().__init__()
        self._answer = SimpleNamespace(content=content, error_message=error, error_code=None)
        self._raises = raises
        self.asked: list[tuple[str, Json]] = []

    async def invoke_tool(self, name: str, arguments: Json) -> Any:
        self.asked.append((name, arguments))
        if self._raises is not None:
            raise self._raises
        return self._answer


async def ran(by: Interpreter, code: Any = "print(42)", **definition: Any) -> tuple[Json, Route, list[Any]]:
    """The message, what the model was asked, and the tools."""
    tools = [{**TOOL, **definition}, tool("look")]
    request: Json = {"model": "m", "max_tokens": 100, "messages": [user("6 x 7?")], "tools": tools}
    plain, tools = await opened(request, by)
    route = Route(answer(tool_use("c1", "code_execution", code=code)), answer(text("So.")))
    return await complete_message(Loop(plain, tools, "msg_1", max_calls=3), route.complete), route, tools


@pytest.mark.parametrize("version", ["20250522", "20250825", "20260120", "20260521"])
async def test_a_program_is_run_by_the_stack_s_tool(version: str) -> None:
    by = Interpreter()
    message, route, tools = await ran(by, type=f"code_execution_{version}")
    called, result, said = message["content"]
    assert (called["type"], called["name"], called["input"]) == (
        "server_tool_use",
        "code_execution",
        {"code": "print(42)"},
    )
    BetaCodeExecutionToolResultBlock.model_validate(result)
    assert result["content"]["stdout"] == "42"
    assert said == text("So.")
    assert by.asked == [("run_python", {"code": "print(42)"})]
    second = route.requests[1]["messages"]
    assert second[-1]["content"][0]["content"] == "42"
    turns = plain_turns(assistant(*message["content"]), "messages.1.content", tools, DroppedFields(strict=True))
    assert [user("6 x 7?"), *turns][: len(second)] == second


@pytest.mark.parametrize(
    ("by", "told"),
    [
        (Interpreter(json.dumps({"stdout": "a", "stderr": "b", "exit_code": 2})), ("a", "b", 2)),
        (Interpreter(json.dumps({"stdout": "a"})), ("a", "", 0)),
        (Interpreter([SimpleNamespace(text="a"), SimpleNamespace(text="b")]), ("a\nb", "", 0)),
        (Interpreter("", "no such name"), ("", "no such name", 1)),
        (Interpreter("x" * 60_000), ("x" * 50_000, "", 0)),
        (Interpreter("[1, 2]"), ("[1, 2]", "", 0)),
    ],
    ids=["parts", "some parts", "items", "an error", "much", "JSON"],
)
async def test_what_a_program_printed_is_told(by: Interpreter, told: tuple[str, str, int]) -> None:
    message, _, _ = await ran(by)
    content = message["content"][1]["content"]
    assert (content["stdout"], content["stderr"], content["return_code"]) == told


async def test_a_failure_is_an_error_code_that_the_model_reads() -> None:
    for by, code, error in (
        (Interpreter(raises=RuntimeError()), "x", "unavailable"),
        (Interpreter(raises=TimeoutError()), "x", "execution_time_exceeded"),
        (Interpreter(), " ", "invalid_tool_input"),
        (Interpreter(), 3, "invalid_tool_input"),
    ):
        message, route, _ = await ran(by, code)
        BetaCodeExecutionToolResultBlock.model_validate(message["content"][1])
        assert message["content"][1]["content"]["error_code"] == error
        assert route.requests[1]["messages"][-1]["content"][0]["is_error"] is True


async def test_the_model_reads_how_a_program_ended() -> None:
    _, _, [programs] = await ran(Interpreter())
    for content, told in (
        ({"stdout": "", "stderr": "", "return_code": 0}, "The program printed nothing."),
        ({"stdout": "a", "stderr": "b", "return_code": 2}, "a\nb\nThe program ended with 2."),
    ):
        block = {"type": "code_execution_tool_result", "content": {"type": "code_execution_result", **content}}
        assert programs.plain_result(block, "x", DroppedFields()).content == told
    sealed = {"type": "encrypted_code_execution_result", "encrypted_stdout": "x"}
    block = {"type": "code_execution_tool_result", "content": sealed}
    assert programs.plain_result(block, "x", DroppedFields()) is None


@pytest.mark.parametrize(
    ("by", "content"),
    [
        (Interpreter("a.txt"), {"stdout": "a.txt", "stderr": "", "return_code": 0}),
        (Interpreter("", "not found"), {"stdout": "", "stderr": "not found", "return_code": 1}),
        (Interpreter(raises=RuntimeError()), {"error_code": "unavailable"}),
    ],
    ids=["printed", "failed", "not run"],
)
async def test_a_command_is_run_by_the_tool_for_commands(by: Interpreter, content: Json) -> None:
    request: Json = {"model": "m", "max_tokens": 100, "messages": [user("Files?")], "tools": [TOOL, tool("look")]}
    plain, tools = await opened(request, by)
    assert [each["name"] for each in plain["tools"]] == ["code_execution", "bash_code_execution", "look"]
    route = Route(answer(tool_use("c1", "bash_code_execution", command="ls")), answer(text("So.")))
    message = await complete_message(Loop(plain, tools, "msg_1", max_calls=3), route.complete)
    called, result, _ = message["content"]
    assert (called["type"], called["name"], called["input"]) == (
        "server_tool_use",
        "bash_code_execution",
        {"command": "ls"},
    )
    BetaBashCodeExecutionToolResultBlock.model_validate(result)
    assert content.items() <= result["content"].items()
    assert by.asked == [("run_bash", {"command": "ls"})]
    second = route.requests[1]["messages"]
    turns = plain_turns(assistant(*message["content"]), "messages.1.content", tools, DroppedFields(strict=True))
    assert [user("Files?"), *turns][: len(second)] == second


async def test_the_first_version_has_no_commands() -> None:
    request: Json = {"model": "m", "messages": [user("Hi")], "tools": [{**TOOL, "type": "code_execution_20250522"}]}
    plain, _ = await opened(request, Interpreter())
    assert [each["name"] for each in plain["tools"]] == ["code_execution"]


async def test_nothing_is_run_unless_the_operator_says_by_what() -> None:
    servers = McpConnector(McpConfig())
    for tools, config in (
        (Runtime(), CodeExecutionConfig()),
        (None, CodeExecutionConfig(tool="run_python")),
        (Runtime(), CodeExecutionConfig(tool="gone")),
        (Runtime(), CodeExecutionConfig(tool="run_python", server="gone")),
    ):
        assert await CodeExecution(tools, servers, config).run_by() is None
    there = CodeExecution(Runtime(), servers, CodeExecutionConfig(tool="run_python"))
    assert await there.run_by() == "the stack's tool run_python"
