"""The host's own code scanner: CodeShield, whose rules run on this machine.

It is installed beside the environment, without what it declares: of that it needs semgrep's executable and no more.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.clients.test_clients import installed, uv
from tests.conftest import ROOT
from tests.shields.test_live import answered, refusal, text_of
from tests.support import personalities
from tests.support.model import serve
from tests.support.stack import Stack, openai_provider, run_config, vllm_provider
from tests.support.upstream import ScriptedUpstream
from tests.support.wire import Json, text_block, tool_use_block

__all__ = ["uv"]

pytestmark = pytest.mark.timeout(900)

PACKAGES = ["codeshield==1.0.1", "semgrep==1.79.0"]
FOLDER = ROOT / ".clients" / "codeshield"
WEAK = "import hashlib\n\ndef digest(password):\n    return hashlib.md5(password).hexdigest()\n"
FINE = "def add(first, second):\n    return first + second\n"
SCANNER: Json = {"provider_id": "scanner", "provider_type": "inline::code-scanner", "config": {}}


@pytest.fixture(scope="module")
def ask(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Sends a request to a model that says certain blocks."""
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--target", FOLDER, *PACKAGES]
    installed("codeshield", *command, cwd=ROOT)
    folder = tmp_path_factory.mktemp("scanner")
    with ExitStack() as opened:
        vllm = opened.enter_context(ScriptedUpstream(personalities.vllm(models=["m"])))
        chat = opened.enter_context(ScriptedUpstream(personalities.openai_style(models=["m"])))
        config = run_config(
            folder,
            inference=[vllm_provider(vllm.url), openai_provider(chat.url, "chat")],
            safety=[SCANNER],
            shields=[{"shield_id": "scanner", "provider_id": "scanner", "provider_shield_id": "code-scanner"}],
            messages={"shields": {"output": ["scanner"], "seconds": 120}},
        )
        stack = opened.enter_context(Stack(config, folder, env={"PYTHONPATH": os.fspath(FOLDER)}))

        def send(by: str, streamed: bool, *blocks: Json) -> Json:
            for upstream in (vllm, chat):
                serve(upstream, lambda body: blocks)
            messages = [{"role": "user", "content": "Write it."}]
            body = {"model": f"{by}/m", "max_tokens": 500, "messages": messages, "stream": streamed}
            return answered(httpx.post(f"{stack.base_url}/v1/messages", json=body, timeout=300))

        yield send


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("by", ["vllm", "chat"], ids=["native", "translated"])
def test_insecure_code_is_refused_in_words_and_in_calls(by: str, streamed: bool, ask: Any) -> None:
    said = f"Here it is:\n\n```python\n{WEAK}```\n"
    message = ask(by, streamed, text_block(said))
    details = refusal(message, "output", "scanner")
    assert (
        details.explanation
        == "The output was flagged by the shield scanner: Sorry, I found security concerns in the code."
    )
    assert "md5" not in text_of(message)
    message = ask(by, streamed, tool_use_block("Write", {"path": "a.py", "content": WEAK}))
    refusal(message, "output", "scanner")
    assert message["content"] == []


def test_other_code_passes(ask: Any) -> None:
    message = ask("vllm", True, text_block(f"```python\n{FINE}```"), tool_use_block("Write", {"content": FINE}))
    assert message["stop_reason"] == "tool_use"
    assert message["content"][1]["input"] == {"content": FINE}
