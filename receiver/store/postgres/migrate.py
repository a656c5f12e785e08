"""Bringing a PostgreSQL database to this version's schema, once, however many processes start."""

from collections.abc import Iterable
from datetime import UTC, datetime

import psycopg

from receiver.addresses import PostgresUrl
from receiver.errors import ForeignDatabase, SchemaMismatch
from receiver.store import sql
from receiver.store.migrate import newer, require, scripts
from receiver.store.postgres import advisory_locks
from receiver.store.postgres.citus_layout import DISTRIBUTED, is_distributed
from receiver.store.postgres.connection import Session, connect
from receiver.store.postgres.dialect import apart, tables
from receiver.store.postgres.views import refresh
from schema.disconnection_reasons import REASONS
from schema.sql.views import views
from schema.tables import ROLLUP_TABLES, TABLES

# How long a start waits for another one that migrates.
LOCK_SECONDS = 30.0
_APPLIED = "SELECT name FROM callhouse_migrations"
_IS_THERE = "SELECT to_regclass(?) IS NOT NULL"
_NOTE = "INSERT INTO callhouse_migrations (name, applied_at) VALUES (?, ?)"
_REASONS = "SELECT reason, category, description FROM disconnection_reasons"
# Beside the schema's tables: which migrations have been made, and a row for each call, chat or
# other entity that its transactions wait at. Keys as everywhere: nothing serial.
_OURS = {
    "callhouse_migrations": 'CREATE TABLE callhouse_migrations (name TEXT COLLATE "C" PRIMARY KEY, '
    "applied_at TEXT NOT NULL)",
    "entity_locks": 'CREATE TABLE entity_locks (entity_id TEXT COLLATE "C" PRIMARY KEY)',
}
# What a mirror asks every few seconds. A file is asked by nobody, so it does not pay for them.
_INDEXES = {
    "observations_last_received_at": "CREATE INDEX observations_last_received_at "
    "ON observations (last_received_at)",
    "upstream_calls_asked_at": "CREATE INDEX upstream_calls_asked_at ON upstream_calls (asked_at)",
}
_RELATIONS = (
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
    "AND relkind IN ('r', 'v', 'm', 'p', 'f')"
)
# Pages of Datasette find calls in a file by these, and nothing that asks a server uses them. Every
# event of a call would have to write to each: they refer to times that each event changes.
_OF_PAGES = (
    "calls_start_timestamp",
    "calls_agent",
    "calls_agent_name",
    "calls_from_number",
    "calls_direction",
    "calls_customer",
)


def migrate(where: PostgresUrl, timezone: str) -> list[str]:
    """Create or update the tables and views; return the migrations applied.

    Only what is lacking is made, so that a role without the right to change tables can start where
    nothing is. Raises psycopg.Error, SchemaMismatch for a database of a newer version, and
    ForeignDatabase if another program's tables have the names of ours.
    """
    session = connect(where, lock_seconds=LOCK_SECONDS)
    try:
        with session.transaction():
            session.execute(advisory_locks.CHANGE_TABLES)
            _refuse_others(session)
            _make(session, _OURS)
            before = applied(session)
            if newer(before):
                # Reasons and views are the newer version's.
                require(before)
                return []
            new = _migrate(session, before)
            _make(session, _INDEXES)
            _drop(session, _OF_PAGES)
            _seed_reasons(session)
            refresh(session, timezone)
            return new
    finally:
        session.close()


def _refuse_others(session: Session) -> None:
    if session.execute(_IS_THERE, ("callhouse_migrations",)).fetchone() == (True,):
        return
    # Views too: `refresh` drops what has their names.
    names = {table.name for table in (*TABLES, *ROLLUP_TABLES)} | {*views(), "entity_locks"}
    taken = sorted(name for (name,) in session.execute(_RELATIONS) if name in names)
    if taken:
        raise ForeignDatabase(
            f"the database has tables or views of another program: {', '.join(taken)}",
            hint="Create a database for callhouse alone, as docs/how-to/postgres.md says.",
        )


def _make(session: Session, statements: dict[str, str]) -> None:
    """Create the tables or indexes with these names that are not there."""
    for name, statement in statements.items():
        if session.execute(_IS_THERE, (name,)).fetchone() == (False,):
            session.raw.execute(statement)


def _drop(session: Session, indexes: Iterable[str]) -> None:
    for name in indexes:
        if session.execute(_IS_THERE, (name,)).fetchone() == (True,):
            session.raw.execute(f"DROP INDEX {name}")


def _migrate(session: Session, before: set[str]) -> list[str]:
    ours = scripts()
    new = [name for name in ours if name not in before]
    # A cluster takes no key from a new table to one that it holds: `distribute` adds it.
    held = DISTRIBUTED if new and is_distributed(session) else {}
    for name in new:
        for statement in tables(ours[name]):
            # Without parameters: nothing in it is a placeholder.
            session.raw.execute(apart(statement, held)[0], prepare=False)
        session.execute(_NOTE, (name, datetime.now(UTC).isoformat()))
    return new


def _seed_reasons(session: Session) -> None:
    """Write what is not there as it should be: a cluster writes each of them to every node."""
    wanted = [(reason, *meaning) for reason, meaning in REASONS.items()]
    stored = set(session.execute(_REASONS).fetchall())
    session.executemany(sql.SEED_REASON, [row for row in wanted if row not in stored])


def applied(session: Session) -> set[str]:
    """Names of the migrations in the database. Raises SchemaMismatch if it has none at all."""
    try:
        return {name for (name,) in session.execute(_APPLIED)}
    except psycopg.errors.UndefinedTable:
        raise SchemaMismatch("the database does not have this version's schema") from None


def check(session: Session) -> None:
    """Raise SchemaMismatch unless this version can work with the database."""
    require(applied(session))
