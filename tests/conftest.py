"""Servers that tests share. A start costs four seconds of CPU, so the first three fixtures live as long as the process.

`make test` runs three processes, each with files of its own: what a fixture here starts, each starts for itself.

| fixture | what |
| --- | --- |
| `embedded_stack` | the repository's own `run.yaml`, as it is: a real SmolLM2, native route |
| `embedded_translation_stack` | the same with `route: translation` |
| `fleet` | one stack in front of one scripted upstream of every personality; see `Fleet` |
| `scripted_stack` | a factory: `scripted_stack(inference=[...], messages={...})`, a server for one test |
"""

import gc
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from tests.support import personalities
from tests.support.stack import Stack, openai_provider, run_config, vllm_provider
from tests.support.upstream import Personality, ScriptedUpstream

ROOT = Path(__file__).parents[1]

RUN_YAML_VARIABLES = (
    "ANTHROPIC_API_KEY",
    "BRAVE_SEARCH_API_KEY",
    "EMBEDDED_PROVIDER",
    "LLAMA_CPP_MODEL",
    "LLAMA_CPP_MODEL_ALIAS",
    "LLAMA_CPP_SERVER_URL",
    "MESSAGES_DEFAULT_MODEL",
    "OLLAMA_URL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "TAVILY_SEARCH_API_KEY",
    "VLLM_URL",
)
"""What a developer's shell may hold and the tests must not see."""


SLOW_FILES = frozenset(
    {
        "batches/test_intake.py",
        "batches/test_interleavings.py",
        "batches/test_real_server.py",
        "batches/test_server_tools.py",
        "budgets/test_budgets.py",
        "cases/test_context.py",
        "documents/test_pdf.py",
        "documents/test_server.py",
        "faults/test_faults.py",
        "fidelity/test_documents.py",
        "fidelity/test_fetched_documents.py",
        "fidelity/test_prefix_cache.py",
        "fidelity/test_real_stops.py",
        "fidelity/test_safeguards.py",
        "fidelity/test_sdk_suite.py",
        "fuzz/test_openapi.py",
        "http/test_shutdown.py",
        "live/test_anthropic_client.py",
        "live/test_bad_input.py",
        "live/test_cache_diagnostics.py",
        "live/test_cache_hints.py",
        "live/test_clients.py",
        "live/test_code_execution.py",
        "live/test_distribution.py",
        "live/test_doctor.py",
        "live/test_liveness.py",
        "live/test_mcp.py",
        "live/test_network.py",
        "live/test_prefix_caches.py",
        "live/test_replicas.py",
        "live/test_stream_memory.py",
        "live/test_tenants.py",
        "live/test_tool_runner.py",
        "live/test_upstream_errors.py",
        "live/test_ways.py",
        "live/test_web_fetch.py",
        "live/test_web_search.py",
        "shields/test_code_scanner.py",
        "shields/test_docs.py",
        "shields/test_live.py",
        "status/test_browser.py",
        "status/test_server.py",
        "telemetry/test_spans.py",
        "test_embedded.py",
        "test_first_start.py",
        "test_packaging.py",
        "test_readme.py",
    }
)
"""What costs most: servers of their own, processes that start again and again, waits for limits."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `slow` what `make test` leaves out: files by name, and every test that starts a server for itself."""
    for item in items:
        file = item.path.relative_to(ROOT / "tests").as_posix() if item.path.is_relative_to(ROOT / "tests") else ""
        if file in SLOW_FILES or "scripted_stack" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


def pytest_report_header() -> str:
    """Said before the processes import the server and collect, which they do without a word."""
    return "collecting: each process imports llama-stack and 8,000 tests, 15 s on a quiet machine"


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no later look for garbage need walk through it."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _what_a_file_leaves_open_fails_it() -> Iterator[None]:
    """Found later, an unclosed socket would fail a test of another file."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _clients_know_no_authorities() -> Iterator[None]:
    """Reading the world's certificates is most of what a client costs (20 ms), and tests talk to 127.0.0.1 only.

    Certificates that a test names are read, and a server that only an authority vouches for is refused.
    """
    paths = ssl.get_default_verify_paths()
    # SSL_CERT_FILE and SSL_CERT_DIR name the world's too, where a machine sets them.
    bundles = {certifi.where(), paths.openssl_cafile, paths.cafile, os.environ.get("SSL_CERT_FILE")} - {None}
    folders = {paths.openssl_capath, paths.capath, os.environ.get("SSL_CERT_DIR")} - {None}
    load = ssl.SSLContext.load_verify_locations

    def load_others(context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        if cafile not in bundles and capath not in folders:
            load(context, cafile, capath, cadata)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", load_others)
        patch.setattr(ssl.SSLContext, "set_default_verify_paths", lambda context: None)
        yield


def _environment(folder: Path) -> dict[str, str | None]:
    return {**dict.fromkeys(RUN_YAML_VARIABLES), "SQLITE_STORE_DIR": str(folder)}


@pytest.fixture(scope="session")
def embedded_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The repository's `run.yaml` with a real model; every route setting at its default."""
    folder = tmp_path_factory.mktemp("embedded")
    with Stack(ROOT / "run.yaml", folder, env=_environment(folder), cwd=ROOT) as stack:
        yield stack


