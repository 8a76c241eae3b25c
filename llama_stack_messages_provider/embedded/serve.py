"""The child process that runs llama.cpp's HTTP server; started by path, so that it imports nothing of ours.

Settings come in as one JSON argument, the server's address goes out on standard output. It then lives as long
as its standard input stays open: it ends with the process that started it, however that one ends.
"""

import json
import os
import signal
import sys
from typing import Any

import xllamacpp

# llama.cpp's own numbering: 1 is errors, 3 is a dozen lines for each request.
LOG_ERRORS = 1


def server_params(settings: dict[str, Any]) -> Any:
    """llama.cpp's parameters from the fields of `LlamaCppConfig`, with `path` and `alias` decided."""
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["alias"]}
    # llama.cpp divides its context among the slots.
    params.n_ctx = settings["context_size"] * settings["parallel"]
    params.n_parallel = settings["parallel"]
    # Threads that share a core with anything else spin for most of their time; the Python server needs one.
    threads = settings["threads"] or max(1, (os.cpu_count() or 2) - 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # Every connection takes a thread while it is open, idle or in line too.
    params.n_threads_http = settings["connections"]
    params.use_jinja = True
    params.cache_prompt = True
    params.cache_ram_mib = settings["prompt_cache_mib"]
    params.ui = False
    params.verbosity = LOG_ERRORS
    return params


def main() -> None:
    """Load, serve, and leave when standard input ends."""
    # Ctrl-C and a service manager's SIGTERM reach both processes; the parent first finishes what it answers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = xllamacpp.Server(server_params(json.loads(sys.argv[1])))
    print(server.listening_address, flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdin.read()
    # The server's destructor waits, with the interpreter locked, for streams that nobody reads any more.
    os._exit(0)


if __name__ == "__main__":
    main()
