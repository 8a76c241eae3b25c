"""The servers in the race: how each is configured and started, one process each, and how it is asked."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from socket import socket

from benchmarks import peers
from benchmarks.payloads import CASES, Dialect, Json

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".bench"
START_SECONDS_LIMIT = 120
# Named without importing the package: if it is broken, the others can still be measured.
APIS_D = ROOT / "llama_stack_messages_provider" / "apis.d"


@dataclass(frozen=True)
class Upstreams:
    """Base URLs: one speaks Messages only, the other chat completions only."""

    native: str
    chat: str


@dataclass(frozen=True)
class Launch:
    """A command, what it needs in its environment, and the path that answers 200 once it serves."""

    command: list[str]
    environment: dict[str, str]
    ready: str


@dataclass(frozen=True)
class Target:
    """A server and a route through it; ``launch`` writes its configuration, None is the upstream itself."""

    name: str
    group: str
    title: str
    model_prefix: str = ""
    launch: Callable[[Path, int, Upstreams], Launch] | None = None
    dialect: Dialect = "anthropic"


def registered_models(provider_id: str) -> list[Json]:
    """The cases as registered models of a stack."""
    return [
        {"model_id": name, "provider_id": provider_id, "provider_model_id": name, "model_type": "llm"} for name in CASES
    ]


def storage(folder: Path, inference_extra: Json) -> Json:
    """SQLite files of a stack's own."""
    sql = {"backend": "sql_default"}
    return {
        "backends": {
            "kv_default": {"type": "kv_sqlite", "db_path": str(folder / "kv.db")},
            "sql_default": {"type": "sql_sqlite", "db_path": str(folder / "sql.db")},
        },
        "stores": {
            "metadata": {"namespace": "registry", "backend": "kv_default"},
            "inference": {"table_name": "inference_store", **sql, **inference_extra},
            "conversations": {"table_name": "openai_conversations", **sql},
            "prompts": {"namespace": "prompts", "backend": "kv_default"},
        },
    }


def write_config(folder: Path, config: Json) -> Path:
    """Write a configuration; JSON is YAML."""
    path = folder / "config.yaml"
    path.write_text(json.dumps(config, indent=1))
    return path


# --- Llama Stack: the host alone, and with this package -----------------------------------------------


def stack_config(folder: Path, port: int, upstream: str) -> Json:
    """A host with one inference provider of type vLLM."""
    vllm = {
        "provider_id": "vllm",
        "provider_type": "remote::vllm",
        "config": {"base_url": f"{upstream}/v1", "api_token": "none"},
    }
    return {
        "version": 2,
        "image_name": "benchmark",
        "apis": ["inference"],
        "providers": {"inference": [vllm]},
        "storage": storage(folder, {}),
        "registered_resources": {"models": registered_models("vllm")},
        "server": {"port": port, "host": "127.0.0.1"},
    }


def launch_stack(folder: Path, port: int, config: Json) -> Launch:
    """Start a host without its inference store's writes."""
    path = str(write_config(folder, config))
    command = [sys.executable, "-m", "benchmarks.stack_server", "stack", "run", path, "--port", str(port)]
    return Launch(command, {"LLAMA_STACK_LOG_FORMAT": "json", "PYTHONPATH": str(ROOT)}, "/v1/health")


def launch_host(folder: Path, port: int, upstreams: Upstreams) -> Launch:
    """The host alone."""
    return launch_stack(folder, port, stack_config(folder, port, upstreams.chat))


def launch_ours(folder: Path, port: int, upstream: str, settings: Json) -> Launch:
    """The host with this package."""
    config = stack_config(folder, port, upstream)
    config["apis"].append("messages")
    config["external_apis_dir"] = str(APIS_D)
    provider = {
        "provider_id": "messages",
        "provider_type": "inline::messages",
        "module": "llama_stack_messages_provider",
        "config": settings,
    }
    config["providers"]["messages"] = [provider]
    return launch_stack(folder, port, config)


def launch_ours_native(folder: Path, port: int, upstreams: Upstreams) -> Launch:
    """Our native route, as the probe finds it."""
    return launch_ours(folder, port, upstreams.native, {})


def launch_ours_translated(folder: Path, port: int, upstreams: Upstreams) -> Launch:
    """Our translated route."""
    return launch_ours(folder, port, upstreams.chat, {"routes": {"vllm": "translation"}})


# --- OGX ----------------------------------------------------------------------------------------------


