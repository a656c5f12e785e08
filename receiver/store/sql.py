"""SQL statements, built from schema.tables and never from names in a payload."""

import re

from schema.events import CUT
from schema.rows import DISCRIMINATORS
from schema.sql.macros import plain
from schema.sql.views import read
from schema.tables import (
    ACCOUNT_KEYS,
    CALL_TABLES,
    CALLS,
    CHAT_TABLES,
    CHATS,
    COVERAGE,
    SYNCS,
    Table,
)


def rows_after(table: Table, *, is_first: bool) -> str:
    """Select rows ordered by the key, after a given key unless `is_first`; the key's columns come
    first."""
    key = ", ".join(table.key)
    rest = "".join(f", {name}" for name in table.names if name not in table.key)
    where = "" if is_first else f"WHERE ({key}) > ({', '.join('?' for _ in table.key)}) "
    return f"SELECT {key}{rest} FROM {table.name} {where}ORDER BY {key}"


def upsert(table: Table, rows: int = 1) -> str:
    """Insert rows, or update every column of those with their keys."""
    rest = [name for name in table.names if name not in table.key]
    update = f"UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in rest)}" if rest else "NOTHING"
    row = f"({', '.join('?' * len(table.names))})"
    return (
        f"INSERT INTO {table.name} ({', '.join(table.names)}) VALUES {', '.join([row] * rows)} "
        f"ON CONFLICT ({', '.join(table.key)}) DO {update}"
    )


UPDATE_CALL = "UPDATE calls SET {} WHERE call_id = ?"


def delete(table: Table) -> str:
    """Delete the row with a key."""
    return f"DELETE FROM {table.name} WHERE {' AND '.join(f'{c} = ?' for c in table.key)}"


def delete_between(table: Table) -> str:
    """Delete the rows between two keys, inclusive."""
    key, marks = ", ".join(table.key), ", ".join("?" * len(table.key))
    return f"DELETE FROM {table.name} WHERE ({key}) >= ({marks}) AND ({key}) <= ({marks})"


def select(table: Table) -> str:
    """All rows of one call or chat."""
    return f"SELECT {', '.join(table.names)} FROM {table.name} WHERE {table.key[0]} = ?"


def count_rows(table: Table) -> str:
    """Count its rows."""
    return f"SELECT count(*) FROM {table.name}"


def delete_all(table: Table) -> str:
    """Delete all rows of one call or chat."""
    return f"DELETE FROM {table.name} WHERE {table.key[0]} = ?"


ENTITY_TABLES = {table.name: table for table in (*CALL_TABLES, *CHAT_TABLES)}
UPSERT = {name: upsert(table) for name, table in ENTITY_TABLES.items()}
DELETE = {name: delete(table) for name, table in ENTITY_TABLES.items()}
DELETE_ALL = {name: delete_all(table) for name, table in ENTITY_TABLES.items()}
SELECT = {name: select(table) for name, table in ENTITY_TABLES.items()}
# Table -> index of the discriminator in a row, for tables that several fields of a call share.
DISCRIMINATOR_INDEX = {
    name: ENTITY_TABLES[name].names.index(column) for name, column in DISCRIMINATORS.items()
}

HAS_MIGRATIONS_TABLE = "SELECT 1 FROM sqlite_master WHERE name = '_sqlite_migrations'"
HAS_OUR_MIGRATIONS = "SELECT 1 FROM _sqlite_migrations WHERE migration_set = ? LIMIT 1"
LACKS_ALL_BODIES = (
    "SELECT EXISTS (SELECT 1 FROM observations) AND NOT EXISTS (SELECT 1 FROM observations "
    "WHERE body IS NOT NULL OR entity_id IN (SELECT entity_id FROM erasures))"
)

SCOPES = "SELECT scope FROM erasures WHERE entity_id = ?"

