"""What README says is run, or compared with the code."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from scripts.docs import PARTS, README, written
from tests.support import personalities
from tests.support.stack import Stack, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream, chat_reply

TEXT = README.read_text()
ROOT = README.parent

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = [block for language, block in BLOCK.findall(TEXT) if language == "python"]
BASH = [line for language, block in BLOCK.findall(TEXT) if language == "bash" for line in block.splitlines() if line]
YAML = [block for language, block in BLOCK.findall(TEXT) if language == "yaml"]

# Commands that are not run here, and where they are run instead.
ELSEWHERE = {
    "make run": "tests/test_packaging.py; the fixture `embedded_stack` serves the same run.yaml",
    "pip install llama-stack-messages-provider": "tests/test_packaging.py installs the wheel",
    "export ANTHROPIC_BASE_URL=http://localhost:8321": "tests/fidelity sends what Claude Code sends",
    "export ANTHROPIC_AUTH_TOKEN=fake": "tests/fidelity sends what Claude Code sends",
    "claude --model claude-sonnet-5-5": "tests/fidelity sends what Claude Code sends",
    "make bench": "benchmarks take a quarter of an hour",
}


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_every_python_block_prints_an_answer_of_the_real_model(block: str, embedded_stack: Stack) -> None:
    program = block.replace("http://localhost:8321", embedded_stack.base_url)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_command_is_run_or_known_to_be_run_elsewhere() -> None:
    unknown = [line for line in BASH if line not in ELSEWHERE and not runnable(line) and not is_upstream(line)]

    assert unknown == []


def runnable(line: str) -> bool:
    return line.startswith("llama-stack-messages ") or line.startswith("llama stack list-deps")


def is_upstream(line: str) -> bool:
    """Environment variables before `make run`."""
    return bool(re.fullmatch(r"([A-Z_]+=\S+ )+make run", line))


@pytest.mark.parametrize("line", [line for line in BASH if is_upstream(line)])
def test_variables_that_switch_upstreams_on_are_those_of_run_yaml(line: str) -> None:
    known = set(re.findall(r"\$\{env\.([A-Z_]+)", (ROOT / "run.yaml").read_text()))

    assert set(re.findall(r"([A-Z_]+)=", line)) <= known


@pytest.mark.parametrize("line", [line for line in BASH if line.startswith("llama-stack-messages apis-dir")])
def test_the_folder_with_the_api_spec_is_printed(line: str) -> None:
    binary = Path(sys.executable).with_name("llama-stack-messages")

    done = subprocess.run([binary, *line.split()[1:]], capture_output=True, text=True, check=True)

    assert (Path(done.stdout.strip()) / "messages.yaml").is_file()


def test_the_lines_for_a_distribution_make_it_serve_messages(tmp_path: Path) -> None:
    (block,) = YAML
    added: dict[str, Any] = yaml.safe_load(block)
    with ScriptedUpstream(personalities.openai_style(models=["my-model"])) as upstream:
        upstream.reply("/v1/chat/completions", chat_reply(content="Hello."))
        config = run_config(tmp_path, inference=[vllm_provider(upstream.url)], messages=None)
        apis_dir = config.get("external_apis_dir") or str(ROOT / "llama_stack_messages_provider" / "apis.d")
        config |= {"external_apis_dir": apis_dir, "apis": added["apis"]}
        config["providers"] |= added["providers"]
        with Stack(config, tmp_path) as stack:
            program = (
                "import anthropic\n"
                f"client = anthropic.Anthropic(base_url={stack.base_url!r}, api_key='any')\n"
                "messages = [{'role': 'user', 'content': 'Hi'}]\n"
                "print(client.messages.create(model='claude-x', max_tokens=9, messages=messages).content[0].text)\n"
            )
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "Hello.", done.stderr


def test_generated_parts_are_as_the_code_makes_them() -> None:
    assert written(TEXT) == TEXT, "run `python scripts/docs.py`"


def test_every_generated_part_has_its_place() -> None:
    assert set(re.findall(r"<!-- begin (\w+) -->", TEXT)) == set(PARTS)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)

    assert [target for target in targets if not os.path.exists(ROOT / target)] == []
