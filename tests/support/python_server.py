"""`python -m tests.support.python_server PORT`: an MCP server that runs programs and shell commands, as a process."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from mcp.server.fastmcp import FastMCP

from tests.support.stack import free_port

__all__ = ["python_server"]

SECONDS = 20


def run(*command: str) -> dict[str, str | int]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    return {"stdout": done.stdout, "stderr": done.stderr, "exit_code": done.returncode}


def main(port: int) -> None:
    server = FastMCP("python", host="127.0.0.1", port=port, log_level="ERROR")

    @server.tool()
    def run_python(code: str) -> dict[str, str | int]:
        """Runs a Python program."""
        return run(sys.executable, "-I", "-c", code)

    @server.tool()
    def run_bash(command: str) -> dict[str, str | int]:
        """Runs a command."""
        return run("/bin/sh", "-c", command)

    server.run("streamable-http")


@contextmanager
def python_server() -> Iterator[str]:
    """The URL of such a server, which ends with the context."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.support.python_server", str(port)])
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        deadline = time.monotonic() + 30
        while not _listens(url):
            assert process.poll() is None, "the MCP server ended"
            assert time.monotonic() < deadline, "the MCP server did not start"
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def _listens(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]))
