"""A program at a terminal at which nobody sits. Needs `pip install pexpect pyte`."""

import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect
import pyte

__all__ = ["DOWN", "ENTER", "ESCAPE", "Terminal"]

DOWN, ENTER, ESCAPE = "\x1b[B", "\r", "\x1b"
# Wide, so that few lines are wrapped.
ROWS, COLUMNS = 100, 200
SETTLE_SECONDS = 0.7


class Terminal:
    """What a program shows, and keys for it.

    Args:
        command: The program and its arguments.
        folder: Where it runs.
        env: All of its environment.
    """

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self._screen = pyte.HistoryScreen(COLUMNS, ROWS, history=10_000)
        self._stream = pyte.Stream(self._screen)
        self._program = pexpect.spawn(
            command[0],
            [*command[1:]],
            cwd=str(folder),
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **env},
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
            codec_errors="replace",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.kill(signal.SIGKILL)
        with contextlib.suppress(pexpect.ExceptionPexpect):  # it had ended by itself
            self._program.wait()

    def text(self) -> str:
        """What can be read now, or after scrolling up, without empty lines."""
        above = ("".join(line[column].data for column in range(COLUMNS)) for line in self._screen.history.top)
        return "\n".join(line.rstrip() for line in (*above, *self._screen.display) if line.strip())

    def shows(self, *words: str, seconds: float = 60) -> bool:
        """Whether any of these words can be read by then."""
        end = time.monotonic() + seconds
        while not (found := any(each in self.text() for each in words)) and time.monotonic() < end:
            self._read()
        return found

    def press(self, *keys: str) -> None:
        """Type these one after the other, as slowly as a person does: many at once are a paste."""
        for each in keys:
            self._program.send(each)
            end = time.monotonic() + SETTLE_SECONDS
            while time.monotonic() < end:
                self._read()

    def _read(self) -> None:
        try:
            self._stream.feed(self._program.read_nonblocking(65536, timeout=0.1))
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            time.sleep(0.1)
