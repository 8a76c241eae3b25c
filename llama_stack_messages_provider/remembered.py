"""What is remembered for each client in turn, so that nobody pushes out what others use."""

from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Remembered"]


class Remembered[Value]:
    """As many values as there is room for; where there is none, who has most loses what was not used for longest.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._owners: dict[Hashable, Hashable] = {}
        self._values: dict[Hashable, OrderedDict[Hashable, Value]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def get(self, key: Hashable) -> Value | None:
        """A value, whoever brought it."""
        if key not in self._owners:
            return None
        values = self._values[self._owners[key]]
        values.move_to_end(key)
        return values[key]

    def keep(self, key: Hashable, value: Value, owner: Hashable) -> Value:
        """Keep a value, and give the one that is kept: the first one, if there are two."""
        if (kept := self.get(key)) is not None:
            return kept
        if len(self._owners) >= self._most:
            self._forget(owner)
        self._owners[key] = owner
        self._values.setdefault(owner, OrderedDict())[key] = value
        return value

    def replace(self, key: Hashable, value: Value, owner: Hashable) -> None:
        """Keep a value in place of the one that there was, if there was one."""
        if key in self._owners:
            self._drop(key)
        self.keep(key, value, owner)

    def _forget(self, bringing: Hashable) -> None:
        owner = max(self._values, key=lambda each: (len(self._values[each]), each == bringing))
        self._drop(next(iter(self._values[owner])))

    def _drop(self, key: Hashable) -> None:
        owner = self._owners.pop(key)
        del self._values[owner][key]
        if not self._values[owner]:
            del self._values[owner]
