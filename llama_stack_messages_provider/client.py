"""The Anthropic SDK on a Llama Stack client, in one line: `anthropic_client(stack)`."""

from collections.abc import Mapping
from typing import Any, overload

import orjson
from anthropic import Anthropic, AsyncAnthropic
from llama_stack_client import AsyncLlamaStackClient, LlamaStackClient

from llama_stack_messages_provider.host.library_client import InProcess, StackNotReadyError, in_process

__all__ = ["StackNotReadyError", "anthropic_client"]

_PROVIDER_DATA = "x-llamastack-provider-data"
# Of the host's client, not of ours: the rest of its headers says what that client is.
_KEPT_HEADERS = frozenset({_PROVIDER_DATA, "authorization"})
_HERE = "http://stack.in-process"


@overload
def anthropic_client(stack: LlamaStackClient, **options: Any) -> Anthropic: ...
@overload
def anthropic_client(stack: AsyncLlamaStackClient, **options: Any) -> AsyncAnthropic: ...


def anthropic_client(stack: LlamaStackClient | AsyncLlamaStackClient, **options: Any) -> Anthropic | AsyncAnthropic:
    """An Anthropic client for the Messages API of a stack.

    It is synchronous where the stack's client is. A `LlamaStackAsLibraryClient` is reached in this process, streams
    included; a batch that is created there is run by servers that work on the same database.

    Args:
        stack: A client of Llama Stack: its URL, token and provider data are used, or the stack that it holds.
        options: Of `anthropic.Anthropic`; what is given here comes before what the stack's client says.

    Raises:
        StackNotReadyError: The stack in this process is not initialized, or does not serve the Messages API.
    """
    is_async = isinstance(stack, AsyncLlamaStackClient)
    held = in_process(stack)
    given = _over_http(stack) if held is None else _in_process(held, is_async=is_async)
    headers = {**given.pop("default_headers"), **(options.pop("default_headers", None) or {})}
    # The SDK takes one of the two, and would read the other one from the environment.
    if "api_key" in options or "auth_token" in options:
        del given["auth_token"], given["api_key"]
    kind = AsyncAnthropic if is_async else Anthropic
    return kind(**{**given, "default_headers": headers, **options})


def _over_http(stack: LlamaStackClient | AsyncLlamaStackClient) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in stack.default_headers.items() if isinstance(value, str)}
    return {
        "base_url": str(stack.base_url),
        "auth_token": stack.api_key or "none",
        "api_key": None,
        "max_retries": stack.max_retries,
        "default_headers": {name: headers[name] for name in _KEPT_HEADERS & headers.keys()},
    }


def _in_process(held: InProcess, *, is_async: bool) -> dict[str, Any]:
    import httpx2

    from llama_stack_messages_provider.in_process import AsyncInProcessTransport, InProcessTransport

    client: httpx2.AsyncClient | httpx2.Client
    if is_async:
        client = httpx2.AsyncClient(transport=AsyncInProcessTransport(held.messages), timeout=None)
    else:
        client = httpx2.Client(transport=InProcessTransport(held.messages), timeout=None)
    return {
        "base_url": _HERE,
        "auth_token": "none",
        "api_key": None,
        "http_client": client,
        "default_headers": _provider_data(held.provider_data),
    }


def _provider_data(data: Mapping[str, Any]) -> dict[str, str]:
    return {_PROVIDER_DATA: orjson.dumps(data).decode()} if data else {}
