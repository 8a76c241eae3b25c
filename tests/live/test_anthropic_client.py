"""`anthropic_client(stack)`: over HTTP, and in the same process."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import llama_stack_client
import orjson
import pytest

from llama_stack_messages_provider import anthropic_client
from llama_stack_messages_provider.host.library_client import StackNotReadyError, in_process
from tests.conftest import ROOT, RUN_YAML_VARIABLES
from tests.support.stack import Stack

MODEL = "llama-3.3-70b"
HELLO: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}


def test_a_client_of_a_server_lends_its_address_token_and_provider_data() -> None:
    stack = llama_stack_client.LlamaStackClient(
        base_url="http://stack:1", api_key="token", max_retries=7, provider_data={"vllm_api_token": "x"}
    )

    client = anthropic_client(stack)

    assert isinstance(client, anthropic.Anthropic)
    assert (str(client.base_url), client.auth_token, client.api_key, client.max_retries) == (
        "http://stack:1",
        "token",
        None,
        7,
    )
    headers = {name.lower(): value for name, value in client.default_headers.items()}
    assert orjson.loads(str(headers["x-llamastack-provider-data"])) == {"vllm_api_token": "x"}
    assert "x-llamastack-client-version" not in headers


def test_what_is_given_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of another server")
    stack = llama_stack_client.AsyncLlamaStackClient(base_url="http://stack:1")

    plain = anthropic_client(stack)
    given = anthropic_client(stack, api_key="own", timeout=3, default_headers={"x-a": "b"})

    assert isinstance(plain, anthropic.AsyncAnthropic)
    assert (plain.auth_token, plain.api_key) == ("none", None)
    assert (given.auth_token, given.api_key, given.timeout) == (None, "own", 3)
    assert given.default_headers["x-a"] == "b"


def test_a_message_of_a_server(embedded_stack: Stack) -> None:
    with anthropic_client(llama_stack_client.LlamaStackClient(base_url=embedded_stack.base_url)) as client:
        message = client.messages.create(**HELLO)

    assert message.content[0].type == "text"


async def test_a_message_of_a_server_asynchronously(embedded_stack: Stack) -> None:
    stack = llama_stack_client.AsyncLlamaStackClient(base_url=embedded_stack.base_url)
    async with anthropic_client(stack) as client, client.messages.stream(**HELLO) as stream:
        assert "".join([text async for text in stream.text_stream])


class Unready:
    """The library client before `initialize`."""

    custom_provider_registry = None
    provider_data = None
    config_path_or_distro_name = "starter"
    impls: Any = None


def test_a_stack_that_cannot_serve_is_told_with_what_helps() -> None:
    stack = Unready()
    with pytest.raises(StackNotReadyError, match=r"await stack\.initialize"):
        in_process(stack)
    stack.impls = {}
    with pytest.raises(StackNotReadyError, match="`llama-stack-messages enable starter` adds it"):
        in_process(stack)


SYNC = """
import sys, threading
import anthropic
from llama_stack.core.library_client import LlamaStackAsLibraryClient
from llama_stack_messages_provider import anthropic_client

hello = dict(model="llama-3.3-70b", max_tokens=8, messages=[{"role": "user", "content": "Hello"}])
with LlamaStackAsLibraryClient("run.yaml") as stack:
    with anthropic_client(stack) as client:
        raw = client.messages.with_raw_response.create(**hello)
        assert raw.parse().content[0].text, raw
        assert raw.headers["x-messages-model"] == "llama-cpp/smollm2", raw.headers
        with client.messages.stream(**hello) as stream:
            kinds = [event.type for event in stream]
        assert kinds[0] == "message_start" and kinds[-1] == "message_stop", kinds
        assert client.messages.count_tokens(model=hello["model"], messages=hello["messages"]).input_tokens > 0
        try:
            client.messages.create(**{**hello, "model": "gpt-zero"})
        except anthropic.NotFoundError as error:
            assert error.body["error"]["type"] == "not_found_error" and error.request_id, error.body
        else:
            raise AssertionError
        with client.messages.stream(**{**hello, "max_tokens": 2000}) as left:
            next(iter(left))
        texts = []
        threads = [
            threading.Thread(target=lambda: texts.append(client.messages.create(**hello).content[0].text))
            for _ in range(2)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(texts) == 2
        assert client.messages.batches.list().data == []
        assert len(stack.models.list()) == 1
        assert "llama-cpp/smollm2" in [model.id for model in client.models.list()]
        assert client.models.retrieve("llama-3.3-70b").max_input_tokens == 8192
print("DONE")
"""

ASYNC = """
import asyncio
from llama_stack.core.library_client import AsyncLlamaStackAsLibraryClient
from llama_stack_messages_provider import anthropic_client

hello = dict(model="llama-3.3-70b", max_tokens=8, messages=[{"role": "user", "content": "Hello"}])

async def main():
    async with AsyncLlamaStackAsLibraryClient("run.yaml") as stack, anthropic_client(stack) as client:
        assert (await client.messages.create(**hello)).content[0].text
        async with client.messages.stream(**hello) as stream:
            assert [text async for text in stream.text_stream]
        async with client.messages.stream(**{**hello, "max_tokens": 2000}) as left:
            await anext(aiter(left))
        both = await asyncio.gather(*(client.messages.create(**hello) for _ in range(2)))
        assert len(both) == 2
        assert "llama-cpp/smollm2" in [model.id async for model in client.models.list()]

asyncio.run(main())
print("DONE")
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", [SYNC, ASYNC], ids=["sync", "async"])
def test_a_stack_in_the_same_process(program: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in RUN_YAML_VARIABLES}
    env = {**kept, "SQLITE_STORE_DIR": str(tmp_path), "LLAMA_STACK_LOG_FORMAT": "json", "HF_HUB_OFFLINE": "1"}

    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert run.stdout.endswith("DONE\n"), run.stderr[-5000:]
    assert "Unclosed client session" not in run.stderr


def test_importing_the_package_imports_neither_the_sdk_nor_the_host() -> None:
    program = "import sys, llama_stack_messages_provider; print({'anthropic', 'llama_stack'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
