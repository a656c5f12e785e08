"""Where the tables lie in a Citus cluster."""

from receiver.store.postgres.connection import Session
from schema.tables import DISCONNECTION_REASONS, ROLLUP_TABLES, TABLES

# What every transaction about calls begins with.
LOCKS = "entity_locks"
_ENTITY_COLUMNS = ("call_id", "chat_id", "entity_id")
# Table -> the column that it is distributed by. A part refers to its whole, which comes first.
DISTRIBUTED = {LOCKS: "entity_id"} | {
    table.name: table.key[0] for table in TABLES if table.key[0] in _ENTITY_COLUMNS
}
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