KNOWN = (
    "SELECT level, observed_at, source, body_sha256, entity_type, first_received_at, "
    "problem, body IS NOT NULL, key_id, "
    "(SELECT account FROM account_keys k WHERE k.key_id = observations.key_id) "
    "FROM observations WHERE entity_id = ?"
)
# The limit is no parameter: SQLite would compile the statement again for each value bound to it.
SOME_KNOWN = f"{KNOWN} ORDER BY body_sha256, source LIMIT {{}}"
ONE_KNOWN = f"{KNOWN} AND body_sha256 = ? AND source = ?"
HIGHEST_BODIES = (
    f"{KNOWN} AND body IS NOT NULL "
    f"AND entity_type = ? AND (problem IS NULL OR substr(problem, 1, {len(CUT)}) = '{CUT}') "
    "ORDER BY level DESC, observed_at DESC, source DESC, body_sha256 DESC LIMIT ?"
)
# The same for a call that is not analysed, with the index observations_open.
HIGHEST_OPEN_BODIES = HIGHEST_BODIES.replace("ORDER BY", "AND level < 3 ORDER BY")
BODY = "SELECT body FROM observations WHERE entity_id = ? AND body_sha256 = ? AND source = ?"
DROP_BODY = (
    "UPDATE observations SET body = NULL WHERE entity_id = ? AND body_sha256 = ? AND source = ?"
)
ERASE_OBSERVATIONS = (
    "UPDATE observations SET event = NULL, level = NULL, key_id = NULL, body_bytes = NULL, "
    "problem = NULL, body = NULL WHERE entity_id = ?"
)
DROP_BODIES_OF = "UPDATE observations SET body = NULL WHERE entity_id = ? AND body IS NOT NULL"
SET_PROBLEM = (
    "UPDATE observations SET problem = ? WHERE entity_id = ? AND body_sha256 = ? AND source = ?"
)
INSERT_OBSERVATION = (
    "INSERT INTO observations (entity_id, body_sha256, source, entity_type, observed_at, "
    "first_received_at, last_received_at, times_received, event, level, key_id, body_bytes, "
    "problem, body) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)"
)
# Minimum and maximum, so that two processes may commit deliveries in any order. For a webhook the
# smallest time counts, for an API fetch the largest.
REPEAT_OBSERVATION = (
    "UPDATE observations SET times_received = times_received + 1, "
    "observed_at = CASE WHEN (source = 'api') = (observed_at < :observed_at) "
    "THEN :observed_at ELSE observed_at END, "
    "first_received_at = CASE WHEN first_received_at < :received_at "
    "THEN first_received_at ELSE :received_at END, "
    "last_received_at = CASE WHEN last_received_at > :received_at "
    "THEN last_received_at ELSE :received_at END, "
    # The smaller of two keys; a key instead of null.
    "key_id = CASE WHEN key_id < :key_id THEN key_id ELSE coalesce(:key_id, key_id) END "
    "WHERE entity_id = :entity_id AND body_sha256 = :body_sha256 AND source = :source"
)

SEED_REASON = (
    "INSERT INTO disconnection_reasons (reason, category, description) VALUES (?, ?, ?) "
    "ON CONFLICT (reason) DO UPDATE SET category = excluded.category, "
    "description = excluded.description "
    "WHERE coalesce(disconnection_reasons.category, '') <> excluded.category "
    "OR coalesce(disconnection_reasons.description, '') <> excluded.description"
)
HAS_REASON = "SELECT 1 FROM disconnection_reasons WHERE reason = ?"
ADD_REASON = (
    "INSERT INTO disconnection_reasons (reason, category, description) VALUES (?, ?, ?) "
    "ON CONFLICT (reason) DO NOTHING"
)
# A separate statement, because an engine may store the two tables on different nodes.
CALL_WITH_REASON = "SELECT 1 FROM calls WHERE disconnection_reason = ? LIMIT 1"
REASONS = "SELECT reason FROM disconnection_reasons"
USED_REASONS = (
    "SELECT DISTINCT disconnection_reason FROM calls WHERE disconnection_reason IS NOT NULL"
)
DROP_REASON = "DELETE FROM disconnection_reasons WHERE reason = ?"

QUARANTINED = "SELECT count(*) FROM observations WHERE problem IS NOT NULL"

