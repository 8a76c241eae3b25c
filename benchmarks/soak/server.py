"""`llama stack` with a thread that writes down what the process holds, one JSON a line, to the file `SOAK_SAMPLES`."""

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from llama_stack.cli.llama import main

EVERY_SECONDS = 2.0


def _memory_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _sockets(descriptors: list[str]) -> int:
    found = 0
    for descriptor in descriptors:
        try:
            found += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return found


def _sample(loop: asyncio.AbstractEventLoop, start: float) -> dict[str, Any]:
    descriptors = os.listdir("/proc/self/fd")
    return {
        "seconds": round(time.monotonic() - start, 1),
        "memory_bytes": _memory_bytes(),
        "descriptors": len(descriptors),
        "connections": _sockets(descriptors),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks(loop)),
    }


def _watch(loop: asyncio.AbstractEventLoop, file: Path) -> None:
    start = time.monotonic()
    with file.open("a", buffering=1) as out:
        while not loop.is_closed():
            out.write(json.dumps(_sample(loop, start)) + "\n")
            time.sleep(EVERY_SECONDS)


async def _serve(self: uvicorn.Server, *args: Any, **kwargs: Any) -> None:
    loop, file = asyncio.get_running_loop(), Path(os.environ["SOAK_SAMPLES"])
    threading.Thread(target=_watch, args=(loop, file), name="soak", daemon=True).start()
    await _serve_unwatched(self, *args, **kwargs)


_serve_unwatched = uvicorn.Server.serve

if __name__ == "__main__":
    uvicorn.Server.serve = _serve  # type: ignore[method-assign]
    main()
