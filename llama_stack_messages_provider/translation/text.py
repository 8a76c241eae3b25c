"""Text that comes in pieces: halves of surrogate pairs joined, and stop sequences cut off."""

import re
from collections.abc import Iterable

__all__ = ["StopCutter", "join_halves", "mended"]

_SURROGATE = re.compile("[\ud800-\udfff]")
# What is searched for, in characters of all sequences together; what is beyond is left to the upstream.
_MAX_SOUGHT = 16_384


def join_halves(half: str, text: str) -> tuple[str, str]:
    """Text that can be sent, and the half of a pair at its end that waits for the other one.

    Args:
        half: The half that waited before.
        text: The next piece. A half that stays alone becomes U+FFFD.
    """
    if not half and text.isascii():
        return text, ""
    text = half + text
    waits = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    return mended(text[: len(text) - len(waits)]), waits


def mended(text: str) -> str:
    """Text in which surrogates that are a pair are a character, and all others U+FFFD."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class StopCutter:
    """Cuts text at the first stop sequence, also one that comes in pieces (Aho and Corasick's automaton).

    Args:
        sequences: The stop sequences.

    Attributes:
        found: The sequence that was met. Nothing after it is given back.
    """

    def __init__(self, sequences: Iterable[str]) -> None:
        self.found: str | None = None
        self._next: list[dict[str, int]] = [{}]
        self._length = [0]
        self._ends: list[str | None] = [None]
        self._state = 0
        self._held = ""
        sought = 0
        for sequence in sequences:
            sought += len(sequence)
            if sequence and sought <= _MAX_SOUGHT:
                self._add(sequence)
        self._shorter = self._link()
        self._first = re.compile("[" + "".join(map(re.escape, self._next[0])) + "]") if self._next[0] else None

    def __bool__(self) -> bool:
        return self._first is not None

    def feed(self, text: str) -> str:
        """The text up to which no stop sequence can have begun."""
        if self.found is not None or self._first is None:
            return "" if self.found is not None else text
        whole, place = self._held + text, len(self._held)
        while place < len(whole):
            if self._state == 0:
                if (begin := self._first.search(whole, place)) is None:
                    break
                place = begin.start()
            self._state = self._step(whole[place])
            place += 1
            if (met := self._ends[self._state]) is not None:
                self.found, self._held = met, ""
                return whole[: place - len(met)]
        safe = len(whole) - self._length[self._state]
        self._held = whole[safe:]
        return whole[:safe]

    def flush(self) -> str:
        """What was held back and turned out to be no stop sequence."""
        held, self._held, self._state = self._held, "", 0
        return held

    def _add(self, sequence: str) -> None:
        state = 0
        for character in sequence:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._length.append(self._length[state] + 1)
                self._ends.append(None)
            state = self._next[state][character]
        self._ends[state] = sequence

    def _link(self) -> list[int]:
        """For each state, the one of the longest shorter beginning that the text may be at as well."""
        shorter = [0] * len(self._next)
        queue = [*self._next[0].values()]
        for state in queue:
            for character, child in self._next[state].items():
                queue.append(child)
                other = shorter[state]
                while other and character not in self._next[other]:
                    other = shorter[other]
                shorter[child] = self._next[other].get(character, 0)
                if self._ends[child] is None:
                    self._ends[child] = self._ends[shorter[child]]
        return shorter

    def _step(self, character: str) -> int:
        state = self._state
        while state and character not in self._next[state]:
            state = self._shorter[state]
        return self._next[state].get(character, 0)
