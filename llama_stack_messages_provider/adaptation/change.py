"""What a change to a refused request is."""

from collections.abc import Mapping
from typing import Any

__all__ = ["Change"]


class Change:
    """A change to a request, in either dialect; this one changes nothing."""

    __slots__ = ()

    @property
    def lasting(self) -> bool:
        """Whether it is about the model, so that the next request needs it as well."""
        return True

    def dropped(self, params: Mapping[str, Any]) -> list[str]:
        """What it takes from a request, in the client's words."""
        return []

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with the change; the same ones if there is nothing to change."""
        return dict(params)
