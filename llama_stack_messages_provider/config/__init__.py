"""The settings of `inline::messages`: the `config:` of the provider in a run configuration."""

from llama_stack_messages_provider.config.messages import (
    MAX_FALLBACKS,
    MAX_REPLICAS,
    ContextConfig,
    DocumentsConfig,
    ImagesConfig,
    MessagesConfig,
    PingConfig,
    ProbeConfig,
    RequestLimits,
    SafeguardsConfig,
    TranslationConfig,
)
from llama_stack_messages_provider.config.server_tools import (
    URL_PATTERN,
    AdvisorConfig,
    CodeExecutionConfig,
    McpConfig,
    WebFetchConfig,
    WebSearchConfig,
)

__all__ = [
    "MAX_FALLBACKS",
    "MAX_REPLICAS",
    "URL_PATTERN",
    "AdvisorConfig",
    "CodeExecutionConfig",
    "ContextConfig",
    "DocumentsConfig",
    "ImagesConfig",
    "McpConfig",
    "MessagesConfig",
    "PingConfig",
    "ProbeConfig",
    "RequestLimits",
    "SafeguardsConfig",
    "TranslationConfig",
    "WebFetchConfig",
    "WebSearchConfig",
]