UNFOUNDED = {
    table: f"SELECT {key} FROM {table} c "
    f"WHERE NOT EXISTS (SELECT 1 FROM observations o WHERE o.entity_id = c.{key})"
    for table, key in (("calls", "call_id"), ("chats", "chat_id"))
}
# The full-text indexes, and the statements that rebuild them.
SEARCH_INDEXES = ("transcripts_fts", "summaries_fts", "characters_fts")
MERGE = {name: f"INSERT INTO {name} ({name}, rank) VALUES ('merge', ?)" for name in SEARCH_INDEXES}
REINDEX = (
    "INSERT INTO transcripts_fts (transcripts_fts) VALUES ('rebuild')",
    *(f"INSERT INTO {name} ({name}) VALUES ('delete-all')" for name in SEARCH_INDEXES[1:]),
    # The same as in the migration that creates them.
    *re.findall(
        r"^INSERT INTO \w+_fts \(rowid, text\)\n.*?(?=;$)",
        read("migrations/0008_review_compatible.sql"),
        re.MULTILINE | re.DOTALL,
    ),
)

STATE_OF_CALL = (
    "SELECT c.call_status, c.level, c.disconnection_reason, c.duration_ms, c.combined_cost_cents, "
    "c.cost_is_final, a.call_summary FROM calls c LEFT JOIN analyses a USING (call_id) "
    "WHERE c.call_id = ?"
)

VIEWS = "SELECT name, sql FROM sqlite_master WHERE type = 'view'"
ENTITIES_AFTER = (
    "SELECT DISTINCT entity_id FROM observations WHERE entity_id > ? ORDER BY entity_id LIMIT ?"
)
COUNT_ENTITIES = "SELECT count(DISTINCT entity_id) FROM observations"

DRIFT = "SELECT * FROM drift ORDER BY entities DESC, place, what, name"

# -- the stored status of calls that Retell lists --------------------------------------------------


# For calls and chats: the table, and expressions for whether a row `c` has a transcript, an
# analysis and its final cost.
_PARTS = {
    "call": (
        CALLS,
        "(EXISTS (SELECT 1 FROM transcripts t WHERE t.call_id = c.call_id) "
        "OR EXISTS (SELECT 1 FROM utterances t WHERE t.call_id = c.call_id))",
        "EXISTS (SELECT 1 FROM analyses a WHERE a.call_id = c.call_id)",
        "coalesce(c.cost_is_final, 0) = 1",
    ),
    "chat": (
        CHATS,
        "(c.transcript IS NOT NULL "
        "OR EXISTS (SELECT 1 FROM chat_messages t WHERE t.chat_id = c.chat_id))",
        "(c.chat_summary IS NOT NULL OR c.user_sentiment IS NOT NULL "
        "OR c.chat_successful IS NOT NULL OR c.custom_analysis_data IS NOT NULL)",
        "c.combined_cost_cents IS NOT NULL",
    ),
}


def _by_id(expression: str) -> str:
    """The same query for one id, so that a distributed engine reads one partition."""
    return expression.replace("c.call_id", "k.id").replace("c.chat_id", "k.id")


