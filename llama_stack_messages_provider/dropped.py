"""What a translation could not carry: named to the client, or refused in strict mode."""

from llama_stack_messages_provider.errors import InvalidRequestError

__all__ = ["DroppedFields"]


class DroppedFields:
    """Collects what is dropped.

    Args:
        strict: Refuse instead of dropping.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._names: dict[str, None] = {}

    @property
    def names(self) -> list[str]:
        """The paths, each once, in the order in which they were dropped."""
        return list(self._names)

    def drop(self, path: str, reason: str) -> None:
        """Record that the part of the request at `path` does not reach the model.

        Raises:
            InvalidRequestError: In strict mode.
        """
        if self.strict:
            raise InvalidRequestError(f"{path}: cannot be honoured ({reason}), and strict mode is on")
        self._names[path] = None

    def repair(self, path: str, reason: str) -> None:
        """Record that the part of the request at `path` was mended; strict mode refuses it."""
        if self.strict:
            raise InvalidRequestError(f"{path}: {reason}")
