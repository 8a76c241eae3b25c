"""A whole stack in this process, without serving. Imported late: it takes seconds.

Tried with llama-stack 0.7.3.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import yaml
from llama_stack.core.datatypes import StackConfig
from llama_stack.core.stack import Stack, cast_distro_name_to_string, replace_env_vars
from llama_stack.core.utils.config_resolution import resolve_config_or_distro

__all__ = ["read_config", "running_stack"]


def read_config(config: str) -> StackConfig:
    """The run configuration in a file, or of a distribution, with its variables put in."""
    text = resolve_config_or_distro(config).read_text(encoding="utf-8")
    return StackConfig(**cast_distro_name_to_string(replace_env_vars(yaml.safe_load(text))))


@asynccontextmanager
async def running_stack(config: str) -> AsyncIterator[Mapping[Any, Any]]:
    """The APIs of the stack of a run configuration, until the end of the block."""
    stack = Stack(read_config(config))
    await stack.initialize()  # type: ignore[no-untyped-call]
    try:
        yield stack.impls or {}
    finally:
        await stack.shutdown()  # type: ignore[no-untyped-call]
