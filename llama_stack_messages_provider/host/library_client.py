"""Llama Stack's in-process client, and its HTTP client where the SDK of that name says nothing.

| internal | used for |
|---|---|
| `LlamaStackAsLibraryClient.async_client` | `in_process`: the client that holds the stack |
| `AsyncLlamaStackAsLibraryClient.stack`, None before `initialize`; `.impls` | the Messages API of that stack |
| `.provider_data` | `in_process`: what goes with each request |
| `request_provider_data_context` | `with_provider_data` |

Tried with llama-stack 0.7.3 and llama-stack-client 0.7.5.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

__all__ = ["InProcess", "StackNotReadyError", "in_process", "with_provider_data"]


class StackNotReadyError(ValueError):
    """The stack cannot serve the Messages API; the message says what to do."""


@dataclass(frozen=True, slots=True)
class InProcess:
    """A stack in this process.

    Args:
        messages: Its implementation of the Messages API.
        provider_data: What goes with each request that brings none.
    """

    messages: Any
    provider_data: Mapping[str, Any]


def in_process(stack: Any) -> InProcess | None:
    """The stack that a client holds; None if it asks one over HTTP.

    Raises:
        StackNotReadyError: It is not initialized, or does not serve the Messages API.
    """
    client = getattr(stack, "async_client", stack)
    if not hasattr(client, "custom_provider_registry"):
        return None
    impls = getattr(client, "impls", None)
    if impls is None:
        raise StackNotReadyError("The stack is not initialized: call `await stack.initialize()` first")
    messages = next((impl for api, impl in impls.items() if api.value == "messages"), None)
    if messages is None:
        name = client.config_path_or_distro_name
        raise StackNotReadyError(
            f"The stack does not serve the Messages API: `llama-stack-messages enable {name}` adds it"
        )
    return InProcess(messages, client.provider_data or {})


def with_provider_data(headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """Within it the host sees a request with these headers."""
    from llama_stack.core.request_headers import request_provider_data_context

    return request_provider_data_context(dict(headers))
