"""Where the tables are stored in a Citus cluster."""

from receiver.store.postgres.connection import Session
from schema.tables import (
    CALL_TABLES,
    CHAT_TABLES,
    DISCONNECTION_REASONS,
    ROLLUP_TABLES,
    TABLES,
    Table,
)

# What every transaction about calls begins with.
LOCKS = "entity_locks"
_ENTITY_COLUMNS = ("call_id", "chat_id", "entity_id")
# Table -> the column that it is distributed by. A part refers to its whole, which comes first.
DISTRIBUTED = {LOCKS: "entity_id"} | {
    table.name: table.key[0] for table in TABLES if table.key[0] in _ENTITY_COLUMNS
}
# A table of parts of a call or chat -> the table that it refers to.
PARENTS = {table.name: tables[0] for tables in (CALL_TABLES, CHAT_TABLES) for table in tables[1:]}
# Read together with calls, by views, and seldom written.
REFERENCE = (DISCONNECTION_REASONS.name,)
# Written with every call, one row of some hour, or by nobody but `sync` and `coverage`. A reference
# table would make each of these transactions one of all nodes.
LOCAL = [
    table.name
    for table in (*TABLES, *ROLLUP_TABLES)
    if table.name not in (*DISTRIBUTED, *REFERENCE)
]
LOCAL.append("callhouse_migrations")

# The tables that Citus knows of.
_HAS_CITUS = "SELECT to_regclass('pg_dist_partition') IS NOT NULL"
_IS_DISTRIBUTED = (
    "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid::text = 'calls' AND partmethod = 'h'"
)


def is_distributed(session: Session) -> bool:
    """Whether a cluster's nodes hold the calls."""
    return session.raw.execute(_HAS_CITUS).fetchone() == (True,) and session.raw.execute(
        _IS_DISTRIBUTED
    ).fetchone() == (1,)


def reference(parent: Table) -> str:
    """The foreign key to a parent, as migrations write it."""
    return f"REFERENCES {parent.name} ({parent.key[0]})"
