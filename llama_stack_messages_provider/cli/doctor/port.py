"""Whether a server could listen where it is to."""

import errno
import os
import socket

import httpx

from llama_stack_messages_provider.findings import Problem

__all__ = ["port_problem"]

_TIMEOUT_SECONDS = 2.0


def port_problem(host: str | None, port: int) -> Problem | None:
    """What keeps a server from listening; None where nothing does.

    Args:
        host: An address of this machine; None or empty for all.
        port: A port.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, number) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        return Problem("error", f"The host {host} is not known", "See `server.host` of the run configuration.")
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            return _taken(port)
        what = f"Nothing can listen on {host or 'any address'}, port {port}: {os.strerror(exc.errno or 0)}"
        return Problem("error", what, "Choose others with `server.host` and `--port`.")
    return None


def _taken(port: int) -> Problem:
    url = f"http://127.0.0.1:{port}"
    if _is_stack(url):
        return Problem("warning", f"Port {port} is in use, by a Llama Stack server", f"`doctor --url {url}` asks it.")
    return Problem(
        "error", f"Port {port} is in use, by another program", "Serve on another one: `llama stack run --port`."
    )


def _is_stack(url: str) -> bool:
    try:
        return "status" in httpx.get(f"{url}/v1/health", timeout=_TIMEOUT_SECONDS).json()
    except (httpx.HTTPError, ValueError, TypeError):
        return False
