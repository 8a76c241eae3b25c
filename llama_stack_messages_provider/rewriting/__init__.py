"""From a Messages request to a plainer one: pure.

```
rewritten = rewrite(request, lacks={"client_tool", "document"}, options=RewriteOptions(), dropped=DroppedFields())
rewritten.request                  the plainer request; the client's own object where nothing had to be changed
rewritten.restore(name)            the `name` and `toolset_name` that the client's block has for a function's name
rewritten.restore_block(block)     the same for a `tool_use` block of a native answer, whole or in its start event
```

The *plain* dialect is system, text, images, custom tools, `tool_use`, `tool_result`, thinking and sampling. Everything
else has a meaning in plain terms, and a pass that writes it down. `lacks` are the features of `features_of` and of the
engines' profiles that an engine does not know; for translation they are all that passes supply (`SUPPLIED`), for a
native engine those of its `gaps`, and what its profile says is `rewritten` wherever it is found (`rewrite_native`).
Only the passes that a request needs and the engine lacks are run.

A pass is a module in `passes/`: its file is all that it takes.
"""

from llama_stack_messages_provider.rewriting.draft import RewriteOptions
from llama_stack_messages_provider.rewriting.rewrite import (
    PASSES,
    SUPPLIED,
    Rewritten,
    marked_features,
    rewrite,
    rewrite_native,
    wanted_features,
)

__all__ = [
    "PASSES",
    "SUPPLIED",
    "RewriteOptions",
    "Rewritten",
    "marked_features",
    "rewrite",
    "rewrite_native",
    "wanted_features",
]
