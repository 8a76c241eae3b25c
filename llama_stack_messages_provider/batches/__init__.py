"""Message Batches: a pure lifecycle, rows in SQL, and workers in every serving process.

```
service ─┬─ upload, intake, splitter     the body, as it arrives
         ├─ store ───────────────┐       what clients do
         └─ runtime ── worker ───┼─ job_queue, sweep    what workers do, under a worker_lease, through a recorder
                                 └─ rows, tables, database
lifecycle, config, ids, wire, identity   used by all of them
```
"""

from llama_stack_messages_provider.batches.config import BatchesConfig
from llama_stack_messages_provider.batches.database import BackendError, find_backend
from llama_stack_messages_provider.batches.identity import Identity, current_identity
from llama_stack_messages_provider.batches.runner import Runner
from llama_stack_messages_provider.batches.runtime import BatchRuntime
from llama_stack_messages_provider.batches.service import BatchService

__all__ = [
    "BackendError",
    "BatchRuntime",
    "BatchService",
    "BatchesConfig",
    "Identity",
    "Runner",
    "current_identity",
    "find_backend",
]