@pytest.fixture(scope="session")
def embedded_translation_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """As `embedded_stack`, every request translated."""
    folder = tmp_path_factory.mktemp("translation")
    config = yaml.safe_load((ROOT / "run.yaml").read_text())
    config["providers"]["messages"][0]["config"]["route"] = "translation"
    with Stack(config, folder, env=_environment(folder), cwd=ROOT) as stack:
        yield stack


@dataclass(frozen=True)
class Fleet:
    """One stack and its upstreams.

    Each name in `upstreams` is a provider id that lists one model, `<name>-model`: vLLM's identifier is
    `vllm/vllm-model`. `<name>-translated/<name>-model` is the same upstream with translation forced,
    `<name>-native/<name>-model` with the native route forced. `dead` is down: its port refuses connections.
    Aliases: `claude-native-*` to vLLM, `claude-*` to the OpenAI-style upstream.
    """

    stack: Stack
    upstreams: dict[str, ScriptedUpstream]

    @property
    def base_url(self) -> str:
        """Of the stack, without `/v1`."""
        return self.stack.base_url

    def forget(self) -> None:
        """Forget every upstream's requests and scripts."""
        for upstream in self.upstreams.values():
            upstream.forget()


def _fleet_personalities() -> dict[str, Personality]:
    makers: dict[str, Callable[..., Personality]] = {
        "openai": personalities.openai_style,
        "vllm": personalities.vllm,
        "sglang": personalities.sglang,
        "llamacpp": personalities.llama_cpp,
        "ollama": personalities.ollama,
        "anthropic": personalities.anthropic,
        "odd": personalities.answers_200_to_anything,
        "fastapi": personalities.fastapi_404,
        "dead": personalities.dead,
    }
    return {name: maker(models=[f"{name}-model"]) for name, maker in makers.items()}


def _fleet_config(folder: Path, upstreams: dict[str, ScriptedUpstream]) -> dict[str, Any]:
    modes = {"": None, "-native": "native", "-translated": "translation"}
    providers, routes = [], {}
    for name, upstream in upstreams.items():
        make = vllm_provider if name == "vllm" else openai_provider
        for suffix, route in modes.items():
            providers.append(make(upstream.url, name + suffix))
            if route:
                routes[name + suffix] = route
    aliases = {"claude-native-*": "vllm/vllm-model", "claude-*": "openai/openai-model"}
    # Asked once: a probe in the middle of a test would meet its scripts.
    messages = {"model_aliases": aliases, "routes": routes, "probe": {"yes_seconds": 86_400}}
    return run_config(folder, inference=providers, messages=messages)


@pytest.fixture(scope="session")
def _fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as opened:
        upstreams = {
            name: opened.enter_context(ScriptedUpstream(personality))
            for name, personality in _fleet_personalities().items()
        }
        stack = opened.enter_context(Stack(_fleet_config(folder, upstreams), folder))
        yield Fleet(stack, upstreams)


@pytest.fixture
def fleet(_fleet: Fleet) -> Iterator[Fleet]:
    """The shared fleet, with no requests recorded and no scripts set."""
    _fleet.forget()
    yield _fleet
    _fleet.forget()


@pytest.fixture
def scripted_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start a server for this test: arguments as of `run_config`, and `env`."""
    with ExitStack() as opened:

        def start(*, env: dict[str, str | None] | None = None, **config: Any) -> Stack:
            return opened.enter_context(Stack(run_config(tmp_path, **config), tmp_path, env=env))

        yield start
