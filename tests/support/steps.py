"""How much work a function does, counted and not timed: the same on every machine.

A step is a line of the package's code, or a character or an item that it copies: into what a function returns, or into
a text that an object holds. What other threads do is not counted. What C code does inside one line is not seen;
`Compared` counts what a search through a list would compare.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import llama_stack_messages_provider

__all__ = ["Compared", "assert_linear", "steps"]

_ROOT = str(Path(llama_stack_messages_provider.__file__).parent)
_TOOL = sys.monitoring.PROFILER_ID
_SIZED = (str, bytes, list, tuple, dict, set, frozenset)


class Compared(str):
    """A text that counts how often it is compared with another."""

    __slots__ = ()
    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class _Counter:
    def __init__(self) -> None:
        self.count = 0
        self._thread = threading.get_ident()
        self._texts: dict[tuple[int, str], int] = {}

    def line(self, code: CodeType, line: int) -> Any:
        if not code.co_filename.startswith(_ROOT):
            return sys.monitoring.DISABLE
        self.count += threading.get_ident() == self._thread
        return None

    def returned(self, code: CodeType, offset: int, value: object) -> Any:
        if not code.co_filename.startswith(_ROOT):
            return sys.monitoring.DISABLE
        if threading.get_ident() == self._thread:
            if isinstance(value, _SIZED):
                self.count += len(value)
            self._grown(sys._getframe(1))
        return None

    def _grown(self, frame: FrameType) -> None:
        """Texts of the method's object that were made anew since it was seen last."""
        owner = frame.f_locals.get("self")
        for name in getattr(type(owner), "__slots__", None) or getattr(owner, "__dict__", ()):
            if isinstance(text := getattr(owner, name, None), str):
                if self._texts.get((id(owner), name)) != id(text):
                    self.count += len(text)
                self._texts[id(owner), name] = id(text)


def steps(work: Callable[[], object]) -> int:
    """The steps of a call, in the thread that makes it."""
    counter, compared = _Counter(), Compared.times
    events = sys.monitoring.events
    sys.monitoring.use_tool_id(_TOOL, "steps")
    try:
        sys.monitoring.register_callback(_TOOL, events.LINE, counter.line)
        sys.monitoring.register_callback(_TOOL, events.PY_RETURN, counter.returned)
        sys.monitoring.set_events(_TOOL, events.LINE | events.PY_RETURN)
        work()
    finally:
        sys.monitoring.set_events(_TOOL, 0)
        sys.monitoring.free_tool_id(_TOOL)
    return counter.count + Compared.times - compared


def assert_linear(work: Callable[[int], Callable[[], object]], size: int) -> None:
    """Twice the input is at most twice the work, and a little.

    Args:
        work: Makes the work on an input of a size; making it is not counted.
        size: The smaller size, large enough that what is done once does not matter.
    """
    work(2)()  # what is made at the first use
    once, twice = steps(work(size)), steps(work(2 * size))
    assert twice <= 2.2 * once + 200, f"{size}: {once} steps, {2 * size}: {twice}"
