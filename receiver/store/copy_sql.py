"""The statements of copying and comparing, for every engine."""

from receiver.store.sql import delete, select, upsert
from schema.tables import ERASURES, OBSERVATIONS, Table

# All but the body: that one is there.
_WITHOUT_BODY = (*OBSERVATIONS.names[:-1], "body IS NOT NULL")
WITHOUT_BODY = f"SELECT {', '.join(_WITHOUT_BODY)} FROM observations WHERE entity_id = ?"
WHOLE = select(OBSERVATIONS)
# The target may have a body that the source has found superfluous: the projection decides.
PUT_OBSERVATION = upsert(OBSERVATIONS).replace(
    "body = excluded.body", "body = coalesce(excluded.body, observations.body)"
)
# Of two tombstones, the first.
PUT_ERASURE = (
    f"{upsert(ERASURES)} WHERE coalesce(excluded.erased_at, 0) < coalesce(erasures.erased_at, 0)"
)
FORGET = (
    "UPDATE observations SET event = NULL, level = NULL, key_id = NULL, body_bytes = NULL, "
    "problem = NULL, body = NULL WHERE entity_id = ?"
)

# What a mirror drops before it puts an entity as its server has it.
DROP = [f"DELETE FROM {table} WHERE entity_id = ?" for table in ("observations", "erasures")]
# A file that a mirror has made: nothing of it came another way.
IS_MIRROR = "PRAGMA user_version"
MARK_MIRROR = "PRAGMA user_version = 1"


def all_of(table: Table) -> str:
    """Every row, its columns in order."""
    return f"SELECT {', '.join(table.names)} FROM {table.name}"


def one(table: Table) -> str:
    """The row with a key."""
    return delete(table).replace("DELETE", f"SELECT {', '.join(table.names)}", 1)


def span(table: Table, *, is_last: bool, bodies: bool = False) -> str:
    """Rows whose key begins with what comes after one value, and not after a second one."""
    end = "" if is_last else f" AND {table.key[0]} <= ?"
    return f"SELECT {_names(table, bodies)} FROM {table.name} WHERE {table.key[0]} > ?{end}"


def named(table: Table, *, bodies: bool = False) -> str:
    """Rows whose key begins with a value."""
    return f"SELECT {_names(table, bodies)} FROM {table.name} WHERE {table.key[0]} = ?"


def _names(table: Table, bodies: bool) -> str:
    return ", ".join(table.names if bodies or table is not OBSERVATIONS else _WITHOUT_BODY)


# Whose id is told with what, so that the same row twice is the same news.
RECENT = (
    "SELECT entity_id, body_sha256, source, last_received_at, times_received FROM observations "
    "WHERE last_received_at >= :since "
    "UNION ALL SELECT entity_id, 'erased', '', erased_at, 0 FROM erasures "
    "WHERE erased_at >= :since "
    "UNION ALL SELECT call_id, 'asked', '', asked_at, gone_at FROM upstream_calls "
    "WHERE asked_at >= :since OR gone_at >= :since"
)
NEWEST = "SELECT max(updated_at) FROM calls"
