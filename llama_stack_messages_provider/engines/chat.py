"""The wording of each engine by its name."""

from typing import Any

from llama_stack_messages_provider.engines.engine import ChatWording as Dialect

__all__ = ["DIALECTS", "Dialect"]

DIALECTS: dict[str, Dialect]


def __getattr__(name: str) -> Any:
    if name != "DIALECTS":
        raise AttributeError(name)
    from llama_stack_messages_provider.engines import ENGINES

    return {engine: known.chat for engine, known in ENGINES.items()}
