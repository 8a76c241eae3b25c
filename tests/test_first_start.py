"""The first start: what `make run` says, and the sentence that helps where it cannot go on."""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.support.stack import free_port

SERVE = [sys.executable, str(ROOT / "scripts" / "serve.py")]


def serve(folder: Path, config: str, port: int) -> subprocess.Popen[str]:
    """`scripts/serve.py` with its log in a folder."""
    env = {"SQLITE_STORE_DIR": str(folder), "PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*SERVE, config, "127.0.0.1", str(port)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_says_what_it_does_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    port = free_port()
    with serve(tmp_path, "run.yaml", port) as server:
        assert server.stdout is not None
        loading = server.stdout.readline()
        serving = server.stdout.readline()
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)

    assert loading == f"Loading run.yaml: ten seconds or so. The log is {tmp_path}/server.log.\n"
    assert serving == f"Serving on http://127.0.0.1:{port} as llama-cpp/smollm2. Ctrl-C stops it.\n"
    assert (server.returncode, out, err) == (0, "", "")
    assert (tmp_path / "server.log").stat().st_size


def test_a_port_in_use_is_the_last_line_and_a_status(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with serve(tmp_path, "run.yaml", port) as server:
            out, err = server.communicate(timeout=60)

    assert (server.returncode, out) == (1, "")
    assert err == f"Port {port} is in use, by another program. Serve on another one: PORT={port + 1} make run\n"


def test_what_ends_a_server_is_the_last_line_and_a_status(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("providers: [")

    with serve(tmp_path, str(config), free_port()) as server:
        _, err = server.communicate(timeout=60)

    assert server.returncode == 1
    assert err.startswith("The server ended: ")
    assert "expected the node content" in err


def test_no_python_and_no_network_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for file in ("scripts/setup", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path / file)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname", "cat", "cksum", "ls"):
        (tools / name).symlink_to(shutil.which(name) or "")
    # A machine with uv, where no Python is new enough and none can be fetched.
    (tools / "uv").write_text('#!/bin/sh\n[ "$1" = --version ]\n')
    (tools / "uv").chmod(0o755)

    run = subprocess.run(
        ["/bin/sh", "scripts/setup"],
        cwd=tmp_path,
        env={"PATH": str(tools), "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 1
    assert run.stderr == (
        "scripts/setup: no Python 3.12 or newer is here, and none could be fetched: "
        "install one, or connect to the network\n"
    )
