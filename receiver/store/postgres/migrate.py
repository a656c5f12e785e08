"""Bringing a PostgreSQL database to this version's schema, once, however many processes start."""

from datetime import UTC, datetime

import psycopg

from receiver.addresses import PostgresUrl
from receiver.errors import ForeignDatabase, SchemaMismatch
from receiver.store import sql
from receiver.store.migrate import scripts
from receiver.store.postgres import turns
from receiver.store.postgres.connection import Session, connect
from receiver.store.postgres.dialect import apart, tables
from receiver.store.postgres.places import DISTRIBUTED, is_distributed
from receiver.store.postgres.views import refresh
from schema.disconnection_reasons import REASONS
from schema.tables import TABLES

# How long a start waits for another one that migrates.
LOCK_SECONDS = 30.0
# Beside the schema's tables: which migrations have been made, and a row for each call, chat or
# other entity that its transactions wait at. Keys as everywhere: nothing serial.
_OURS = (
    'CREATE TABLE IF NOT EXISTS callhouse_migrations (name TEXT COLLATE "C" PRIMARY KEY, '
    "applied_at TEXT NOT NULL)",
    'CREATE TABLE IF NOT EXISTS entity_locks (entity_id TEXT COLLATE "C" PRIMARY KEY)',
)
# What a mirror asks every few seconds. A file is asked by nobody, so it does not pay for them.
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS observations_last_received_at ON observations (last_received_at)",
    "CREATE INDEX IF NOT EXISTS upstream_calls_asked_at ON upstream_calls (asked_at)",
)
_HAS_MIGRATIONS = "SELECT 1 WHERE to_regclass('callhouse_migrations') IS NOT NULL"
_RELATIONS = (
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
    "AND relkind IN ('r', 'v', 'm', 'p', 'f')"
)
_APPLIED = "SELECT name FROM callhouse_migrations"
_NOTE = "INSERT INTO callhouse_migrations (name, applied_at) VALUES (?, ?)"


def migrate(where: PostgresUrl, timezone: str) -> list[str]:
    """Create or update the tables and views; return the migrations applied.

    Raises psycopg.Error, SchemaMismatch for a database of a newer version, and ForeignDatabase if
    another program's tables have the names of ours.
    """
    session = connect(where, lock_seconds=LOCK_SECONDS)
    try:
        with session.transaction():
            session.execute(turns.CHANGE_TABLES)
            _refuse_others(session)
            for statement in _OURS:
                session.raw.execute(statement)
            new = _migrate(session)
            for statement in _INDEXES:
                session.raw.execute(statement)
            refresh(session, timezone)
            return new
    finally:
        session.close()


def _refuse_others(session: Session) -> None:
    if session.execute(_HAS_MIGRATIONS).fetchone():
        return
    names = {table.name for table in TABLES}
    taken = sorted(name for (name,) in session.execute(_RELATIONS) if name in names)
    if taken:
        raise ForeignDatabase(
            f"the database has tables of another program: {', '.join(taken)}",
            hint="Create a database for callhouse alone, as docs/postgres.md says.",
        )


def _migrate(session: Session) -> list[str]:
    before, ours = applied(session), scripts()
    if unknown := before - set(ours):
        raise SchemaMismatch(
            f"the database has migrations this version does not know: {sorted(unknown)}",
            hint="Install the newer callhouse that made them.",
        )
    new = [name for name in ours if name not in before]
    # A cluster takes no key from a new table to one that it holds: `distribute` adds it.
    held = DISTRIBUTED if is_distributed(session) else {}
    for name in new:
        for statement in tables(ours[name]):
            # Without parameters: nothing in it is a placeholder.
            session.raw.execute(apart(statement, held)[0], prepare=False)
        session.execute(_NOTE, (name, datetime.now(UTC).isoformat()))
    session.executemany(sql.SEED_REASON, [(r, *meaning) for r, meaning in REASONS.items()])
    return new


def applied(session: Session) -> set[str]:
    """Names of the migrations in the database. Raises SchemaMismatch if it has none at all."""
    try:
        return {name for (name,) in session.execute(_APPLIED)}
    except psycopg.errors.UndefinedTable:
        raise SchemaMismatch("the database does not have this version's schema") from None


def check(session: Session) -> None:
    """Raise SchemaMismatch unless the database has exactly this version's migrations."""
    if applied(session) != set(scripts()):
        raise SchemaMismatch("the database does not have this version's schema")
