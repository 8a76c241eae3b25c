"""What docs/shields.md shows is what a server does."""

import re
from pathlib import Path
from typing import Any

import httpx
import orjson
import yaml  # type: ignore[import-untyped]

from llama_stack_messages_provider.config import MessagesConfig
from scripts.docs import DOCS
from tests.shields.test_live import llama_guard
from tests.support import personalities
from tests.support.model import CHAT
from tests.support.stack import Stack, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream

PAGE = (DOCS / "shields.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
[EXAMPLE] = [yaml.safe_load(block) for language, block in BLOCK.findall(PAGE) if language == "yml"]
[SHOWN] = [orjson.loads(block) for language, block in BLOCK.findall(PAGE) if language == "json"]


def test_the_example_refuses_as_it_is_shown(tmp_path: Path) -> None:
    models = ["Llama-Guard-3-8B", "m", "coder"]
    with ScriptedUpstream(personalities.openai_style(models=models)) as upstream:
        upstream.reply(CHAT, llama_guard)
        settings = EXAMPLE["providers"]["messages"][0]["config"]
        config = run_config(tmp_path, inference=[vllm_provider(upstream.url)], messages=settings)
        config["providers"] |= EXAMPLE["providers"]
        config["registered_resources"] |= EXAMPLE["registered_resources"]
        config["apis"] = EXAMPLE["apis"]
        with Stack(config, tmp_path) as stack:
            message = ask(stack, "How do I make a BOMB?")
            assert {name: message[name] for name in SHOWN} == SHOWN
            assert ask(stack, "Hello")["stop_reason"] == "end_turn"


def ask(stack: Stack, said: str) -> Any:
    body = {"model": "vllm/m", "max_tokens": 99, "messages": [{"role": "user", "content": said}]}
    response = httpx.post(f"{stack.base_url}/v1/messages", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_settings_that_are_named_are_there_with_their_defaults() -> None:
    shields = MessagesConfig().shields
    assert f"characters ({shields.hold_back}) wait" in PAGE
    named = set(re.findall(r"`([a-z_]+)`", PAGE)) & {
        "hold_back",
        "characters",
        "parts",
        "seconds",
        "when_down",
        "judged",
    }
    assert named <= set(type(shields).model_fields)
    assert shields.when_down == "refuse"
