"""Clients that others write, each in an environment of its own, over both routes.

What a Python client needs stands at the head of its script (PEP 723), what those on Node need in `package.json`.
uv keeps the environments in its cache, npm the modules in `.clients/`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Fleet
from tests.support.replies import Reply, json_reply, stream_reply
from tests.support.upstream import RecordedRequest, chat_reply
from tests.support.wire import (
    Json,
    anthropic_message,
    anthropic_stream,
    call,
    encode_events,
    text_block,
    tool_use_block,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1000)]

HERE = Path(__file__).parent
PYTHON = sorted(path.stem for path in HERE.glob("with_*.py"))
NODE = sorted(path.stem for path in HERE.glob("with_*.mjs"))
INSTALL_SECONDS, RUN_SECONDS = 300, 300
MODELS = ("vllm-native/vllm-model", "openai/openai-model")
"""One of each route."""
SAID = {"text": "Hello.", "streamed": "Hello.", "results": ["Sunny in Paris."], "told": "Good."}
TOLD: dict[str, Json] = {
    "with_instructor": {"objects": ["Paris", "Paris"]},
    "with_strands": {name: value for name, value in SAID.items() if name != "text"},
}
"""Where it is not `SAID`."""


# --- the model ---


def _next(request: RecordedRequest) -> str | None:
    """What the model says; None where it calls the tool that it was given."""
    body = request.json
    last = body["messages"][-1]
    blocks = last["content"] if isinstance(last["content"], list) else []
    if last["role"] == "tool" or any(block["type"] == "tool_result" for block in blocks):
        return "Good."
    return None if body.get("tools") else "Hello."


def _chat(request: RecordedRequest) -> Reply:
    said = _next(request)
    if said is not None:
        answer = chat_reply(said)
    else:
        answer = chat_reply(tool_calls=[call(request.json["tools"][0]["function"]["name"], {"city": "Paris"})])
    assert callable(answer)
    return answer(request)


def _message(request: RecordedRequest) -> Reply:
    said = _next(request)
    block = (
        text_block(said) if said is not None else tool_use_block(request.json["tools"][0]["name"], {"city": "Paris"})
    )
    message = anthropic_message([block], model=request.json["model"])
    if request.json.get("stream"):
        return stream_reply(encode_events(anthropic_stream(message)))
    return json_reply(message)


@pytest.fixture
def url(fleet: Fleet) -> str:
    """The fleet's, each route of which has the same model behind it."""
    vllm = fleet.upstreams["vllm"]
    probed = vllm.personality.answer("POST", "/v1/messages")
    assert callable(probed)
    vllm.reply("/v1/messages", lambda request: (_message if "messages" in request.json else probed)(request))
    fleet.upstreams["openai"].reply("/v1/chat/completions", _chat)
    return fleet.base_url


# --- the clients ---


def run(*command: str | Path, cwd: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "UV_SYSTEM_CERTS": "1", "NO_PROXY": "127.0.0.1"}
    for name in ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE"):  # unkept bytecode makes each start ten seconds long
        env.pop(name, None)
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds, check=False)


def installed(name: str, *command: str | Path, cwd: Path) -> None:
    """Run what installs something; skip the test where it cannot be had."""
    try:
        done = run(*command, cwd=cwd, seconds=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name} was not installed within {INSTALL_SECONDS} s")
    if done.returncode:
        pytest.skip(f"{name} cannot be installed: {done.stderr.strip()[-500:]}")


@pytest.fixture(scope="module")
def uv() -> str:
    """The one that `scripts/setup` found or installed."""
    found = shutil.which("uv", path=f"{os.environ['PATH']}{os.pathsep}{ROOT / '.tools' / 'bin'}")
    return found or pytest.skip("there is no uv: `make setup` installs it")


@pytest.fixture(scope="module")
def node() -> Path:
    """The folder with the modules of the clients on Node."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no Node")
    folder = ROOT / ".clients"
    folder.mkdir(exist_ok=True)
    for file in (*HERE.glob("*.mjs"), HERE / "package.json"):
        shutil.copy(file, folder)
    quiet = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    installed("npm's modules", "npm", "install", "--prefer-offline", *quiet, cwd=folder)
    return folder


def reports(*command: str | Path, cwd: Path) -> Any:
    """What the client was told by each model."""
    done = run(*command, *MODELS, cwd=cwd, seconds=RUN_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_client_is_served_over_both_routes(url: str, uv: str, name: str) -> None:
    script = HERE / f"{name}.py"
    installed(name, uv, "sync", "--quiet", "--python", sys.executable, "--script", script, cwd=HERE)
    python = run(uv, "python", "find", "--script", script, cwd=HERE, seconds=INSTALL_SECONDS).stdout.strip()
    assert reports(python, script, url, cwd=HERE) == [TOLD.get(name, SAID)] * len(MODELS)


@pytest.mark.parametrize("name", NODE)
def test_a_client_on_node_is_served_over_both_routes(url: str, node: Path, name: str) -> None:
    assert reports("node", f"{name}.mjs", url, cwd=node) == [TOLD.get(name, SAID)] * len(MODELS)
