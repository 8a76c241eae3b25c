"""What README and docs/ say is run, or compared with the code."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from llama_stack_messages_provider.cli import parser
from scripts.docs import DOCS, PARTS, written
from tests.conftest import RUN_YAML_VARIABLES
from tests.support import personalities
from tests.support.stack import Stack, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream, chat_reply

ROOT = DOCS.parent
README = ROOT / "README.md"
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in (README, *sorted(DOCS.glob("*.md")))}
TEXT = "\n".join(PAGES.values())

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = [block for language, block in BLOCK.findall(TEXT) if language == "python"]
BASH = [line for language, block in BLOCK.findall(TEXT) if language == "bash" for line in block.splitlines() if line]
YAML = [block for language, block in BLOCK.findall(PAGES["README.md"]) if language == "yaml"]

# Commands that are not run here, and where they are run instead.
ELSEWHERE = {
    "make run": "tests/test_packaging.py; the fixture `embedded_stack` serves the same run.yaml",
    "pip install .": "tests/test_packaging.py and tests/live/test_distribution.py install the wheel",
    "LLAMA_STACK_LOG_FORMAT=json llama stack run starter-messages.yaml": "tests/live/test_distribution.py serves "
    "a part of starter that was enabled; all of it needs some gigabytes",
    "make bench": "benchmarks take a quarter of an hour",
}


def test_readme_is_for_people() -> None:
    assert PAGES["README.md"].count("\n") <= 150


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_every_python_block_prints_an_answer_of_the_real_model(
    block: str, embedded_stack: Stack, tmp_path: Path
) -> None:
    program = block.replace("http://localhost:8321", embedded_stack.base_url)
    kept = {name: value for name, value in os.environ.items() if name not in RUN_YAML_VARIABLES}
    env = {**kept, "SQLITE_STORE_DIR": str(tmp_path), "LLAMA_STACK_LOGGING": "all=error"}

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_command_is_run_or_known_to_be_run_elsewhere() -> None:
    unknown = [line for line in BASH if line not in ELSEWHERE and not runnable(line) and not is_upstream(line)]

    assert unknown == []


def runnable(line: str) -> bool:
    """Whether its command and options are those of the parser; what they do is tested in tests/cli."""
    words = shlex.split(line, comments=True)
    if Path(words[0]).name != "llama-stack-messages":
        return False
    words = words[1 : words.index("--")] if "--" in words else words[1:]
    try:
        parser().parse_args(words)
    except SystemExit:
        return False
    return True


def is_upstream(line: str) -> bool:
    """Environment variables before `make run`."""
    return bool(re.fullmatch(r"([A-Z_]+=\S+ )+make run", line))


@pytest.mark.parametrize("line", [line for line in BASH if is_upstream(line)])
def test_variables_that_switch_upstreams_on_are_those_of_run_yaml(line: str) -> None:
    known = set(re.findall(r"\$\{env\.([A-Z_]+)", (ROOT / "run.yaml").read_text()))

    assert set(re.findall(r"([A-Z_]+)=", line)) <= known


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


@pytest.mark.parametrize("page", PAGES)
def test_generated_parts_are_as_the_code_makes_them(page: str) -> None:
    assert written(PAGES[page]) == PAGES[page], "run `python scripts/docs.py`"


def test_every_generated_part_has_its_place() -> None:
    assert set(PARTS) <= set(re.findall(r"<!-- begin (\w+) -->", TEXT))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page])

    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_every_page_has_its_place_on_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text()

    assert [page for page in PAGES if page.startswith("docs/") and page.removeprefix("docs/") not in site] == []
