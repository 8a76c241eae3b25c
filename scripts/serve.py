"""Serve a run configuration, and say what happens: `make run` does so.

    python scripts/serve.py CONFIG HOST PORT

The server's log goes to a file; what it says of a failure is repeated here, in the last line.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from llama_stack_messages_provider.cli.doctor.port import port_problem
from llama_stack_messages_provider.cli.running_server import RunningServer, ServerError

LOG = Path(os.environ.get("SQLITE_STORE_DIR") or ".run") / "server.log"
POLL_SECONDS = 0.1
SHOWN = 5
LAST_CHARACTERS = 600
_ERROR = re.compile(r"(?i:error|exception)\b.*:")


def main(config: str, host: str, port: int) -> int:
    """Serve until told to stop; the exit status is 1 where the server ends by itself."""
    if (problem := port_problem(host, port)) is not None:
        print(f"{problem.what}. Serve on another one: PORT={port + 1} make run", file=sys.stderr)
        return 1
    LOG.parent.mkdir(parents=True, exist_ok=True)
    command = [Path(sys.executable).with_name("llama"), "stack", "run", config, "--port", str(port)]
    # The default log renders each request's line for a terminal, which costs more than the request.
    env = {"LLAMA_STACK_LOG_FORMAT": "json", **os.environ, "LLAMA_STACK_HOST": host}
    with LOG.open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: (stopped.append(number), server.terminate()))
    try:
        ended = _watch(server, config, host, port)
    except KeyboardInterrupt:  # the terminal has told the server, too
        print("\nStopping ...")
        server.wait()
        return 0
    if stopped:
        return 0
    print(f"The server ended: {ended}", file=sys.stderr)
    return 1


def _watch(server: subprocess.Popen[bytes], config: str, host: str, port: int) -> str:
    """Tell when it serves, and wait for its end: its last words."""
    url = f"http://{'127.0.0.1' if host in ('', '0.0.0.0', '::') else host}:{port}"
    print(f"Loading {config}: ten seconds or so. The log is {LOG}.", flush=True)
    with Console(stderr=True).status("Loading ..."):
        while server.poll() is None and not _answers(url):
            time.sleep(POLL_SECONDS)
    if server.poll() is None:
        print(f"Serving on {url} as {_models(url)}. Ctrl-C stops it.", flush=True)
    server.wait()
    return _last_words(LOG.read_text(encoding="utf-8", errors="replace"))


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/health", timeout=1).is_success
    except httpx.HTTPError:
        return False


def _models(url: str) -> str:
    try:
        names = RunningServer(url, None).own_names()
    except ServerError as exc:
        return f"a server that does not list its models ({exc})"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "a server without models: see `llama-stack-messages doctor`"


def _last_words(log: str) -> str:
    """The end of the log from its last error on, or the last line where there is none."""
    lines = [line for line in map(_said, log.splitlines()) if line] or ["it said nothing"]
    errors = [number for number, line in enumerate(lines) if _ERROR.search(line)]
    return " ".join(" ".join(lines[errors[-1] if errors else -1 :]).split())[:LAST_CHARACTERS]


def _said(line: str) -> str:
    """The words of a line of the log, JSON or not."""
    try:
        record: Mapping[str, Any] = json.loads(line)
        return str(record.get("exception") or record.get("event") or "").strip().rpartition("\n")[2]
    except (ValueError, AttributeError):
        return line.strip()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