def launch_ogx(folder: Path, port: int, kind: str, settings: Json) -> Launch:
    """OGX with one inference provider, its inference store off."""
    provider = {"provider_id": kind, "provider_type": f"remote::{kind}", "config": settings}
    messages = {"kvstore": {"backend": "kv_default", "namespace": "message_batches"}}
    config = {
        "version": 2,
        "distro_name": "benchmark",
        "apis": ["inference", "messages"],
        "providers": {
            "inference": [provider],
            "messages": [{"provider_id": "builtin", "provider_type": "inline::builtin", "config": messages}],
        },
        "storage": storage(folder, {"enabled": False}),
        "registered_resources": {"models": registered_models(kind)},
        "server": {"port": port, "host": "127.0.0.1"},
    }
    ogx, path = peers.install("ogx", WORK) / "ogx", write_config(folder, config)
    command = [str(ogx), "run", str(path), "--insecure", "--port", str(port)]
    return Launch(command, {"OGX_LOG_FORMAT": "json"}, "/v1/health")


def launch_ogx_native(folder: Path, port: int, upstreams: Upstreams) -> Launch:
    """OGX takes the native route for a provider of type vLLM."""
    return launch_ogx(folder, port, "vllm", {"base_url": f"{upstreams.native}/v1", "api_token": "none"})


def launch_ogx_translated(folder: Path, port: int, upstreams: Upstreams) -> Launch:
    """OGX translates for a provider of type OpenAI."""
    return launch_ogx(folder, port, "openai", {"base_url": f"{upstreams.chat}/v1", "api_key": "none"})


# --- LiteLLM proxy ------------------------------------------------------------------------------------


def launch_litellm(folder: Path, port: int, provider: str, api_base: str) -> Launch:
    """LiteLLM proxy with one worker and no database."""
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"{provider}/{name}", "api_base": api_base, "api_key": "none"},
        }
        for name in CASES
    ]
    settings = {"json_logs": True, "telemetry": False}
    path = write_config(folder, {"model_list": models, "litellm_settings": settings})
    litellm = peers.install("litellm", WORK) / "litellm"
    command = [str(litellm), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    # No server here checks keys, and LiteLLM wants to be told so; its cost map would come from the network.
    environment = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    return Launch([*command, "--num_workers", "1"], environment, "/health/liveliness")


def launch_litellm_native(folder: Path, port: int, upstreams: Upstreams) -> Launch:
    """LiteLLM hands Messages on to an upstream of Anthropic's kind."""
    return launch_litellm(folder, port, "anthropic", upstreams.native)


def launch_litellm_translated(folder: Path, port: int, upstreams: Upstreams) -> Launch:
    """LiteLLM translates for an upstream of vLLM's kind."""
    return launch_litellm(folder, port, "hosted_vllm", f"{upstreams.chat}/v1")


TARGETS = {
    target.name: target
    for target in (
        Target("direct", "direct", "upstream, direct"),
        Target("ours_native", "ours", "ours, native", "vllm/", launch_ours_native),
        Target("ogx_native", "ogx", "OGX, native", "vllm/", launch_ogx_native),
        Target("litellm_native", "litellm", "LiteLLM, native", "", launch_litellm_native),
        Target("ours_translated", "ours", "ours, translated", "vllm/", launch_ours_translated),
        Target("ogx_translated", "ogx", "OGX, translated", "openai/", launch_ogx_translated),
        Target("litellm_translated", "litellm", "LiteLLM, translated", "", launch_litellm_translated),
        Target("host", "host", "host's chat route", "vllm/", launch_host, dialect="openai"),
    )
}


def versions(groups: set[str]) -> dict[str, str]:
    """What runs here, by name."""
    found = {"python": sys.version.split()[0], "llama-stack": version("llama-stack")}
    return found | {peer: peers.version(peer, WORK) for peer in sorted(groups & set(peers.REQUIREMENTS))}


# --- processes ----------------------------------------------------------------------------------------


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A started process, pinned to a core, its output in a log file."""

    def __init__(self, name: str, launch: Launch, port: int, core: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.ready = launch.ready
        self.log = WORK / "run" / f"{name}.log"
        with self.log.open("wb") as log:
            environment = {**os.environ, **launch.environment}
            self.process = subprocess.Popen(
                launch.command, stdout=log, stderr=log, env=environment, cwd=self.log.parent
            )
        os.sched_setaffinity(self.process.pid, {core})

    def wait_until_ready(self) -> None:
        """Raise RuntimeError with the log's end if the server dies or never answers."""
        deadline = time.monotonic() + START_SECONDS_LIMIT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self.url + self.ready, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise RuntimeError(f"{self.log.stem} does not serve:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """Terminate, then kill."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_upstream(dialect: Dialect, core: int) -> Server:
    """Start an upstream."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port), "--dialect", dialect]
    launch = Launch(command, {"PYTHONPATH": str(ROOT)}, "/health")
    return Server(f"upstream_{dialect}", launch, port, core)


def start(target: Target, upstreams: Upstreams, core: int) -> Server:
    """Configure and start ``target``'s server in an empty folder."""
    assert target.launch
    folder = WORK / "run" / target.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    return Server(target.name, target.launch(folder, port, upstreams), port, core)
