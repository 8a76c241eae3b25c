"""The peers' environments: one virtual environment each, made on demand under the work folder."""

import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = {"ogx": ["ogx==1.5.*"], "litellm": ["litellm[proxy]==1.109.1"]}
# LiteLLM pins the very latest of these two; an index that lags behind has none. Certificates and database
# migrations take no part in what is measured.
OVERRIDES = {"litellm": ["certifi", "litellm-proxy-extras"]}


def install(peer: str, work: Path) -> Path:
    """The folder with ``peer``'s commands, installed if it is not yet there."""
    home = work / peer
    done = home / "installed"
    wanted = "\n".join([*REQUIREMENTS[peer], sys.version])
    if not done.exists() or done.read_text() != wanted:
        print(f"installing {' '.join(REQUIREMENTS[peer])} ...", flush=True)
        shutil.rmtree(home, ignore_errors=True)
        work.mkdir(exist_ok=True)
        if uv := find_uv():
            install_with_uv(uv, peer, home)
        else:
            install_with_pip(peer, home)
        done.write_text(wanted)
    return home / "bin"


def find_uv() -> str | None:
    """The one on the PATH, or the one that `scripts/setup` has installed."""
    return shutil.which("uv") or shutil.which("uv", path=".tools/bin")


def install_with_uv(uv: str, peer: str, home: Path) -> None:
    """Make the environment with uv."""
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, home], check=True)
    overrides = home / "overrides.txt"
    overrides.write_text("\n".join(OVERRIDES.get(peer, [])))
    python = home / "bin" / "python"
    command = [uv, "pip", "install", "--quiet", "--python", str(python), "--overrides", str(overrides)]
    subprocess.run([*command, *REQUIREMENTS[peer]], check=True)


def install_with_pip(peer: str, home: Path) -> None:
    """Make the environment with the standard library's venv and pip."""
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python = str(home / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS[peer]], check=True)


def version(peer: str, work: Path) -> str:
    """The installed version."""
    code = f"import importlib.metadata as m; print(m.version({peer!r}))"
    command = [str(work / peer / "bin" / "python"), "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
