"""`Stack`: the real host, `llama stack run` in a process of its own.

```
config = run_config(
    tmp_path,
    inference=[vllm_provider(upstream.url), openai_provider(other.url, "other", api_key="k")],
    messages={"model_aliases": {"claude-*": "vllm/test-model"}},      # None: no Messages API at all
)
with Stack(config, tmp_path) as stack:
    anthropic.Anthropic(base_url=stack.base_url, api_key="any")
    stack.log()  stack.records()          # the text, or the JSON log lines
    stack.kill(); stack.start()           # SIGKILL to server and workers, then up again on the same storage
    stack.restart()                       # the same, politely
```
The models of an upstream are what its `GET /v1/models` lists; the host knows them as `provider_id/model`.
A start takes about five seconds, so share one: see the fixtures in `tests/conftest.py`.
Storage is SQLite in `folder`; give `postgres_storage(...)` for PostgreSQL.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import certifi
import orjson
import yaml

from tests.support.wire import Json

__all__ = [
    "PACKAGE",
    "Stack",
    "custom_auth",
    "embedded_provider",
    "free_port",
    "injection_provider",
    "llama_cpp_provider",
    "llama_guard_provider",
    "mcp_provider",
    "moderation_provider",
    "ollama_provider",
    "openai_provider",
    "postgres_storage",
    "run_config",
    "search_provider",
    "vllm_provider",
]

PACKAGE = "llama_stack_messages_provider"
START_SECONDS = 240.0
STOP_SECONDS = 20.0
LOG_TAIL_CHARACTERS = 6000
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
OWN_PORTS = range(16_000 + WORKER % 8 * 2000, 18_000 + WORKER % 8 * 2000)


# --- configuration ---


def _provider(provider_id: str, provider_type: str, config: Json, module: str | None = None) -> Json:
    provider = {"provider_id": provider_id, "provider_type": provider_type, "config": config}
    return {**provider, "module": module} if module else provider


def vllm_provider(url: str, provider_id: str = "vllm", **config: Any) -> Json:
    """`remote::vllm` at `url` (without `/v1`); `api_token` if given goes upstream as a Bearer key."""
    return _provider(provider_id, "remote::vllm", {"base_url": f"{url}/v1", "api_token": "fake", **config})


def openai_provider(url: str, provider_id: str = "openai", **config: Any) -> Json:
    """`remote::openai` at `url`; pass `api_key=None` to have the key come with each request."""
    return _provider(provider_id, "remote::openai", {"base_url": f"{url}/v1", "api_key": "sk-test", **config})


def ollama_provider(url: str, provider_id: str = "ollama", **config: Any) -> Json:
    """`remote::ollama` at `url`."""
    return _provider(provider_id, "remote::ollama", {"base_url": f"{url}/v1", **config})


def llama_cpp_provider(url: str, provider_id: str = "llama-cpp-server", **config: Any) -> Json:
    """`remote::llama-cpp-server` at `url`."""
    return _provider(provider_id, "remote::llama-cpp-server", {"base_url": f"{url}/v1", **config})


def embedded_provider(provider_id: str = "llama-cpp", **config: Any) -> Json:
    """`inline::llama-cpp`, by default with the packaged SmolLM2."""
    return _provider(provider_id, "inline::llama-cpp", config, PACKAGE)


def search_provider(name: str, **config: Any) -> Json:
    """`remote::tavily-search` or `remote::brave-search` by the first word of its name, with a key."""
    return _provider(name, f"remote::{name}-search", {"api_key": "search-key", **config})


def injection_provider() -> Json:
    """`inline::injection`, as `injection`: start the server with `PYTHONPATH` at the repository's root."""
    return _provider("injection", "inline::injection", {}, "tests.support.injection_shield")


def llama_guard_provider() -> Json:
    """`inline::llama-guard`, as `llama-guard`: its shields are models of the stack."""
    return _provider("llama-guard", "inline::llama-guard", {"excluded_categories": []})


