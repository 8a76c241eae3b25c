"""`llama-stack-messages doctor`: whether a configuration, or a running server, answers; and if not, why."""

from llama_stack_messages_provider.cli.doctor.command import register

__all__ = ["register"]
