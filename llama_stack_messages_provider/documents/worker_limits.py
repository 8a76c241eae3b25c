"""The limits of a process that reads a stranger's file."""

import os
import resource
from contextlib import suppress

__all__ = ["limit"]

_NICE = 5


def limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Leave the CPU to the server, and bound what a file may take; it may not write any, not even a core."""
    os.nice(_NICE)
    limits = {
        resource.RLIMIT_DATA: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        with suppress(ValueError, OSError):  # not every system has each of them
            resource.setrlimit(kind, (most, most))