def moderation_provider(url: str) -> Json:
    """`remote::passthrough` of the safety API, as `moderation`: asks `url` for `/moderations`."""
    return _provider("moderation", "remote::passthrough", {"base_url": url})


def mcp_provider() -> Json:
    """`remote::model-context-protocol`, as `mcp`."""
    return _provider("mcp", "remote::model-context-protocol", {})


def custom_auth(url: str, access_policy: Sequence[Json] = ()) -> Json:
    """Authentication by an endpoint, such as `personalities.identities(...)`."""
    auth: Json = {"provider_config": {"type": "custom", "endpoint": f"{url}/auth"}}
    return {**auth, "access_policy": list(access_policy)} if access_policy else auth


def _sqlite_backends(folder: Path) -> Json:
    return {
        "kv_default": {"type": "kv_sqlite", "db_path": str(folder / "kvstore.db")},
        "sql_default": {"type": "sql_sqlite", "db_path": str(folder / "sql_store.db")},
    }


def postgres_storage(
    *, db: str, user: str, password: str, host: str = "127.0.0.1", port: int = 5432, **both: Any
) -> Json:
    """The two backends on one PostgreSQL database."""
    login = {"host": host, "port": port, "db": db, "user": user, "password": password, **both}
    return {"kv_default": {"type": "kv_postgres", **login}, "sql_default": {"type": "sql_postgres", **login}}


def _stores() -> Json:
    return {
        "metadata": {"namespace": "registry", "backend": "kv_default"},
        "inference": {"table_name": "inference_store", "backend": "sql_default"},
        "conversations": {"table_name": "openai_conversations", "backend": "sql_default"},
        "prompts": {"namespace": "prompts", "backend": "kv_default"},
        "connectors": {"namespace": "connectors", "backend": "kv_default"},
    }


def run_config(
    folder: Path,
    *,
    inference: Sequence[Json],
    tool_runtime: Sequence[Json] = (),
    safety: Sequence[Json] = (),
    shields: Sequence[Json] = (),
    messages: Json | None = None,
    models: Sequence[Json] = (),
    auth: Json | None = None,
    backends: Json | None = None,
    workers: int = 1,
    server: Json | None = None,
    connectors: Sequence[Json] = (),
) -> Json:
    """A run configuration.

    Args:
        folder: Where SQLite files go.
        inference: Providers, from the builders above.
        tool_runtime: Providers of tools, from `search_provider`.
        safety: Providers of shields.
        shields: Shields to register: `{"shield_id", "provider_id", "provider_shield_id"}`.
        messages: The Messages provider's config; None leaves the API out, `{}` takes every default.
        models: Models to register beside those the upstreams list: `{"model_id", "provider_id", ...}`.
        auth: `server.auth`, such as `custom_auth(...)`.
        backends: `storage.backends`; SQLite in `folder` by default.
        workers: Server processes.
        server: More keys of `server`, such as `quota`.
        connectors: Connectors: `{"connector_id", "url"}`.
    """
    providers: Json = {"inference": list(inference)}
    if tool_runtime:
        providers["tool_runtime"] = list(tool_runtime)
    if safety:
        providers["safety"] = list(safety)
    serving: Json = {"host": "127.0.0.1", "workers": workers, **(server or {})}
    if auth is not None:
        serving["auth"] = auth
    if messages is not None:
        providers["messages"] = [_provider("messages", "inline::messages", messages, PACKAGE)]
    return {
        "version": 2,
        "distro_name": "test",
        "apis": list(providers),
        "external_apis_dir": str(apis_dir()) if messages is not None else None,
        "providers": providers,
        "storage": {"backends": backends or _sqlite_backends(folder), "stores": _stores()},
        "registered_resources": {"models": list(models), "shields": list(shields)},
        "server": serving,
        "connectors": list(connectors),
    }


