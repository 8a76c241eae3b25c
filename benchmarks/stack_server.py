"""`llama stack` without the inference store's writes.

The host's router writes each chat completion to ``storage.stores.inference``; no setting turns that off,
and under load it can wedge the server. With the writes, SQLite would be measured instead of the host.
OGX has a setting for it.
"""

from typing import Any

from llama_stack.cli.llama import main
from llama_stack.providers.utils.inference.inference_store import InferenceStore


async def discard(self: InferenceStore, chat_completion: Any, input_messages: list[Any]) -> None:
    """Store nothing."""


if __name__ == "__main__":
    InferenceStore.store_chat_completion = discard  # type: ignore[method-assign]
    main()
