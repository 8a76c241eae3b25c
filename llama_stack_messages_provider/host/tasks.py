"""Tasks that outlive the request that began them: without its identity and its trace."""

from llama_stack.core.task import create_detached_background_task

__all__ = ["create_detached_background_task"]
