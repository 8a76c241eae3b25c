"""What a process costs, read from Linux: CPU time in seconds, peak memory in bytes, children included."""

import time
from pathlib import Path


def family(pid: int) -> list[int]:
    """``pid`` and its living descendants."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            pids.extend(int(child) for child in task.read_text().split())
    return pids


def cpu_seconds(pid: int) -> float:
    """CPU time of the family since it started; /proc/<pid>/stat has the same in ticks of 10 ms, this in ns.

    The clock's number is the kernel's CPUCLOCK_SCHED of a process: https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html
    """
    return sum(time.clock_gettime((~member << 3) | 2) for member in family(pid))


def reset_peak(pid: int) -> None:
    """Start a new peak: https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html"""
    for member in family(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The family's peak resident memory since the last reset."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) * 1024
    return total
