"""The SDK's tool runner completes tasks with Anthropic's client tools on a model that knows nothing of them."""

import base64
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.lib.tools import BetaBuiltinFunctionTool, ToolError
from anthropic.tools import BetaLocalFilesystemMemoryTool
from anthropic.tools.browser import (
    BetaAbstractBrowserToolset20260801,
    BetaBrowserNavigateResult,
    BetaBrowserState,
    BetaScreenshotResult,
)
from anthropic.tools.computer import BetaAbstractComputerToolset20260801
from jsonschema import Draft202012Validator

from tests.conftest import Fleet
from tests.fidelity.cases import Json, answer
from tests.fidelity.documents import png
from tests.fidelity.matching import ANY, Has, differences
from tests.support.upstream import RecordedRequest, Reply, call

MODEL = "openai/openai-model"
CHAT = "/v1/chat/completions"


class Bash(BetaBuiltinFunctionTool):
    """Runs commands in a folder; the SDK has the tool's type and leaves running it to its users."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def to_dict(self) -> Any:
        return {"type": "bash_20250124", "name": "bash"}

    def call(self, input: Any) -> str:
        if input.get("restart"):
            return "restarted"
        done = subprocess.run(
            ["/bin/sh", "-c", input["command"]],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if done.returncode:
            raise ToolError(f"exit code {done.returncode}: {done.stderr}")
        return done.stdout


class Editor(BetaBuiltinFunctionTool):
    """Edits files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def to_dict(self) -> Any:
        return {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}

    def call(self, input: Any) -> str:
        file = self._folder / Path(input["path"]).name
        run: dict[str, Callable[[], str]] = {
            "view": file.read_text,
            "create": lambda: self._write(file, input["file_text"]),
            "str_replace": lambda: self._write(file, self._replaced(file, input["old_str"], input["new_str"])),
            "insert": lambda: self._write(file, self._inserted(file, input["insert_line"], input["insert_text"])),
        }
        return run[input["command"]]()

    def _write(self, file: Path, text: str) -> str:
        file.write_text(text)
        return "done"

    def _replaced(self, file: Path, old: str, new: str) -> str:
        if old not in file.read_text():
            raise ToolError("no such text")
        return file.read_text().replace(old, new)

    def _inserted(self, file: Path, line: int, text: str) -> str:
        lines = file.read_text().splitlines(keepends=True)
        return "".join([*lines[:line], text, *lines[line:]])


class Model:
    """A model that calls these functions one after the other, and then says that it is done."""

    def __init__(self, *calls: tuple[str, Json]) -> None:
        self._calls = calls

    def __call__(self, request: RecordedRequest) -> Reply:
        done = sum(message["role"] == "tool" for message in request.json["messages"])
        if done < len(self._calls):
            self._check(request.json, *self._calls[done])
            made = [call(*self._calls[done], id=f"call_{done}")]
            reply = answer("Next.", reasoning_content="What now?", tool_calls=made)
        else:
            reply = answer("Done.")
        return reply(request) if callable(reply) else reply

    def _check(self, request: Json, name: str, given: Json) -> None:
        """The model can only make what it was given a schema for."""
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in request["tools"]}
        Draft202012Validator(offered[name]).validate(given)


def run(client: anthropic.Anthropic, tool: Any, *, stream: bool) -> str:
    """Let the runner work until the model has no more calls; its last words."""
    request: Any = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Go."}], "tools": [tool]}
    runner: Any = (
        client.beta.messages.tool_runner(**request, stream=True)
        if stream
        else client.beta.messages.tool_runner(**request)
    )
    last = None
    for turn in runner:
        last = turn.get_final_message() if stream else turn
    assert last is not None
    return "".join(block.text for block in last.content if block.type == "text")


