"""Texts that are remembered of each client in turn, so that nobody pushes out what others use."""

from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Remembered"]


class Remembered:
    """As many texts as there is room for; where there is none, who has most loses what was not used for longest.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._owners: dict[Hashable, Hashable] = {}
        self._texts: dict[Hashable, OrderedDict[Hashable, str]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def get(self, key: Hashable) -> str | None:
        """A text, whoever brought it."""
        if key not in self._owners:
            return None
        texts = self._texts[self._owners[key]]
        texts.move_to_end(key)
        return texts[key]

    def keep(self, key: Hashable, text: str, owner: Hashable) -> str:
        """Keep a text, and give the one that is kept: the first one, if there are two."""
        if (kept := self.get(key)) is not None:
            return kept
        if len(self._owners) >= self._most:
            self._forget(owner)
        self._owners[key] = owner
        self._texts.setdefault(owner, OrderedDict())[key] = text
        return text

    def _forget(self, bringing: Hashable) -> None:
        owner = max(self._texts, key=lambda each: (len(self._texts[each]), each == bringing))
        key, _ = self._texts[owner].popitem(last=False)
        del self._owners[key]
        if not self._texts[owner]:
            del self._texts[owner]
