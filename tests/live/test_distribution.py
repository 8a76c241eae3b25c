"""An image as distribution builders make it: an empty environment, what `list-deps` prints, and this package."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import anthropic
import llama_stack
import pytest
import yaml

from tests.conftest import ROOT, RUN_YAML_VARIABLES
from tests.support.stack import Stack

pytestmark = pytest.mark.timeout(600)  # a machine that has none of it yet downloads some hundred megabytes


# What `run.yaml`'s own providers bring along, or what needs nothing.
SMALL = {f"remote::{name}" for name in ("ollama", "vllm", "openai", "anthropic", "brave-search", "tavily-search")}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", *RUN_YAML_VARIABLES)}
    env |= {"LLAMA_STACK_LOGGING": "all=error", "UV_SYSTEM_CERTS": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    """The one that `scripts/setup` found or installed."""
    found = shutil.which("uv", path=f"{os.environ['PATH']}{os.pathsep}{ROOT / '.tools' / 'bin'}")
    if found is None:
        pytest.skip("there is no uv: `make test` installs it")
    return found


@pytest.fixture(scope="module")
def image(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment's folder, gone afterwards: it is large."""
    folder = tmp_path_factory.mktemp("image")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    [wheel] = folder.glob("*.whl")
    # This package is not taken from an index, whatever is there under its name.
    constraint = folder / "constraints.txt"
    constraint.write_text(f"llama-stack-messages-provider @ {wheel.as_uri()}\n")
    environment = folder / "venv"
    run(uv, "venv", "--quiet", "--python", sys.executable, environment)
    llama = Path(sys.executable).with_name("llama")
    for line in run(llama, "stack", "list-deps", "run.yaml").splitlines():
        run(uv, "pip", "install", "--quiet", "--python", environment, "-c", constraint, *line.split())
    yield environment
    shutil.rmtree(environment)


class Image(Stack):
    """A server in another environment than that of the tests."""

    def __init__(self, environment: Path, *given: Any, **more: Any) -> None:
        self._python = environment / "bin" / "python"
        super().__init__(*given, **more)

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return super()._spawn([str(self._python), *command[1:]], log)


def test_a_stock_distribution_serves_after_enable_and_the_doctor_says_so(image: Path, tmp_path: Path) -> None:
    """`starter` without what needs packages of some gigabytes, in an environment built from `list-deps`."""
    command = image / "bin" / "llama-stack-messages"
    starter = Path(llama_stack.__file__).with_name("distributions") / "starter" / "config.yaml"
    config = yaml.safe_load(starter.read_text())
    inference = [each for each in config["providers"]["inference"] if each["provider_type"] in SMALL]
    tools = [each for each in config["providers"]["tool_runtime"] if each["provider_type"] in SMALL]
    part = {name: config[name] for name in ("version", "distro_name", "storage", "server")}
    part |= {"apis": ["inference", "tool_runtime"], "providers": {"inference": inference, "tool_runtime": tools}}
    file = tmp_path / "part.yaml"
    file.write_text(yaml.safe_dump(part))
    run(command, "enable", "part.yaml", "--embedded", cwd=tmp_path)
    assert str(image) in yaml.safe_load(file.read_text())["external_apis_dir"]
    env: dict[str, str | None] = {**dict.fromkeys(RUN_YAML_VARIABLES), "SQLITE_STORE_DIR": str(tmp_path)}
    with (
        Image(image, file, tmp_path, env=env) as stack,
        anthropic.Anthropic(base_url=stack.base_url, api_key="any", max_retries=0) as client,
    ):
        message = client.messages.create(
            model="claude-any",
            max_tokens=8,
            messages=[{"role": "user", "content": "Hello"}],
            extra_body={"temperature": 0},
        )
        told = run(command, "doctor", "--url", stack.base_url, "--live", cwd=tmp_path)
    assert message.content[0].type == "text"
    assert message.content[0].text
    assert "All is well: 1 model can be used." in told