STORED = {
    entity_type: f"SELECT u.asked_at, u.gone_at IS NOT NULL, "
    "EXISTS (SELECT 1 FROM erasures e WHERE e.entity_id = k.id AND e.scope <> 'recordings'), "
    f"c.{table.key[0]} IS NOT NULL, {_by_id(has_transcript)}, {_by_id(is_analysed)}, "
    f"{', '.join(f'c.{name}' for name in table.names)} "
    f"FROM (SELECT ? AS id) k LEFT JOIN {table.name} c ON c.{table.key[0]} = k.id "
    "LEFT JOIN upstream_calls u ON u.call_id = k.id"
    for entity_type, (table, has_transcript, is_analysed, _) in _PARTS.items()
}
PUT_ACCOUNT_KEY = upsert(ACCOUNT_KEYS)
ACCOUNT_OF_KEY = "SELECT account FROM account_keys WHERE key_id = ?"
ACCOUNT_KEYS_STORED = "SELECT key_id, account FROM account_keys"
_KEYS_OF_ACCOUNT = "(SELECT key_id FROM account_keys WHERE account = {})"
# Excludes calls of other accounts: with this account's key, Retell would answer that they do not
# exist.
_IS_OURS = {
    entity_type: f"EXISTS (SELECT 1 FROM observations o WHERE o.entity_id = c.{table.key[0]} "
    f"AND o.key_id IN {_KEYS_OF_ACCOUNT.format(':account')})"
    for entity_type, (table, *_) in _PARTS.items()
}
_IS_OURS_OR_NOBODYS = {
    entity_type: f"({_IS_OURS[entity_type]} OR NOT EXISTS (SELECT 1 FROM observations o "
    f"WHERE o.entity_id = c.{table.key[0]} AND o.key_id IS NOT NULL))"
    for entity_type, (table, *_) in _PARTS.items()
}
_IS_ANOTHERS = f"key_id NOT IN {_KEYS_OF_ACCOUNT.format('?')}"
HAS_OTHER_ACCOUNT = f"SELECT EXISTS (SELECT 1 FROM observations WHERE {_IS_ANOTHERS})"
HAS_OTHER_SYNC = f"SELECT EXISTS (SELECT 1 FROM syncs WHERE key_id <> '' AND {_IS_ANOTHERS})"
HAS_AGENT = (
    "SELECT EXISTS (SELECT 1 FROM calls WHERE agent_id = ?) "
    "OR EXISTS (SELECT 1 FROM chats WHERE agent_id = ?)"
)
# Uses the index calls_at. A call without a time belongs to a span without a beginning.
_IN_SPAN = plain(
    "(call_time(c) BETWEEN :low AND :high OR (call_time(c) IS NULL AND :low <= 0)) "
    "AND (CAST(:agent AS TEXT) IS NULL OR c.agent_id = :agent)"
)
UNFINISHED = {
    entity_type: plain(
        f"SELECT c.{table.key[0]}, {_IS_OURS[entity_type]} FROM {table.name} c WHERE {_IN_SPAN} "
        f"AND (NOT is_over(c) OR NOT {has_final_cost} OR NOT {is_analysed} "
        f"OR NOT {has_transcript}) AND {_IS_OURS_OR_NOBODYS[entity_type]} ORDER BY 1"
    )
    for entity_type, (table, has_transcript, is_analysed, has_final_cost) in _PARTS.items()
}
STARTED = {
    entity_type: f"SELECT c.{table.key[0]}, {_IS_OURS[entity_type]} FROM {table.name} c "
    f"WHERE {_IN_SPAN} AND c.start_timestamp IS NOT NULL "
    f"AND {_IS_OURS_OR_NOBODYS[entity_type]} ORDER BY 1"
    for entity_type, (table, *_) in _PARTS.items()
}
GONE = " UNION ALL ".join(
    plain(
        "SELECT c.agent_id, c.agent_name, call_time(c) "
        f"FROM upstream_calls u JOIN {table.name} c ON c.{table.key[0]} = u.call_id "
        "WHERE u.gone_at IS NOT NULL AND (CAST(:agent AS TEXT) IS NULL OR c.agent_id = :agent) "
        f"AND {_IS_OURS_OR_NOBODYS[entity_type]}"
    )
    for entity_type, (table, *_) in _PARTS.items()
)
NOTE_ASKED = (
    "INSERT INTO upstream_calls (call_id, asked_at, account) VALUES (?, ?, ?) "
    "ON CONFLICT (call_id) DO UPDATE SET gone_at = NULL, account = excluded.account, "
    "asked_at = CASE "
    "WHEN upstream_calls.asked_at > excluded.asked_at THEN upstream_calls.asked_at "
    "ELSE excluded.asked_at END"
)
NOTE_GONE = (
    "INSERT INTO upstream_calls (call_id, gone_at, account) VALUES (?, ?, ?) "
    "ON CONFLICT (call_id) DO UPDATE SET gone_at = excluded.gone_at, account = excluded.account"
)
PUT_SYNC = upsert(SYNCS)
SYNCS_OF = (
    f"SELECT {', '.join(SYNCS.names)} FROM syncs WHERE agent_id = ? "
    f"AND key_id IN {_KEYS_OF_ACCOUNT.format('?')}"
)
# Syncs of older versions, which stored no key.
SYNCS_OF_NOBODY = f"SELECT {', '.join(SYNCS.names)} FROM syncs WHERE agent_id = ? AND key_id = ''"
DROP_COVERAGE = (
    "DELETE FROM coverage WHERE (CAST(? AS TEXT) IS NULL OR day >= ?) "
    "AND (CAST(? AS TEXT) IS NULL OR day <= ?) AND (CAST(? AS TEXT) IS NULL OR agent_id = ?) "
    f"AND (key_id IN {_KEYS_OF_ACCOUNT.format('?')} OR (key_id IS NULL AND ?))"
)
PUT_COVERAGE = upsert(COVERAGE)

