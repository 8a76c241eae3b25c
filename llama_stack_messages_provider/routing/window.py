"""How much a model can read and write, where something tells it beforehand; what only a refusal tells is learned."""

from collections.abc import Sequence

from llama_stack_messages_provider.routing.probe import Capability
from llama_stack_messages_provider.upstream.target import Target

__all__ = ["registered_output", "window_of"]

_WINDOW = ("max_input_tokens", "context_window", "context_length", "max_model_len", "num_ctx")
_OUTPUT = ("max_output_tokens", "max_tokens")


def window_of(target: Target, capability: Capability) -> int | None:
    """The context window in tokens: what the model was registered with, else what its upstream tells."""
    return _number(target, _WINDOW) or capability.window


def registered_output(target: Target) -> int | None:
    """The most output in tokens that the model was registered with."""
    return _number(target, _OUTPUT)


def _number(target: Target, names: Sequence[str]) -> int | None:
    metadata = target.metadata
    if not metadata:
        return None
    found = (metadata.get(name) for name in names)
    return next((number for number in found if type(number) is int and number > 0), None)
