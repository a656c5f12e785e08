"""The statements. Built from schema.tables, never from names in a payload."""

from schema.rollups import ROLLUPS, Rollup
from schema.rows import DISCRIMINATORS
from schema.tables import CALL_TABLES, CHAT_TABLES, Table
from schema.words import plain


def upsert(table: Table) -> str:
    """Insert a row, or update every column of the row with its key."""
    rest = [name for name in table.names if name not in table.key]
    update = f"UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in rest)}" if rest else "NOTHING"
    return (
        f"INSERT INTO {table.name} ({', '.join(table.names)}) "
        f"VALUES ({', '.join('?' * len(table.names))}) "
        f"ON CONFLICT ({', '.join(table.key)}) DO {update}"
    )


def delete(table: Table) -> str:
    """Delete the row with a key."""
    return f"DELETE FROM {table.name} WHERE {' AND '.join(f'{c} = ?' for c in table.key)}"


def select(table: Table) -> str:
    """All rows of one call or chat."""
    return f"SELECT {', '.join(table.names)} FROM {table.name} WHERE {table.key[0]} = ?"


def delete_all(table: Table) -> str:
    """Delete all rows of one call or chat."""
    return f"DELETE FROM {table.name} WHERE {table.key[0]} = ?"


def roll_up(rollup: Rollup) -> str:
    """Fill a rollup table with what the calls of `:hour` give."""
    return (
        f"INSERT INTO {rollup.table} ({', '.join(rollup.columns)}, position) "
        f"SELECT *, row_number() OVER () FROM ({rollup.of_the_hour})"
    )


ENTITY_TABLES = {table.name: table for table in (*CALL_TABLES, *CHAT_TABLES)}
UPSERT = {name: upsert(table) for name, table in ENTITY_TABLES.items()}
DELETE = {name: delete(table) for name, table in ENTITY_TABLES.items()}
DELETE_ALL = {name: delete_all(table) for name, table in ENTITY_TABLES.items()}
SELECT = {name: select(table) for name, table in ENTITY_TABLES.items()}
# Where a row's discriminator stands, for tables that several fields of a call share.
DISCRIMINATOR_INDEX = {
    name: ENTITY_TABLES[name].names.index(column) for name, column in DISCRIMINATORS.items()
}

IS_ERASED = "SELECT 1 FROM erasures WHERE entity_id = ?"

KNOWN = (
    "SELECT body_sha256, source, entity_type, event, level, observed_at, first_received_at, "
    "problem, body IS NOT NULL FROM observations WHERE entity_id = ?"
)
BODY = "SELECT body FROM observations WHERE entity_id = ? AND body_sha256 = ? AND source = ?"
DROP_BODY = (
    "UPDATE observations SET body = NULL WHERE entity_id = ? AND body_sha256 = ? AND source = ?"
)
SET_PROBLEM = (
    "UPDATE observations SET problem = ? WHERE entity_id = ? AND body_sha256 = ? AND source = ?"
)
INSERT_OBSERVATION = (
    "INSERT INTO observations (entity_id, body_sha256, source, entity_type, event, level, "
    "observed_at, first_received_at, last_received_at, times_received, key_id, body_bytes, "
    "problem, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?)"
)
# Minimum and maximum, so that two processes may commit deliveries in any order.
REPEAT_OBSERVATION = (
    "UPDATE observations SET times_received = times_received + 1, observed_at = ?, "
    "first_received_at = min(first_received_at, ?), last_received_at = max(last_received_at, ?), "
    "key_id = min(key_id, ?) WHERE entity_id = ? AND body_sha256 = ? AND source = ?"
)

SEED_REASON = (
    "INSERT INTO disconnection_reasons (reason, category, description) VALUES (?, ?, ?) "
    "ON CONFLICT (reason) DO UPDATE SET category = excluded.category, "
    "description = excluded.description WHERE category IS NOT excluded.category "
    "OR description IS NOT excluded.description"
)
ADD_REASON = (
    "INSERT INTO disconnection_reasons (reason, category, description) VALUES (?, ?, ?) "
    "ON CONFLICT (reason) DO NOTHING"
)
DROP_UNUSED_REASON = (
    "DELETE FROM disconnection_reasons WHERE reason = ? "
    "AND NOT EXISTS (SELECT 1 FROM calls WHERE disconnection_reason = ?)"
)

REASONS = "SELECT reason FROM disconnection_reasons"
USED_REASONS = (
    "SELECT DISTINCT disconnection_reason FROM calls WHERE disconnection_reason IS NOT NULL"
)
DROP_REASON = "DELETE FROM disconnection_reasons WHERE reason = ?"

UNFOUNDED = {
    "calls": "SELECT call_id FROM calls WHERE call_id NOT IN (SELECT entity_id FROM observations)",
    "chats": "SELECT chat_id FROM chats WHERE chat_id NOT IN (SELECT entity_id FROM observations)",
}
REINDEX_TRANSCRIPTS = "INSERT INTO transcripts_fts (transcripts_fts) VALUES ('rebuild')"

# With the figures of the hour, by its foreign keys.
UNSETTLE = "DELETE FROM rollup_hours WHERE hour = ?"
UNSETTLE_ALL = "DELETE FROM rollup_hours"
SETTLE = "INSERT INTO rollup_hours (hour) VALUES (:hour) ON CONFLICT (hour) DO NOTHING"
ROLL_UP = [roll_up(rollup) for rollup in ROLLUPS]
# From one hour with calls to the next, each step a search of an index. No call is older than 1970.
UNSETTLED_HOURS = plain("""
    WITH RECURSIVE hours (hour) AS (
        SELECT (SELECT min(call_time(c)) FROM calls c WHERE call_time(c) >= 0) / 3600000 * 3600000
        UNION ALL
        SELECT (
            SELECT min(call_time(c)) FROM calls c WHERE call_time(c) >= hours.hour + 3600000
        ) / 3600000 * 3600000
        FROM hours
        WHERE hours.hour + 3600000 <= :now
    )
    SELECT hour FROM hours
    WHERE hour + 3600000 <= :now
        AND hour NOT IN (SELECT hour FROM rollup_hours)
        AND :quiet_since >= (
            SELECT max(c.updated_at) FROM calls c
            WHERE call_time(c) BETWEEN hour AND hour + 3599999
        )
    ORDER BY hour
""")

VIEWS = "SELECT name, sql FROM sqlite_master WHERE type = 'view'"
ENTITIES_AFTER = (
    "SELECT DISTINCT entity_id FROM observations WHERE entity_id > ? ORDER BY entity_id LIMIT ?"
)
COUNT_ENTITIES = "SELECT count(DISTINCT entity_id) FROM observations"