def results(fleet: Fleet) -> Sequence[str]:
    """What the tools told the model."""
    messages = fleet.upstreams["openai"].last.json["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_task_for_bash_is_completed(client: anthropic.Anthropic, fleet: Fleet, tmp_path: Path, stream: bool) -> None:
    commands = ("echo 'otters swim' > a.txt && ls", "tr a-z A-Z < a.txt > b.txt", "cat b.txt", "cat c.txt")
    fleet.upstreams["openai"].reply(
        CHAT, Model(*(("bash", {"command": command}) for command in commands), ("bash", {"restart": True}))
    )

    assert run(client, Bash(tmp_path), stream=stream) == "Done."

    assert (tmp_path / "b.txt").read_text() == "OTTERS SWIM\n"
    expected = ["a.txt\n", "", "OTTERS SWIM\n", Has("[tool error] exit code 1", "c.txt"), "restarted"]
    assert differences(expected, results(fleet)) == []


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_task_for_the_text_editor_is_completed(
    client: anthropic.Anthropic, fleet: Fleet, tmp_path: Path, stream: bool
) -> None:
    path = "/repo/poem.txt"
    edits: list[Json] = [
        {"command": "create", "path": path, "file_text": "Otters dig.\n"},
        {"command": "str_replace", "path": path, "old_str": "dig", "new_str": "swim"},
        {"command": "str_replace", "path": path, "old_str": "fly", "new_str": "swim"},
        {"command": "insert", "path": path, "insert_line": 1, "insert_text": "Badgers dig.\n"},
        {"command": "view", "path": path},
    ]
    fleet.upstreams["openai"].reply(CHAT, Model(*(("str_replace_based_edit_tool", edit) for edit in edits)))

    assert run(client, Editor(tmp_path), stream=stream) == "Done."

    poem = "Otters swim.\nBadgers dig.\n"
    assert (tmp_path / "poem.txt").read_text() == poem
    assert results(fleet) == ["done", "done", "[tool error] no such text", "done", poem]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_sdk_s_own_memory_tool_remembers(
    client: anthropic.Anthropic, fleet: Fleet, tmp_path: Path, stream: bool
) -> None:
    path = "/memories/animals.md"
    steps: list[Json] = [
        {"command": "create", "path": path, "file_text": "Otters swim.\n"},
        {"command": "insert", "path": path, "insert_line": 1, "insert_text": "Badgers dig.\n"},
        {"command": "rename", "old_path": path, "new_path": "/memories/all.md"},
        {"command": "view", "path": "/memories/all.md"},
    ]
    fleet.upstreams["openai"].reply(CHAT, Model(*(("memory", step) for step in steps)))

    assert run(client, BetaLocalFilesystemMemoryTool(base_path=str(tmp_path)), stream=stream) == "Done."

    assert (tmp_path / "memories" / "all.md").read_text() == "Otters swim.\nBadgers dig.\n"
    assert differences([ANY, ANY, ANY, Has("Otters swim.", "Badgers dig.")], results(fleet)) == []


class Screen(BetaAbstractComputerToolset20260801):
    """Notes what is done to it."""

    def __init__(self) -> None:
        super().__init__(confirm=lambda _: True)
        self.done: list[Any] = []

    def execute(self, context: Any, name: Any, input: Any) -> Any:
        self.done.append((name, input.to_dict()))
        return BetaScreenshotResult(data=PIXEL) if name == "screenshot" else None


class Window(BetaAbstractBrowserToolset20260801):
    """Notes what is done to it."""

    def __init__(self) -> None:
        super().__init__(confirm=lambda _: True)
        self.done: list[Any] = []

    def execute(self, context: Any, name: Any, input: Any) -> Any:
        self.done.append((name, input.to_dict()))
        if name == "screenshot":
            return BetaScreenshotResult(data=PIXEL)
        return BetaBrowserNavigateResult(url="https://otters.test")

    def _browser_state(self, context: Any) -> BetaBrowserState:
        return BetaBrowserState(tabs=[{"tab_id": "7", "title": "Otters", "url": "https://otters.test", "active": True}])


PIXEL = base64.b64encode(png(1, 1)).decode()
POINT: Json = {"type": "coordinate", "x": 3, "y": 4}
TOOLSETS: dict[str, tuple[type[Screen] | type[Window], list[tuple[str, Json]]]] = {
    "computer": (Screen, [("screenshot", {}), ("left_click", {"coordinate": [3, 4]}), ("type", {"text": "otters"})]),
    "browser": (Window, [("navigate", {"url": "otters.test"}), ("screenshot", {}), ("left_click", {"target": POINT})]),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("family", TOOLSETS)
def test_a_task_for_a_toolset_is_completed(
    client: anthropic.Anthropic, fleet: Fleet, family: str, stream: bool
) -> None:
    """Its results come with pictures, and the browser's with the state of its tabs."""
    kind, steps = TOOLSETS[family]
    toolset = kind()
    fleet.upstreams["openai"].reply(CHAT, Model(*((f"{family}_{name}", given) for name, given in steps)))

    assert run(client, toolset, stream=stream) == "Done."

    assert toolset.done == steps
    sent = fleet.upstreams["openai"].last.json["messages"]
    assert [each["role"] for each in sent].count("tool") == len(steps)
    [picture] = [part for each in sent if isinstance(each["content"], list) for part in each["content"][1:2]]
    assert picture == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    if family == "browser":
        assert results(fleet)[-1].endswith("<browser_state>\n7: Otters (https://otters.test), active\n</browser_state>")
