"""Llama Stack's loggers: structured, and shaped by its own settings."""

from llama_stack.log import get_logger

__all__ = ["get_logger"]