# -- exports ---------------------------------------------------------------------------------------

READABLE = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
VIRTUAL = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%'"
DROP_BODIES = "UPDATE observations SET body = NULL"


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


# Not ordered: a view would have to be sorted.
NEWEST_FIRST = {"call_log": "SELECT * FROM call_log ORDER BY started_at_ms DESC, call_id"}


def select_from(name: str) -> str:
    """Select all rows of a table or view."""
    return f"SELECT * FROM {quoted(name)}"


def nested(query: str) -> str:
    """Wrap a query in a SELECT. Columns with equal names become different ones, and only a SELECT
    is valid here."""
    return f"SELECT * FROM (\n{query.rstrip().rstrip(';')}\n)"


def first_row(query: str) -> str:
    """Select the first row of a query."""
    return f"{nested(query)} AS found LIMIT 1"


# An increment is selected by the first of these columns that a result has. All rows of a call are
# replaced together, so rows with its id changed with it.
SINCE = {
    "updated_at": "updated_at >= :since",
    "call_id": "call_id IN (SELECT call_id FROM calls WHERE updated_at >= :since)",
    "chat_id": "chat_id IN (SELECT chat_id FROM chats WHERE updated_at >= :since)",
    "last_received_at": "last_received_at >= :since",
    "erased_at": "erased_at >= :since",
    "day": "day >= :day",
}


def types_in(query: str, names: list[str]) -> str:
    """Select one row: the types of the values in each column of a query, comma-separated."""
    types = ", ".join(f"group_concat(DISTINCT typeof({quoted(name)}))" for name in names)
    return f"SELECT {types} FROM ({query})"


def create(name: str, types: dict[str, str]) -> str:
    """Create a table for a result."""
    columns = ", ".join(f"{quoted(column)} {of}" for column, of in types.items())
    return f"CREATE TABLE {quoted(name)} ({columns})"


def insert(name: str, width: int) -> str:
    """Insert a row of `width` values."""
    return f"INSERT INTO {quoted(name)} VALUES ({', '.join('?' * width)})"


# The history of a caller for inbound rules: calls from this number to the account. The tag
# `complaint` marks an open complaint. Always one row, also for a new caller.
CALLER_HISTORY = """
WITH earlier AS (
    SELECT call_id, agent_id, agent_name, start_timestamp, disconnection_reason
    FROM calls
    -- The index on a server has no longer ones.
    WHERE from_number = :from_number AND length(from_number) <= 32
        AND (account = :account OR account IS NULL)
), newest AS (
    SELECT * FROM earlier ORDER BY COALESCE(start_timestamp, 0) DESC, call_id LIMIT 1
)
SELECT
    (SELECT count(*) FROM earlier) AS calls,
    CASE WHEN EXISTS (SELECT 1 FROM earlier) THEN 1 ELSE 0 END AS is_known,
    (SELECT call_id FROM newest) AS last_call_id,
    (SELECT agent_id FROM newest) AS last_agent_id,
    (SELECT agent_name FROM newest) AS last_agent_name,
    (SELECT disconnection_reason FROM newest) AS last_outcome,
    (SELECT call_successful FROM analyses WHERE call_id = (SELECT call_id FROM newest))
        AS last_successful,
    (SELECT user_sentiment FROM analyses WHERE call_id = (SELECT call_id FROM newest))
        AS last_sentiment,
    (SELECT call_summary FROM analyses WHERE call_id = (SELECT call_id FROM newest))
        AS last_summary,
    (SELECT value FROM attributes JOIN earlier USING (call_id)
     WHERE name IN ('customer_name', 'caller_name', 'name') AND value <> ''
     ORDER BY COALESCE(start_timestamp, 0) DESC, call_id, source, name LIMIT 1) AS name,
    CASE WHEN EXISTS (
        SELECT 1 FROM annotations JOIN earlier ON entity_id = call_id
        WHERE kind = 'tag' AND name = 'complaint' AND removed_at IS NULL
    ) THEN 1 ELSE 0 END AS open_complaint
"""
