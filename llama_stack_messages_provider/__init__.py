"""The Anthropic Messages API for a Llama Stack server."""

__version__ = "0.1.0"
