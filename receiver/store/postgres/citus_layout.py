"""Where the tables are stored in a Citus cluster."""

from receiver.store.postgres.connection import Session
from schema.tables import (
    ACCOUNT_KEYS,
    ALL_TABLES,
    CALL_TABLES,
    CHAT_TABLES,
    DISCONNECTION_REASONS,
    Table,
)

# Every transaction that writes calls locks a row of this table first.
LOCKS = "entity_locks"
_ENTITY_COLUMNS = ("call_id", "chat_id", "entity_id")
# Table -> the column that it is distributed by, each after the table that it refers to.
DISTRIBUTED = {LOCKS: "entity_id"} | {
    table.name: table.key[0] for table in ALL_TABLES if table.key[0] in _ENTITY_COLUMNS
}
# A table of parts of a call or chat -> the table that it refers to.
PARENTS = {table.name: tables[0] for tables in (CALL_TABLES, CHAT_TABLES) for table in tables[1:]}
# Joined with calls or observations, and seldom written.
REFERENCE = (DISCONNECTION_REASONS.name, ACCOUNT_KEYS.name)
# Written with every call, or by `sync` and `coverage` alone. As reference tables they would make
# each of these transactions one of all nodes.
LOCAL = [table.name for table in ALL_TABLES if table.name not in (*DISTRIBUTED, *REFERENCE)]
LOCAL.append("callhouse_migrations")

# The tables that Citus has distributed.
_HAS_CITUS = "SELECT to_regclass('pg_dist_partition') IS NOT NULL"
_IS_DISTRIBUTED = (
    "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid::text = 'calls' AND partmethod = 'h'"
)


def is_distributed(session: Session) -> bool:
    """Whether the calls are stored on the nodes of a cluster."""
    return session.raw.execute(_HAS_CITUS).fetchone() == (True,) and session.raw.execute(
        _IS_DISTRIBUTED
    ).fetchone() == (1,)


def reference(parent: Table) -> str:
    """The foreign key to a parent, as migrations write it."""
    return f"REFERENCES {parent.name} ({parent.key[0]})"
