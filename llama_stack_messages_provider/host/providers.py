"""Llama Stack's inference providers: where their upstreams are, and whether we may speak to those ourselves.

| internal | used for |
|---|---|
| `OpenAIMixin.get_base_url`, `._get_api_key_from_config_or_provider_data` | `address_of` |
| `OpenAIMixin.config.network`, `.shared_ssl_context`, `_build_ssl_context` | `network_of`, `tls_of` |
| `OpenAIMixin._validate_model_allowed` | `check_model_allowed` |
| `OpenAIMixin.openai_chat_completion` and `.client`, as they were read | `sends_what_we_send` |
| `OpenAIMixin.get_extra_client_params`, as it was read | `has_plain_client` |

A provider's methods are known by their source: one that was changed or overridden is called, not guessed at.

Tried with llama-stack 0.7.3.
"""

import ast
import hashlib
import inspect
import ssl
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

from llama_stack.providers.utils.inference.http_client import _build_ssl_context
from llama_stack.providers.utils.inference.model_registry import NetworkConfig, TimeoutConfig
from llama_stack.providers.utils.inference.openai_mixin import OpenAIMixin

from llama_stack_messages_provider.host.log import get_logger

__all__ = [
    "NetworkConfig",
    "TimeoutConfig",
    "address_of",
    "check_model_allowed",
    "has_plain_client",
    "is_openai_style",
    "localizes_images",
    "network_of",
    "provider_id",
    "provider_type",
    "sends_what_we_send",
    "tls_of",
]

logger = get_logger(name=__name__, category="providers")

_PACKAGE = "llama_stack_messages_provider."

READ_SOURCES: dict[str, dict[str, str]] = {
    "openai_chat_completion": {
        "8076c3e7a0ca2a88": "OpenAIMixin",
        # Adds its default for `max_tokens`, which is always set here, and calls the mixin's.
        "9a89eca26044a734": "VLLMInferenceAdapter",
    },
    "get_extra_client_params": {"0cf902d00b98ecbd": "OpenAIMixin"},
    "client": {"cafe53f130ab3718": "OpenAIMixin"},
}
"""Of each method the sources that were read, as `source_of` hashes them, and whose they are."""


def is_openai_style(provider: Any) -> bool:
    """Whether a provider has an upstream in OpenAI's style and says where."""
    return isinstance(provider, OpenAIMixin)


def provider_id(provider: Any) -> str:
    """Its id in the run configuration."""
    return str(getattr(provider, "__provider_id__", "unknown"))


def provider_type(provider: Any) -> str:
    """Its type, such as `remote::vllm`."""
    return str(getattr(getattr(provider, "__provider_spec__", None), "provider_type", "unknown"))


def address_of(provider: Any) -> tuple[str, str | None]:
    """The base URL of a provider's upstream and the key for the request at hand.

    Raises:
        RuntimeError, ValueError: There is none at present.
    """
    return str(provider.get_base_url()), provider._get_api_key_from_config_or_provider_data()


def network_of(provider: Any) -> NetworkConfig | None:
    """A provider's network settings."""
    return getattr(provider.config, "network", None)


def tls_of(provider: Any) -> ssl.SSLContext | bool:
    """How a provider's upstream is verified: a context, or False where it is not."""
    network = network_of(provider)
    if network is None or network.tls is None:
        context: ssl.SSLContext | bool = provider.shared_ssl_context
        return context
    built = _build_ssl_context(network.tls)
    return ssl.create_default_context(cafile=built) if isinstance(built, str) else built


def check_model_allowed(provider: Any, upstream_model: str) -> None:
    """Apply a provider's `allowed_models`.

    Raises:
        ValueError: The model is not among them.
    """
    provider._validate_model_allowed(upstream_model)


def localizes_images(provider: Any) -> bool:
    """Whether a provider loads the images that a request names, and sends them instead."""
    return bool(provider.download_images)


def has_plain_client(provider: Any) -> bool:
    """Whether a provider's OpenAI client does nothing to a request that its settings do not say."""
    kind: Any = type(provider)
    return _is_read(kind, "get_extra_client_params")


def sends_what_we_send(provider: Any) -> bool:
    """Whether a provider's chat completion would send the very request that it is given."""
    kind: Any = type(provider)
    read = _is_read(kind, "openai_chat_completion") and _is_read(kind, "client")
    return read and not provider.overwrite_completion_id


@cache
def _is_read(kind: Any, name: str) -> bool:
    """Whether all that a provider runs by this name was read and found to be what we do ourselves."""
    for owner, method in _definitions(kind, name):
        if source_of(method) in READ_SOURCES[name] or owner.__module__.startswith(_PACKAGE):
            continue
        if owner.__module__.startswith("llama_stack.") and owner.__name__ in READ_SOURCES[name].values():
            logger.warning(
                "A method of Llama Stack is not the one that this version knows: the provider is called instead",
                provider=owner.__name__,
                method=name,
            )
        return False
    return True


def _definitions(kind: Any, name: str) -> Iterator[tuple[type, Any]]:
    return ((owner, vars(owner)[name]) for owner in kind.__mro__ if name in vars(owner))


def source_of(method: Any) -> str:
    """A hash of what a method or property does, comments and docstring apart; empty where its source is not there."""
    try:
        source = inspect.getsource(getattr(method, "fget", method))
        function = ast.parse(textwrap.dedent(source)).body[0]
    except (OSError, TypeError, SyntaxError):  # an installation without its sources, part of an expression
        return ""
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return ""
    if ast.get_docstring(function) is not None:
        del function.body[0]
    return hashlib.sha256(ast.unparse(function).encode()).hexdigest()[:16]
