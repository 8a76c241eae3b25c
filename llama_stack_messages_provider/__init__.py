"""The Anthropic Messages API for a Llama Stack server, and `anthropic_client` for those who use one."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_stack_messages_provider.client import anthropic_client

__all__ = ["__version__", "anthropic_client"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: the host imports this package to learn what it provides.
    if name == "anthropic_client":
        from llama_stack_messages_provider.client import anthropic_client

        return anthropic_client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