def apis_dir() -> Path:
    """The folder of API declarations that the package ships."""
    return Path(str(files(PACKAGE))) / "apis.d"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now.

    A server takes seconds to listen. Until then nobody else gets the port: it lies below those that systems give
    away by themselves (Linux: from 32768), and each process of a distributed test run draws from a range of its own.
    """
    while True:
        port = random.choice(OWN_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


# --- the process ---


class Stack:
    """A server process with its configuration, storage and log; a context manager.

    Args:
        config: A run configuration, or the path of one.
        folder: Where the run file and the log go.
        env: More environment variables; a value of None removes one.
        cwd: Working directory, for configurations with relative paths; `folder` by default.
        port: Port to serve on; a free one by default.
        module: What runs `llama`; one that measures may wrap it.
    """

    def __init__(
        self,
        config: Json | Path,
        folder: Path,
        *,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        port: int | None = None,
        module: str = "llama_stack.cli.llama",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.log_file = folder / f"server-{self.port}.log"
        self._cwd = cwd or folder
        self._env = _environment({**_one_authority(folder), **(env or {})})
        self._file = config if isinstance(config, Path) else folder / f"run-{self.port}.yaml"
        if not isinstance(config, Path):
            self._file.write_text(yaml.safe_dump(config, sort_keys=False))
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:port`, without `/v1`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that was started: the server, or the parent of its workers."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def resident_megabytes(self) -> float:
        """The memory of that process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Everything the server has written, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def records(self) -> list[Json]:
        """The log lines that are JSON objects."""
        lines = (line for line in self.log().splitlines() if line.startswith("{"))
        found = []
        for line in lines:
            with contextlib.suppress(orjson.JSONDecodeError):
                found.append(orjson.loads(line))
        return found

    def start(self, *, wait: bool = True) -> None:
        """Start the server on the same port and storage.

        Args:
            wait: Whether to return only when it answers.

        Raises:
            AssertionError: It does not answer within `START_SECONDS`, or ended; carries the end of its log.
        """
        command = [sys.executable, "-m", self._module, "stack", "run", str(self._file)]
        with self.log_file.open("ab") as log:
            self._process = self._spawn([*command, "--port", str(self.port)], log)
        if wait:
            self.wait_until_healthy()

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self._cwd,
            env=self._env,
            start_new_session=True,
        )

    def wait_until_healthy(self) -> None:
        """Return when `/v1/health` answers; see `start`."""
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"{self.base_url}/v1/health"):
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not start:\n{self.log()[-LOG_TAIL_CHARACTERS:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the server and its workers."""
        self._signal(signal.SIGKILL)
        self._reap(STOP_SECONDS)
        self._process = None
        self._wait_until_closed()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to what is left."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._reap(STOP_SECONDS)
        self.kill()

    def restart(self) -> None:
        """Stop, then start on the same storage and port."""
        self.stop()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        # The group is a session of its own, so no process but our own is reached.
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _wait_until_closed(self) -> None:
        # Killed workers give up the port they share a moment after their parent does.
        deadline = time.monotonic() + STOP_SECONDS
        while _listening(self.port) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _reap(self, seconds: float) -> None:
        if self._process is not None:
            self._process.wait(seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _one_authority(folder: Path) -> dict[str, str | None]:
    """Servers talk to 127.0.0.1: reading the world's certificates for each client takes 50 ms, and proves nothing."""
    end = "-----END CERTIFICATE-----\n"
    file = folder / "authority.pem"
    file.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    return {"SSL_CERT_FILE": str(file), "SSL_CERT_DIR": None}


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    given = {"LLAMA_STACK_LOG_FORMAT": "json", "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "1", **changes}
    kept = {name: value for name, value in os.environ.items() if name not in given}
    return {**kept, **{name: value for name, value in given.items() if value is not None}}


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    # A protected server answers 401 here: that is an answer too.
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
