"""Expectations of JSON: what is named must be there, what is not named may be.

```
differences({"a": 1, "b": ABSENT, "c": Has("x", "y"), "d": [ANY, {"e": 2}]}, actual) -> ["d.1.e: 2, but 3"]
```
A list is matched item by item and has no others; an object may have other keys.
"""

from collections.abc import Iterator
from typing import Any

__all__ = ["ABSENT", "ANY", "Has", "Lacks", "differences"]


class _Word:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ABSENT = _Word("nothing")
"""The key is not there."""
ANY = _Word("anything")
"""Whatever it is."""


class Has:
    """Text that has all of these pieces, in this order."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def __repr__(self) -> str:
        return f"text with {', '.join(map(repr, self.pieces))}"

    def fits(self, value: Any) -> bool:
        """Whether a value is such a text."""
        at = 0
        for piece in self.pieces:
            if not isinstance(value, str) or (at := value.find(piece, at)) < 0:
                return False
            at += len(piece)
        return True


class Lacks(Has):
    """Text that has none of these pieces."""

    def __repr__(self) -> str:
        return f"text without {', '.join(map(repr, self.pieces))}"

    def fits(self, value: Any) -> bool:
        """Whether a value is such a text."""
        return isinstance(value, str) and not any(piece in value for piece in self.pieces)


def differences(expected: Any, actual: Any) -> list[str]:
    """Where a value is not as expected."""
    return list(_differences(expected, actual, ""))


def _differences(expected: Any, actual: Any, path: str) -> Iterator[str]:
    if expected is ANY:
        return
    if isinstance(expected, Has):
        fits = expected.fits(actual)
    elif isinstance(expected, dict) and isinstance(actual, dict):
        yield from _in_object(expected, actual, path)
        return
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, pair in enumerate(zip(expected, actual, strict=True)):
            yield from _differences(*pair, f"{path}.{index}")
        return
    else:
        fits = type(expected) is type(actual) and expected == actual
    if not fits:
        yield f"{path.lstrip('.')}: {expected!r}, but {actual!r}"


def _in_object(expected: dict[str, Any], actual: dict[str, Any], path: str) -> Iterator[str]:
    for name, value in expected.items():
        where = f"{path}.{name}"
        if value is ABSENT:
            if name in actual:
                yield f"{where.lstrip('.')}: nothing, but {actual[name]!r}"
        elif name not in actual:
            yield f"{where.lstrip('.')}: {value!r}, but nothing"
        else:
            yield from _differences(value, actual[name], where)
