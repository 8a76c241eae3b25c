"""One module for each engine with all that is known of it, and what finds the right one.

Modules of this package that define `ENGINE` are engines; there is no list of them.
"""

from llama_stack_messages_provider.engines.engine import ChatWording, Engine, NativeProfile
from llama_stack_messages_provider.engines.refusals import Kind, Words
from llama_stack_messages_provider.engines.registry import Registry, discover

__all__ = ["ENGINES", "ChatWording", "Engine", "Kind", "NativeProfile", "Registry", "Words", "discover"]

ENGINES: Registry = discover()
"""All engines."""
