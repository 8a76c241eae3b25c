"""The SQL backends of the stack's `storage.backends`.

| internal | used for |
|---|---|
| `sqlstore._SQLSTORE_BACKENDS`, filled before providers are built | `sql_backends`: nothing public names them |
| `SqliteSqlStoreConfig`, `PostgresSqlStoreConfig` | where a backend is |

Tried with llama-stack 0.7.3.
"""

from llama_stack.core.storage.datatypes import PostgresSqlStoreConfig, SqliteSqlStoreConfig
from llama_stack.core.storage.sqlstore import sqlstore

__all__ = ["PostgresSqlStoreConfig", "SqlBackend", "SqliteSqlStoreConfig", "sql_backends"]

type SqlBackend = SqliteSqlStoreConfig | PostgresSqlStoreConfig


def sql_backends() -> dict[str, SqlBackend]:
    """Those that are SQLite or PostgreSQL, by name."""
    kinds = (SqliteSqlStoreConfig, PostgresSqlStoreConfig)
    return {name: config for name, config in sqlstore._SQLSTORE_BACKENDS.items() if isinstance(config, kinds)}
